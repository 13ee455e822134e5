"""Look at every built page in a browser that has no network: python -m book.check (make check-book).

At 1280 and at 390 px, light and dark: no request leaves the computer, the console shows no error, formulas are set, nothing is
wider than the window, no line of code is cut on a desktop, and pictures, controls and scrolled regions can be read and reached
without a mouse. Prints one line for each finding and fails on any.
"""

import functools
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from book.browser import Page, browser
from book.build import SITE, documents

WIDTHS = (1280, 390)  # px
THEMES = ("light", "dark")

LOOK = """(() => {
  const seen = e => e.offsetParent !== null && e.getClientRects().length;
  const all = s => [...document.querySelectorAll(s)].filter(seen);
  const words = e => (e.getAttribute('aria-label') || e.getAttribute('alt') || e.title || e.innerText || '').trim();
  const name = e => e.tagName.toLowerCase() + (e.className ? '.' + String(e.className).split(' ')[0] : '');
  const short = e => name(e) + ' ' + e.innerText.slice(0, 40).replace(/\\s+/g, ' ');
  const outside = e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('pre, .wide, .text_html');
  const scrolled = e => e.scrollWidth > e.clientWidth + 1;
  const scrolls = e => scrolled(e) && /auto|scroll/.test(getComputedStyle(e).overflowX);
  const reached = e => e.tabIndex >= 0 || e.querySelector('a, button, input, [tabindex]');
  return {
    'wider than the window': document.documentElement.scrollWidth > innerWidth + 1 ? all('.bd-article *').filter(outside)
      .slice(0, 3).map(short) : [],
    'code is cut': innerWidth > 1000 ? all('.bd-article pre').filter(scrolled).map(short) : [],
    'a formula is not set': all('.bd-article .math').filter(e => !e.querySelector('mjx-container')).map(short),
    'a picture without words': all('.bd-article img').filter(e => !words(e)).map(e => e.src.slice(0, 60)),
    'a control without a name': all('input, button, summary, select').filter(e => !words(e) && !e.labels?.length).map(name),
    'a scrolled region that keys do not reach': all('.bd-article *').filter(e => scrolls(e) && !reached(e)).map(short),
  };
})()"""


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
    page.run("window.MathJax?.startup?.promise")
    found = [f"{what}: {where}" for what, places in page.run(LOOK).items() for where in dict.fromkeys(places)]
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


def check(site: Path, docs: list[str]) -> list[str]:
    """All findings on the pages of `site`, one line each."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("no chromium was found; on Debian and Ubuntu: apt install chromium")
    lines, folder = [], os.environ.get("WSIS_SCREENSHOTS")
    with tempfile.TemporaryDirectory() as profile, served(site) as address, browser(program, Path(profile)) as page:
        for domain in ("Network", "Runtime", "Log", "Page"):
            page.send(f"{domain}.enable")
        for doc in docs:
            for width, theme in ((w, t) for w in WIDTHS for t in THEMES):
                lines += [f"{doc} at {width} px, {theme}: {f}" for f in findings(page, address, doc, width, theme)]
                if folder:
                    page.picture(Path(folder) / f"{doc.replace('/', '_')}_{width}_{theme}.png", whole=True)
    return lines


def main() -> None:
    """Check the built book; exits 1 with what is wrong."""
    docs = [d for d in documents() if (SITE / f"{d}.html").exists()]
    if not docs:
        raise SystemExit("no book is built; run make book first")
    lines = check(SITE, docs)
    print("\n".join([*lines, f"{len(docs)} pages, {len(lines)} findings"]))
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
