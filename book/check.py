"""Look at every built page in a browser that has no network: python -m book.check [PAGE ...] (make check-book).

At 1280 and at 390 px, light and dark: no request leaves the computer, the console shows no error, formulas are set, figures
drawn, definitions shown and closed by Escape, nothing is wider than the window, no line of code is cut on a desktop, and axe
finds nothing serious that would keep someone from reading. Prints one line for each finding and fails on any.
"""

import functools
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

from book.browser import Page, browser, chromium
from book.build import SITE, documents

WIDTHS = (1280, 390)  # px
THEMES = ("light", "dark")

LOOK = """(() => {
  const seen = e => e.offsetParent !== null && e.getClientRects().length;
  const all = s => [...document.querySelectorAll(s)].filter(seen);
  const short = e => e.tagName.toLowerCase() + ' ' + e.innerText.slice(0, 60).replace(/\\s+/g, ' ');
  const outside = e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('pre, .wide, .text_html');
  const wide = document.documentElement.scrollWidth > innerWidth + 1 ? all('.bd-article *').filter(outside) : [];
  const cut = innerWidth > 1000 ? all('.bd-article pre').filter(e => e.scrollWidth > e.clientWidth + 1) : [];
  const terms = all('.bd-article a[aria-describedby^=definition]').slice(0, 1);
  terms.forEach(e => e.focus());
  return {
    'wider than the window': wide.slice(0, 3).map(short),
    'code is cut': cut.map(short),
    'a definition does not show': document.querySelector('.definition:popover-open') ? [] : terms.map(short),
    'a formula is not set': all('.bd-article .math').filter(e => !e.querySelector('mjx-container')).map(short),
    'a figure was not drawn': all('.wsis-plotly').filter(e => !e.querySelector('.js-plotly-plot')).map(short),
  };
})()"""
AXE = """axe.run(document, {resultTypes: ['violations']}).then(r => r.violations
  .filter(v => ['serious', 'critical'].includes(v.impact))
  .flatMap(v => v.nodes.slice(0, 3).map(n => [v.id, n.html.slice(0, 90), n.any[0]?.message].join(' '))))"""


@contextmanager
def served(site: Path) -> Iterator[str]:
    """The address of a folder on this computer."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()


def findings(page: Page, address: str, doc: str, width: int, theme: str) -> list[str]:
    """What is wrong with one page, at one width and in one theme."""
    page.size(width, 900)
    page.events.clear()
    page.send("Page.navigate", url=f"{address}/{doc}.html")
    page.wait("document.readyState === 'complete' && !!document.querySelector('.bd-article')")
    page.run(f"document.documentElement.dataset.theme = '{theme}', document.documentElement.dataset.mode = '{theme}'")
    page.run("document.getAnimations().forEach(a => a.finish())")  # colors on their way have a contrast of their own
    page.run("window.MathJax?.startup?.promise")
    page.run(files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    found = [f"{what}: {where}" for what, places in page.run(LOOK).items() for where in dict.fromkeys(places)]
    found += [f"axe: {violation}" for violation in page.run(AXE)]
    page.press("Escape")
    if page.run("!!document.querySelector('.definition:popover-open')"):
        found.append("a definition stays after Escape")
    for event in page.events:
        found += _reported(event, address)
    return found


def _reported(event: dict[str, Any], address: str) -> list[str]:
    """What an event of the browser says against the page."""
    kind, values = event.get("method"), event.get("params", {})
    if kind == "Network.requestWillBeSent":
        url = values["request"]["url"]
        return [] if url.startswith((address, "data:", "blob:")) else [f"asks the network for {url}"]
    if kind == "Runtime.exceptionThrown":
        return [f"script error: {values['exceptionDetails'].get('exception', {}).get('description', '')[:120]}"]
    if kind == "Log.entryAdded" and values["entry"]["level"] == "error":
        return [f"console: {values['entry']['text'][:80]} {values['entry'].get('url', '')}"]
    return []


def check(site: Path, docs: list[str]) -> Iterator[str]:
    """All findings on the pages of `site`, one line each. WSIS_SCREENSHOTS names a folder for pictures of the pages."""
    program = chromium()
    folder = os.environ.get("WSIS_SCREENSHOTS")
    with tempfile.TemporaryDirectory() as profile, served(site) as address, browser(program, Path(profile)) as page:
        for domain in ("Network", "Runtime", "Log", "Page"):
            page.send(f"{domain}.enable")
        page.send("Emulation.setFocusEmulationEnabled", enabled=True)
        for doc in docs:
            for width, theme in ((w, t) for w in WIDTHS for t in THEMES):
                yield from (f"{doc} at {width} px, {theme}: {f}" for f in findings(page, address, doc, width, theme))
                if folder:
                    page.picture(Path(folder) / f"{doc.replace('/', '_')}_{width}_{theme}.png", whole=True)


def main() -> None:
    """Check the built book; exits 1 with what is wrong."""
    docs = [d for d in sys.argv[1:] or documents() if (SITE / f"{d}.html").exists()]
    if not docs:
        raise SystemExit("no such page is built; run make book first")
    count = 0
    for line in check(SITE, docs):
        count += 1
        print(line, flush=True)
    print(f"{len(docs)} pages, {count} findings")
    sys.exit(bool(count))


if __name__ == "__main__":
    main()
