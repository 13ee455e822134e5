"""What book/ does with notebooks, results files and the built pages."""

import base64
import io
import json
import re
import shutil

import nbformat
import pytest
from docutils.nodes import make_id
from jupyter_client.provisioning import KernelProvisionerFactory
from PIL import Image
from pybtex.database import parse_string
from sphinx.cmd.build import build_main

from book import build, execute, kernels, pages, pdf, pictures
from wsis.core.errors import ConfigError, DataError
from wsis.experiments import find
from wsis.methods import METHODS, method

RESULT = {
    "table": "bestie.table1",
    "scale": "tiny",
    "data": "world",
    "rows": [
        {
            "name": "PAM <1>",
            "published": {"mAP50": 29.3},
            "ours": {"mAP50": {"mean": 12.34, "std": 0.5, "values": [12, 12.68]}},
            "n": 2,
        },
        {"name": "IAG", "published": {"mAP50": 39.2}, "ours": {}, "n": 0},
    ],
    "claims": find("bestie.table1")[0].judged({}, "tiny")[:1],
    "provenance": {
        "seeds": [0, 1],
        "commit": "abc",
        "hardware": "a CPU",
        "minutes": 3.0,
        "versions": {"torch": "2.15.0"},
    },
}


def store(folder, result, name="bestie.table1.tiny.world.json"):
    path = folder / name
    path.write_text(json.dumps(result))
    return path


def test_results_page_shows_both_columns_and_marks_the_tiny_one(tmp_path):
    store(tmp_path, RESULT)
    pages.write(tmp_path, tmp_path / "out")
    text = (tmp_path / "out" / "results.md").read_text()
    assert '<td class="published">29.3</td><td class="tiny">12.3 <small>± 0.5</small></td>' in text
    assert '<td class="published">39.2</td><td class="tiny"></td>' in text, "what was not run is blank"
    assert "not comparable" in text and "PAM &lt;1&gt;" in text and "torch 2.15.0" in text


def test_results_page_without_results_has_what_is_published(tmp_path):
    pages.write(tmp_path, tmp_path / "out")
    text = (tmp_path / "out" / "results.md").read_text()
    assert '<td class="published">29.3</td></tr>' in text and "--set=loss.iag=false" in text, "and what rows change"


def test_each_claim_leads_to_the_line_that_decides_it(tmp_path):
    pages.write(tmp_path, tmp_path / "out")
    page = (tmp_path / "out" / "results.md").read_text()
    links = re.findall(r'<a href="[^"]*/(wsis/[^"#]*)#L(\d+)">([^<]+)</a>', page)
    assert {"C01", "C26", "C32", "ours3.1"} <= {id for _, _, id in links}
    for file, line, id in links:
        assert id in (pages.ROOT / file).read_text().splitlines()[int(line) - 1]


def test_benchmarks_page_leaves_blank_what_was_not_timed(tmp_path):
    size = {"pixels": 416, "batch": 1, "instances": 5}
    row = {"case": "grouping", "size": size, "seconds": 0.002, "peak_bytes": 2**20}
    timed = row | {"plain_seconds": 0.01, "plain_peak_bytes": 2**21, "speedup": 5.0}
    rows = [timed, row | {"plain_seconds": None, "plain_peak_bytes": None, "speedup": None}]
    (tmp_path / "benchmarks").mkdir()
    report = {"device": "a CPU", "threads": 2, "versions": {"torch": "2.15.0"}, "rows": rows}
    store(tmp_path / "benchmarks", report, "cpu.json")
    pages.write(tmp_path, tmp_path / "out")
    text = (tmp_path / "out" / "benchmarks.md").read_text()
    start = "<td>416</td><td>1</td><td>5</td><td>2.0</td>"
    assert start + "<td>10.0</td><td>5.0</td><td>1.0</td><td>2.0</td>" in text
    assert start + "<td></td><td></td><td>1.0</td><td></td>" in text


