"""Build the book: python -m book.build

Executes the chapters that changed (book/execute.py), writes the pages that are made from results files
(book/pages.py), runs Sphinx, which executes nothing and lets no warning pass, and looks at what came out.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from urllib.parse import unquote

import yaml
from papermill.exceptions import PapermillExecutionError

from book import diagram, drawings, execute, kernels, pages, pictures
from book.execute import NOTEBOOKS, ROOT

BOOK = ROOT / "book"
SITE = ROOT / "_build" / "html"
PAGE_LIMIT = 8e6  # bytes of one HTML page: a phone must open it
MAX_CHAPTERS = 4  # at a time; each takes about 1.5 GB of memory


def documents(toc: Path = BOOK / "_toc.yml") -> list[str]:
    """All pages that the table of contents lists, globs expanded, as paths below book/ without suffix."""
    found: list[str] = []

    def visit(node: object) -> None:
        if isinstance(node, list):
            for item in node:
                visit(item)
        elif isinstance(node, dict):
            found.extend(str(node[k]) for k in ("root", "file") if k in node)
            if "glob" in node:
                paths = sorted(toc.parent.glob(node["glob"]))
                found.extend(str(p.relative_to(toc.parent).with_suffix("")) for p in paths)
            for key in ("parts", "chapters", "sections", "entries", "subtrees"):
                visit(node.get(key))

    visit(yaml.safe_load(toc.read_text()))
    return found


def chapters() -> list[str]:
    """The chapters of the table of contents. Each must be a notebook, and each notebook a chapter."""
    listed = [d.removeprefix("chapters/") for d in documents() if d.startswith("chapters/")]
    sources = {p.stem for p in NOTEBOOKS.glob("*.py")}
    problems = [
        f"book/_toc.yml lists chapters/{n}, but there is no notebooks/{n}.py" for n in listed if n not in sources
    ]
    problems += [f"notebooks/{n}.py is not in book/_toc.yml" for n in sorted(sources - set(listed))]
    if problems:
        raise SystemExit("\n".join(problems))
    return listed


def run_chapters(names: list[str]) -> None:
    """Executed notebooks into book/chapters. Prints failing cells with their tracebacks, then stops.

    Several chapters run at a time, one thread each: two threads of one chapter would be slower than two chapters. The
    first chapters of all methods start first, since their second ones take trained stages from them: two that want the same
    stage at a time wait for each other. The others follow, the introduction last: its short chapters fill what time is left.
    """
    out = BOOK / "chapters"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    os.environ["OMP_NUM_THREADS"] = "1"
    methods, others = ([n for n in names if ("1" <= n < "5") == wanted] for wanted in (True, False))
    failed, order = [], sorted(methods, key=lambda name: name[1]) + others[::-1]
    workers = min(os.cpu_count() or 1, MAX_CHAPTERS)
    with ProcessPoolExecutor(max_workers=workers, initializer=kernels.fork_kernels) as pool:
        for name, (notebook, words) in zip(order, pool.map(run_chapter, order), strict=True):
            print(f"{name}: {words}", flush=True)
            if notebook is None:
                failed.append(name)
            else:
                shutil.copy(notebook, out / f"{name}.ipynb")
    if failed:
        raise SystemExit(f"{len(failed)} of {len(names)} chapters failed: {', '.join(failed)}; see build/running")


def run_chapter(name: str) -> tuple[Path | None, str]:
    """The executed notebook of one chapter, None if a cell failed, and what to say of it."""
    started = time.perf_counter()
    try:
        notebook, ran = execute.cached(name, {})
    except (PapermillExecutionError, TimeoutError, RuntimeError) as error:
        return None, f"FAILED\n{error}"
    return notebook, f"{time.perf_counter() - started:.0f} s" if ran else "unchanged"


def run_sphinx(*options: str) -> None:
    """HTML into _build/html, or what `options` say."""
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    always = ["--config", "_config.yml", "--path-output", ".", "-W", "-n", "--keep-going"]
    done = subprocess.run([jupyter_book, "build", "book", *always, *options], cwd=ROOT)
    if done.returncode:
        raise SystemExit("Sphinx found problems, see above")


def check_site(site: Path, expected: list[str]) -> list[str]:
    """What is wrong with the built pages, one line each; an empty list is a good book."""
    problems = [f"{doc}.html was not built" for doc in expected if not (site / f"{doc}.html").exists()]
    for page in sorted(p for p in site.rglob("*.html") if "_static" not in p.parts):
        name, text = page.relative_to(site), page.read_text(encoding="utf-8")
        if "Traceback (most recent call last)" in text:
            problems.append(f"{name} shows a traceback")
        if str(ROOT) in text:
            problems.append(f"{name} shows a path of this computer")
        if len(text) > PAGE_LIMIT:
            problems.append(f"{name} has {len(text) / 1e6:.1f} MB; the limit is {PAGE_LIMIT / 1e6:.0f} MB")
        for link in set(re.findall(r'(?:href|src)="([^"#?]+)', text)):
            local = not re.match(r"[a-z]+:|//|javascript", link)
            if local and not (page.parent / unquote(link)).resolve().exists():
                problems.append(f"{name} links to {link}, which does not exist")
        marks = set(re.findall(r'href="#([^"]+)"', text)) - set(re.findall(r'id="([^"]+)"', text))
        problems += [f"{name} links to #{mark}, which is not on it" for mark in sorted(marks)]
        for published in set(re.findall(r'(?:/blob/gh-pages|urlpath=lab/tree)/([^"]+)"', text)):
            if not (site / published).exists():
                problems.append(f"{name} launches {published}, which is not among the pages")
    return problems


def main() -> None:
    """Execute, generate, build, check; exits 1 with what is wrong."""
    started = time.perf_counter()
    names = chapters()
    pages.write(BOOK / "results", BOOK / "generated")
    diagram.write(BOOK / "generated")
    drawings.write(BOOK / "generated")
    run_chapters(names)
    pages.write_run_times(BOOK / "chapters", BOOK / "generated")
    pictures.write(BOOK / "chapters", BOOK / "generated")
    shutil.rmtree(ROOT / "_build", ignore_errors=True)  # a build of changed pages would not repeat older warnings
    run_sphinx()
    problems = check_site(SITE, documents())
    if problems:
        raise SystemExit("\n".join(problems))
    size = sum(p.stat().st_size for p in SITE.rglob("*") if p.is_file()) / 1e6
    minutes = (time.perf_counter() - started) / 60
    print(f"The book: {SITE / 'index.html'} ({len(names)} chapters, {size:.0f} MB, {minutes:.1f} minutes)")


if __name__ == "__main__":
    main()
