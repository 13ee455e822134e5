// What is wider than its place scrolls by itself: keys must reach it, too.
function reachable() {
  for (const e of document.querySelectorAll(".bd-article pre, .bd-article .text_html, .bd-article .math, .bd-article .wide"))
    if (e.scrollWidth > e.clientWidth + 1) e.tabIndex = 0;
}
addEventListener("load", reachable);
addEventListener("resize", reachable);