def test_benchmarks_page_shows_the_memory_of_the_commands(tmp_path):
    (tmp_path / "benchmarks").mkdir()
    row = {"call": "weak", "Mpx": 3.0, "objects": 100, "MB": 700, "seconds": 1.5}
    rows = [row | {"call": "imports", "Mpx": 0, "MB": 650}, row, row | {"objects": 1000, "MB": 720, "seconds": 12.0}]
    report = {"device": "a CPU", "threads": 2, "versions": {"torch": "2.15.0"}, "limit": 2000, "rows": rows}
    store(tmp_path / "benchmarks", report, "memory.json")
    pages.write(tmp_path, tmp_path / "out")
    text = (tmp_path / "out" / "benchmarks.md").read_text()
    assert "at most 2000 MB are allowed, of which imports take 650." in text and "3 Mpx<br>1000 objects</th>" in text
    assert "<td>weak</td><td>700 MB, 2 s</td><td>720 MB, 12 s</td>" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": None}, "misses rows"),
        ({"scale": "full"}, "rename it to bestie.table1.full.world.json"),
        ({"claims": [RESULT["claims"][0] | {"verdict": "good"}]}, "'good' is not a verdict"),
        ({"provenance": {"commit": "abc", "hardware": "a CPU", "minutes": 3.0}}, "numbers without seeds"),
    ],
)
def test_wrong_results_file_is_refused(tmp_path, change, message):
    result = {k: v for k, v in (RESULT | change).items() if v is not None}
    with pytest.raises(DataError, match=message):
        pages.load(store(tmp_path, result))


def test_numbers_between_the_scales_need_bounds(tmp_path):
    bounds = {"scale": "small", "upper": "IAG", "trivial": {"mAP50": 3.21}}
    name, measured = "bestie.table1.small.world.json", RESULT["rows"][0]["ours"]
    for wrong in (bounds, bounds | {"upper": "PAM <1>", "trivial": {}}):
        with pytest.raises(DataError, match="no upper or no trivial bound"):
            pages.load(store(tmp_path, RESULT | wrong, name))
    rows = [RESULT["rows"][0], RESULT["rows"][1] | {"ours": measured, "n": 2}]
    store(tmp_path, RESULT | bounds | {"rows": rows}, name)
    pages.write(tmp_path, tmp_path / "out")
    text = (tmp_path / "out" / "results.md").read_text()
    assert "IAG <small>(upper bound)</small>" in text
    assert '<th scope="row">trivial bound</th><td class="published"></td><td class="small">3.2</td>' in text


def test_truncated_results_file_is_refused(tmp_path):
    path = store(tmp_path, RESULT)
    path.write_text(path.read_text()[:100])
    with pytest.raises(DataError, match="is not JSON"):
        pages.load(path)


@pytest.fixture
def chapter(tmp_path, monkeypatch):
    """A notebook of two cells in its own notebooks/ folder."""
    monkeypatch.setattr(execute, "NOTEBOOKS", tmp_path)
    source = '# %% [markdown]\n# # Title\n\n# %% tags=["parameters"]\nscale = "tiny"\nseed = 0\n'
    (tmp_path / "01_chapter.py").write_text(source + "\n# %%\nprint(scale, seed + 1)\n")
    return "01_chapter"


def test_misspelt_parameter_is_refused(chapter):
    with pytest.raises(ConfigError, match="no parameter 'sede'; it has scale, seed"):
        execute.check_parameters(chapter, execute.read(chapter), {"sede": 1})


def test_run_takes_parameters_and_leaves_a_page(chapter, tmp_path):
    notebook = execute.run(chapter, {"seed": 4}, tmp_path / "out.ipynb")
    printed = [c.outputs[0].text for c in notebook.cells if c.get("outputs")]
    assert printed == ["tiny 5\n"]
    assert "seed `4`" in notebook.cells[0].source
    pages.write_run_times(tmp_path, tmp_path)
    assert (
        f"| [](chapters/out.ipynb) | scale `tiny`, seed `4` | {notebook.metadata['run']['seconds']:.0f} | "
        in (tmp_path / "run_times.md").read_text()
    ), "the build says how long it took"
    hidden = [c for c in notebook.cells if "remove-cell" in c.metadata.get("tags", [])]
    assert [c.source.split()[0] for c in hidden] == ["import", "scale", "#"], "install, defaults, injected"
    assert str(tmp_path) not in (tmp_path / "out.ipynb").read_text(), "no path of this computer"


