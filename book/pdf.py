"""The whole book as one PDF, _build/wsis.pdf: python -m book.pdf (make pdf), after make book.

Sphinx writes all pages as one, and a browser prints it: code that is folded stays so, and a slider shows one frame.
"""

import base64
import tempfile
from pathlib import Path

from book.browser import browser, chromium
from book.build import BOOK, ROOT, run_sphinx
from book.check import served

OUT = ROOT / "_build" / "wsis.pdf"
MARGIN = 0.6  # inches
NUMBER = "<div style='font-size: 8px; width: 100%; text-align: center'><span class='pageNumber'></span></div>"
PAPER = {"paperWidth": 8.27, "paperHeight": 11.69, "marginTop": MARGIN, "marginBottom": MARGIN}  # A4
PAPER |= {"marginLeft": MARGIN, "marginRight": MARGIN, "displayHeaderFooter": True, "headerTemplate": "<span></span>"}
PAPER |= {"footerTemplate": NUMBER, "generateTaggedPDF": True, "generateDocumentOutline": True, "scale": 0.8}


def print_page(site: Path, name: str, out: Path) -> None:
    """Print one page of `site` with all its formulas and pictures."""
    with tempfile.TemporaryDirectory() as profile, served(site) as address, browser(chromium(), Path(profile)) as page:
        page.send("Page.enable")
        page.send("Page.navigate", url=f"{address}/{name}.html")
        page.wait("document.readyState === 'complete' && !!document.querySelector('.bd-article')", 600)
        page.run("window.MathJax?.startup?.promise")
        page.run("Promise.all([...document.images].map(i => i.decode().catch(() => null)))")
        stream = page.send("Page.printToPDF", transferMode="ReturnAsStream", printBackground=True, **PAPER)["stream"]
        with out.open("wb") as file:
            part = {"eof": False}
            while not part["eof"]:
                part = page.send("IO.read", handle=stream)
                file.write(base64.b64decode(part["data"]))


def main() -> None:
    """Write the page of all pages, and print it."""
    if not list((BOOK / "chapters").glob("*.ipynb")):
        raise SystemExit("no chapter is executed; run make book first")
    run_sphinx("--builder", "singlehtml")
    print_page(ROOT / "_build" / "singlehtml", "intro", OUT)
    print(f"{OUT} ({OUT.stat().st_size / 1e6:.0f} MB)")


if __name__ == "__main__":
    main()
