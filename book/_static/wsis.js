// What is wider than its place scrolls by itself: keys must reach it, too.
function reachable() {
  for (const e of document.querySelectorAll(".bd-article :is(pre, .text_html, .math, .wide, .cell_output, figure)"))
    if (e.scrollWidth > e.clientWidth + 1) e.tabIndex = 0;
}
// On a phone no figure is made so small that nobody could read what is written in it: it scrolls.
addEventListener("load", () => {
  for (const e of document.querySelectorAll(".bd-article .cell_output img"))
    e.classList.toggle("broad", e.naturalWidth > 850); // else its letters were below 5 px
  for (const e of document.querySelectorAll(".citation-list > *")) e.role = "listitem"; // docutils' role is none that lists take
  reachable();
});
addEventListener("resize", reachable);

// The definition of a term shows below it, on hover, on focus and at the first touch; the second one follows the link.
// The browser hides it at a click elsewhere and when another one shows.
function define(box) {
  let timer, touched;
  const open = () => box.matches(":popover-open");
  const later = () => (timer = setTimeout(() => open() && box.hidePopover(), 200)); // the pointer may go from the term to its definition
  const stay = () => clearTimeout(timer);
  function show(link) {
    stay();
    if (!open()) box.showPopover();
    const { left, top, bottom } = link.getBoundingClientRect();
    const above = bottom + box.offsetHeight > innerHeight && top > box.offsetHeight;
    box.style.left = scrollX + Math.max(8, Math.min(left, document.documentElement.clientWidth - box.offsetWidth - 8)) + "px";
    box.style.top = scrollY + (above ? top - box.offsetHeight : bottom) + "px";
  }
  for (const link of document.querySelectorAll(`.bd-article a[href$="glossary.html#${box.id.replace("definition-", "")}"]`)) {
    link.setAttribute("aria-describedby", box.id);
    link.addEventListener("pointerenter", (e) => e.pointerType === "touch" || show(link));
    link.addEventListener("pointerleave", (e) => e.pointerType === "touch" || later());
    link.addEventListener("focus", () => show(link));
    link.addEventListener("blur", later);
    link.addEventListener("pointerdown", (e) => (touched = e.pointerType === "touch" && !open()));
    link.addEventListener("click", (e) => touched && (e.preventDefault(), show(link)));
  }
  addEventListener("keydown", (e) => e.key === "Escape" && open() && box.hidePopover());
  box.addEventListener("pointerenter", stay);
  box.addEventListener("pointerleave", later);
}
addEventListener("load", () => document.querySelectorAll(".definition").forEach(define));