def test_a_forked_kernel_has_imported_what_chapters_import(chapter, tmp_path, monkeypatch):
    factory = KernelProvisionerFactory.instance()
    monkeypatch.setattr(factory, "default_provisioner_name", factory.default_provisioner_name)  # and back afterwards
    monkeypatch.setattr(kernels, "IMPORTED", ["this"])
    kernels.fork_kernels()
    with (tmp_path / f"{chapter}.py").open("a") as source:
        source.write('\n# %%\nimport os, sys\n\nprint("this" in sys.modules, os.getcwd())\n')
    notebook = execute.run(chapter, {"seed": 4}, tmp_path / "out.ipynb")
    printed = [c.outputs[0].text for c in notebook.cells if c.get("outputs")]
    assert printed == ["tiny 5\n", f"True {tmp_path}\n"]


def test_links_and_drawings_of_a_page_lead_from_its_own_folder(chapter):
    notebook = execute.read(chapter)
    notebook.cells[0].source = "# Title\n\n[a](01_a.py) [b](../book/b.md)\n\n```{image} ../book/generated/c.svg\n```"
    execute._finish(notebook, {"scale": "tiny"}, 1.0)
    found = notebook.cells[0].source
    assert "[a](01_a.ipynb) [b](../b.md)" in found and "{image} ../generated/c.svg" in found


@pytest.mark.parametrize(
    ("source", "closed"),
    [
        ("import torch\nfrom wsis import viz\n\nplt.rcParams.update(viz.RC)", True),
        ("import torch\nprint(torch)", False),
        ("plt.rcParams.update(viz.RC)", False),
    ],
)
def test_cells_that_only_import_are_closed_on_the_page(chapter, source, closed):
    path = execute.NOTEBOOKS / f"{chapter}.py"
    path.write_text(path.read_text() + f"\n# %%\n{source}\n")
    tags = [c.metadata.get("tags", []) for c in execute.read(chapter).cells]
    assert tags[-1] == ["hide-input"] * closed and tags[1] == ["parameters"]


def test_key_follows_the_source_and_the_parameters(chapter, tmp_path):
    before = execute._key(chapter, {"seed": 0}), execute._key(chapter, {"seed": 1})
    (tmp_path / f"{chapter}.py").open("a").write("\nprint(1)\n")
    assert len({*before, execute._key(chapter, {"seed": 0})}) == 3


def test_check_of_the_site_names_each_fault(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html">b</a> <a href="https://x.org">x</a> <a href="#here">y</a>')
    (tmp_path / "c.html").write_text(f"Traceback (most recent call last) in {build.ROOT}/x.py")
    (tmp_path / "e.html").write_text('<a href="https://x.org/w/blob/gh-pages/_sources/e.ipynb">Colab</a>')
    assert build.check_site(tmp_path, ["a", "d"]) == [
        "d.html was not built",
        "a.html links to b.html, which does not exist",
        "a.html links to #here, which is not on it",
        "c.html shows a traceback",
        "c.html shows a path of this computer",
        "e.html launches _sources/e.ipynb, which is not among the pages",
    ]


def test_a_page_holds_the_definitions_of_the_terms_that_it_uses(tmp_path):
    (tmp_path / "conf.py").write_text("extensions = ['book.definitions']\nhtml_theme = 'basic'")
    terms = "\n\n   ".join(
        ("mask\n      All pixels of an :term:`object`.", "object\n      A thing.", "cue\n      A point.")
    )
    (tmp_path / "glossary.rst").write_text(f"Terms\n=====\n\n.. glossary::\n\n   {terms}\n")
    (tmp_path / "index.rst").write_text(
        "Page\n====\n\nA :term:`mask`, and :term:`another <mask>`.\n\n.. toctree::\n\n   glossary\n"
    )
    assert build_main(["-q", "-W", str(tmp_path), str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "index.html").read_text()
    boxes = re.findall(r'id="definition-([^"]+)"', page)
    assert boxes == ["term-mask"], "once for each term, and none of other terms"
    definition = page[page.index("definition-term-mask") :]
    assert "All pixels of an" in definition and "<a " not in definition[: definition.index("</p>")], "no link is in it"
    assert "definition-" not in (tmp_path / "out" / "glossary.html").read_text()


@pytest.mark.skipif(not (shutil.which("chromium") or shutil.which("google-chrome")), reason="chromium is not installed")
def test_a_page_is_printed_whole(tmp_path):
    (tmp_path / "a.html").write_text('<article class="bd-article" style="height: 3000px">A</article>')
    pdf.print_page(tmp_path, "a", tmp_path / "a.pdf")
    printed = (tmp_path / "a.pdf").read_bytes()
    assert printed.startswith(b"%PDF") and printed.rstrip().endswith(b"%%EOF")
    assert len(re.findall(rb"/Type /Page\b", printed)) == 3, (
        "3000 px fill two pages of A4 at this scale and begin a third"
    )


def test_each_citation_is_the_entry_that_bibtex_reads():
    blocks = re.findall(r"```bibtex\n(.*?)```", pages._citations(), re.S)
    entries = [parse_string(block, "bibtex").entries for block in blocks]
    keys = [key for entry in entries for key in entry]
    assert keys == ["wsis", *(method(name).FULL.CITE for name in METHODS)]
    assert max(len(line) for block in blocks for line in block.splitlines()) <= 92, "no line of code is cut"


def test_claims_at_a_glance_show_what_was_published_measured_and_possible(tmp_path):
    measured = {"mean": -2.0, "low": -3.0, "high": -1.0, "noise": 0.4, "room": 12.0, "seeds": 3}
    claim = RESULT["claims"][0] | measured | {"verdict": "contradicted"}
    pages.write(tmp_path, tmp_path / "out")
    blank = (tmp_path / "out" / "glance.md").read_text()
    store(tmp_path, RESULT | {"claims": [claim]})
    pages.write(tmp_path, tmp_path / "out")
    text = (tmp_path / "out" / "glance.md").read_text()
    assert "published +9.9, room +12.0, measured -2.0 [-3.0, -1.0]" in text, "the published rows of the table give +9.9"
    store(tmp_path, RESULT | {"claims": [claim | {"verdict": "cannot show", "reason": "too little"}]})
    pages.write(tmp_path, tmp_path / "out")
    assert "too little" in (tmp_path / "out" / "glance.md").read_text()
    assert "<b>1</b> are contradicted" in text and "<b>0</b> are contradicted" in blank
    style = (build.BOOK / "_static" / "wsis.css").read_text()
    choices = set(re.findall('type="radio" name="[^"]*" id="([^"]+)"', text)) - {"verdict-all", "method-all"}
    assert choices == set(re.findall("#((?:verdict|method)-[a-z-]+):checked", style)), (
        "each tile hides the others' lines"
    )
    assert re.search('<tr class="of-contradicted"><td>.*<tr class="of-not-run"><td>', text)
    sections = set(re.findall(r"^\((.*)\)=$", (tmp_path / "out" / "results.md").read_text(), re.M))
    claimed = {table.id for table in find("all") if table.claims}
    assert claimed <= sections, "each claim leads to a section, also one that was not run"
    assert set(re.findall('href="#([^"]+)"', blank)) == {make_id(id) for id in claimed}


def test_pictures_of_the_readme_are_those_of_tagged_cells(tmp_path):
    memory = io.BytesIO()
    Image.new("RGB", (2200, 1000), "green").save(memory, "PNG")
    data = {"image/png": base64.b64encode(memory.getvalue()).decode()}
    for name, chapter in pictures.CELLS.items():
        cells = [nbformat.v4.new_code_cell("1"), nbformat.v4.new_code_cell("2", metadata={"tags": [name]})]
        cells[1].outputs = [nbformat.v4.new_output("display_data", data)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / f"{chapter}.ipynb")
    pictures.write(tmp_path, tmp_path)
    assert [Image.open(tmp_path / f"{name}.png").size for name in pictures.CELLS] == [(1100, 500)] * 2
