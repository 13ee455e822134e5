// The page's side of canvas.py: it draws `state`, the picture and the masks of the view, and sends what the hand does.
// Coordinates of the state are (x, y) pixels of the image with centers at integers: pixel i covers i - 0.5 to i + 0.5.

const STYLE = `
.wsis-canvas { --line: var(--jp-border-color1, #c4c8ce); --ink: var(--jp-ui-font-color0, #1c2126); --accent: #0072b2;
  --quiet: var(--jp-ui-font-color1, #4a525a); --page: var(--jp-layout-color1, #fff);
  font: 14px/1.4 var(--jp-ui-font-family, system-ui, sans-serif);
  color: var(--ink); background: var(--page); max-width: 1000px; padding: 4px; box-sizing: border-box }
.wsis-canvas * { box-sizing: border-box }
/* not "row", which the theme of a page may style */
.wsis-canvas .tools-row { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; margin: 0 0 8px }
.wsis-canvas .space { flex: 1 }
.wsis-canvas button { font: inherit; color: inherit; background: var(--page); border: 1px solid var(--line);
  border-radius: 6px; min-height: 32px; padding: 3px 10px; cursor: pointer; display: inline-flex; gap: 6px; align-items: center }
.wsis-canvas button:hover:not(:disabled) { border-color: var(--accent) }
.wsis-canvas button:disabled { opacity: .45; cursor: default }
.wsis-canvas button[aria-pressed=true] { border-color: var(--accent); box-shadow: inset 0 0 0 1px var(--accent);
  background: color-mix(in srgb, var(--accent) 12%, var(--page)) }
.wsis-canvas button.main { background: var(--accent); border-color: var(--accent); color: #fff }
.wsis-canvas button:focus-visible, .wsis-canvas summary:focus-visible, .wsis-canvas input:focus-visible,
.wsis-canvas canvas:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
.wsis-canvas .joined { display: flex }
.wsis-canvas .joined button { border-radius: 0; margin-left: -1px }
.wsis-canvas .joined button:first-child { border-radius: 6px 0 0 6px; margin-left: 0 }
.wsis-canvas .joined button:last-child { border-radius: 0 6px 6px 0 }
.wsis-canvas .joined button[aria-pressed=true], .wsis-canvas .joined button:focus-visible { z-index: 1; position: relative }
.wsis-canvas .swatch { width: 12px; height: 12px; border-radius: 50%; border: 1px solid rgb(0 0 0 / .35); flex: none }
.wsis-canvas kbd { font: 11px/1 ui-monospace, monospace; color: var(--quiet); border: 1px solid var(--line);
  border-radius: 3px; padding: 2px 4px; background: none }
.wsis-canvas .classes, .wsis-canvas .objects { max-height: 8.5em; overflow: auto; padding: 3px; margin: -3px -3px 5px }
.wsis-canvas .name { flex: 1 1 8em; min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; font-weight: 600 }
.wsis-canvas input { font: inherit; color: inherit; background: var(--page); width: 4.6em; min-height: 32px; padding: 3px 6px;
  border: 1px solid var(--line); border-radius: 6px; font-variant-numeric: tabular-nums }
.wsis-canvas .stage { background: var(--jp-layout-color2, #f0f1f3); border-radius: 6px; display: flex; justify-content: center }
.wsis-canvas canvas { display: block; border-radius: 6px; cursor: crosshair }
.wsis-canvas .status { display: flex; gap: 12px; min-height: 1.9em; padding: 5px 2px; color: var(--quiet) }
.wsis-canvas .status [role=status] { flex: 1; overflow-wrap: anywhere }
.wsis-canvas .status .error { color: var(--jp-error-color0, #a61b00); font-weight: 600 }
.wsis-canvas .at { font-variant-numeric: tabular-nums; white-space: nowrap }
.wsis-canvas ol { list-style: none; display: flex; flex-wrap: wrap; gap: 6px }
.wsis-canvas ol button { min-height: 28px; padding: 2px 8px; font-size: 13px }
.wsis-canvas ol small { color: var(--quiet); font-size: 12px }
.wsis-canvas summary { cursor: pointer; color: var(--quiet); width: max-content }
.wsis-canvas dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 12px; margin: 8px 0; font-size: 13px }
.wsis-canvas dd { margin: 0 }
.wsis-canvas [hidden], .wsis-canvas.bare > :is(.tools-row, details) { display: none }
.wsis-canvas.bare { width: 320px; max-width: 100% }
@media (max-width: 600px) { .wsis-canvas .name { order: 1; flex-basis: 100% } }
@media (pointer: coarse) { .wsis-canvas button, .wsis-canvas ol button { min-height: 40px } }
`;

const KEYS = [
  ["arrows", "move the crosshair; with Shift by one pixel"],
  ["Enter", "click at the crosshair"],
  ["Backspace, Ctrl-Z", "undo"],
  ["1 … 9, 0, [, ]", "choose the class; with Tags, add it or take it away"],
  ["PageUp, PageDown", "the previous or next image; what is new is saved"],
  ["P, E, B, T, S", "points, extreme points, box, tags, select"],
  ["N, A, C", "next proposed mask, accept it, click again"],
  ["Delete", "remove the chosen object"],
  ["+, −, F", "zoom in, out, whole image; also Ctrl and the wheel; drag to move"],
  ["Ctrl-S, Esc", "save; drop the open clicks"],
];
const TOOL_KEYS = { p: "point", e: "extreme_points", b: "bbox", t: "tags", s: "select" };
const HINTS = {
  point: "Click each object once.",
  extreme_points: "Click the top, left, bottom and right of an object, in any order.",
  bbox: "Drag a box around an object, or click two opposite corners.",
  tags: "Choose the classes that the image shows.",
  select: "Choose an object or a mask, in the image or in the list.",
  move: "Click, or drag the mark; also arrows, Enter.",
};
const KINDS = { point: "point", extreme_points: "extreme points", bbox: "box" };

function element(tag, values = {}, ...children) {
  const made = Object.assign(document.createElement(tag), values);
  for (const [name, value] of Object.entries(values)) if (/^(aria-|role|data-)/.test(name)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function render({ model, el }) {
  const send = (what, values = {}) => model.send({ do: what, ...values });
  const button = (text, label, act, values = {}) =>
    element("button", { type: "button", textContent: text, title: label, "aria-label": label, onclick: act, ...values });

  // ---- what is on the page -------------------------------------------------------------------------------------------
  const previous = button("‹", "Previous image (PageUp)", () => send("go", { value: state.index - 1 }));
  const next = button("›", "Next image (PageDown)", () => send("go", { value: state.index + 1 }));
  const number = element("input", { type: "number", min: 1, "aria-label": "Number of the image" });
  number.onchange = () => send("go", { value: number.value - 1 });
  const count = element("span"), name = element("span", { className: "name" });
  const undo = button("Undo", "Undo (Ctrl-Z)", () => send("undo"));
  const save = button("Save", "Save (Ctrl-S)", () => send("save"));
  const tools = element("div", { className: "joined", role: "group", "aria-label": "Kind of label" });
  const zoomOut = button("−", "Zoom out (-)", () => zoom(1 / 1.5)), zoomIn = button("+", "Zoom in (+)", () => zoom(1.5));
  const whole = button("Fit", "Whole image (F)", () => look([0, 0, ...state.size]));
  const classes = element("div", { className: "tools-row classes", role: "group", "aria-label": "Class" });
  const canvas = element("canvas", { tabIndex: 0, role: "application", "aria-roledescription": "image to click on" });
  const stage = element("div", { className: "stage" }, canvas);
  const said = element("span", { role: "status", "aria-live": "polite" });
  const at = element("span", { className: "at" });
  const objects = element("ol", { className: "tools-row objects", "aria-label": "Objects of the image" });
  const accept = button("Accept", "Accept the mask (A)", () => send("accept"), { className: "main" });
  const again = button("Click again", "Give it another click (C)", () => (send("again"), canvas.focus()));
  const remove = button("Remove", "Remove the object (Delete)", () => send("remove"));
  const following = button("Next mask", "Next mask without an answer (N)", () => send("next"));
  const actions = element("div", { className: "tools-row", role: "group", "aria-label": "The chosen object" });
  actions.append(accept, again, remove, following);
  const keys = element("dl", {}, ...KEYS.flatMap(([k, does]) => [
    element("dt", {}, element("kbd", { textContent: k })), element("dd", { textContent: does })]));
  const help = element("details", {}, element("summary", { textContent: "Keys" }), keys);
  // with this attribute JupyterLab keeps its own shortcuts away from what has the focus
  const root = element("div", { className: "wsis-canvas", "data-lm-suppress-shortcuts": "true" },
    element("style", { textContent: STYLE }),
    element("div", { className: "tools-row" }, previous, number, count, next, name, undo, save),
    element("div", { className: "tools-row" }, tools, element("span", { className: "space" }), zoomOut, zoomIn, whole),
    classes, stage, element("div", { className: "status" }, said, at), actions, objects, help);
  el.replaceChildren(root);

  // ---- the picture, the masks and the view ---------------------------------------------------------------------------
  let state = model.get("state"), shown = null;  // shown: { bitmap, view, numbers, width, height, tint }
  let view = state.view, cross = [view[2] / 2 - 0.5, view[3] / 2 - 0.5].map(Math.round), press = null, turn = 0;
  let classNames = "", lastPicture = null, lastOverlay = null, image = -1;

  const moves = () => state.tool === "move";  // the marks of an image: a figure asks about them, and nothing is labeled
  const toPage = ([x, y]) => [((x + 0.5 - view[0]) / view[2]) * canvas.clientWidth, ((y + 0.5 - view[1]) / view[3]) * canvas.clientHeight];
  const toImage = (px, py) => [view[0] + (px / canvas.clientWidth) * view[2] - 0.5, view[1] + (py / canvas.clientHeight) * view[3] - 0.5];
  const inside = ([x, y]) => [Math.min(Math.max(Math.round(x), 0), state.size[0] - 1), Math.min(Math.max(Math.round(y), 0), state.size[1] - 1)];
  const colorOf = (category) => (state.classes.find((c) => c.id === category) || { color: "#888888" }).color;
  const nameOf = (category) => (state.classes.find((c) => c.id === category) || { name: "?" }).name;

  async function decode(bytes, exact) {
    const options = exact ? { colorSpaceConversion: "none", premultiplyAlpha: "none" } : {};
    return createImageBitmap(new Blob([bytes]), options);
  }

  async function update() {
    state = model.get("state");
    const picture = model.get("picture"), overlay = model.get("overlay"), mine = ++turn;
    if (picture !== lastPicture || overlay !== lastOverlay) {
      const bitmap = await decode(picture);
      let numbers = null;
      if (overlay.byteLength) {
        const map = await decode(overlay, true);
        const context = new OffscreenCanvas(map.width, map.height).getContext("2d", { willReadFrequently: true });
        context.drawImage(map, 0, 0);
        const rgba = context.getImageData(0, 0, map.width, map.height).data;
        numbers = new Uint16Array(map.width * map.height).map((_, i) => rgba[4 * i] + 256 * rgba[4 * i + 1]);
      }
      if (mine !== turn) return;  // a newer picture is on its way
      [lastPicture, lastOverlay] = [picture, overlay];
      if (image !== state.index) look.waiting = clearTimeout(look.waiting);
      if (!look.waiting) view = state.view;  // else the hand has moved on, and asks again
      shown = { bitmap, numbers, width: bitmap.width, height: bitmap.height, view: state.view };
      if (image !== state.index) cross = [Math.round(view[2] / 2), Math.round(view[3] / 2)];
      image = state.index;
    }
    describe();
    resize();
    if (shown) shown.tint = tinted();
    draw();
  }

  function tinted() {
    if (!shown.numbers) return null;
    const { numbers, width, height } = shown, data = new ImageData(width, height);
    const looks = state.objects.map((o) => [colorOf(o.category), o.open, o.key === state.chosen])
      .map(([c, open, chosen]) => [...[1, 3, 5].map((i) => parseInt(c.slice(i, i + 2), 16)), open, chosen]);
    const edge = Math.min(4, Math.max(1, Math.round(width / Math.max(canvas.clientWidth, 1))));
    for (let y = 0, i = 0; y < height; y++) for (let x = 0; x < width; x++, i++) {
      const n = numbers[i];
      if (!n || !looks[n - 1]) continue;
      const [r, g, b, open, chosen] = looks[n - 1];
      const border = x < edge || y < edge || x >= width - edge || y >= height - edge
        || numbers[i - edge] !== n || numbers[i + edge] !== n || numbers[i - edge * width] !== n || numbers[i + edge * width] !== n;
      const stripe = open && ((x + y) / (6 * edge)) % 2 < 1;
      const alpha = border ? 255 : (chosen ? 150 : 90) * (stripe ? 0.45 : 1);
      data.data.set(border && chosen ? [255, 255, 255, 255] : [r, g, b, alpha], 4 * i);
    }
    const sheet = new OffscreenCanvas(width, height);
    sheet.getContext("2d").putImageData(data, 0, 0);
    return sheet;
  }

  function resize() {
    const [width, height] = state.size, room = Math.max(root.clientWidth - 8, 100);
    const wide = Math.min(room, (Math.max(320, 0.68 * window.innerHeight) * width) / height);
    const ratio = window.devicePixelRatio || 1;
    canvas.style.width = `${Math.round(wide)}px`;
    canvas.style.height = `${Math.max(1, Math.round((wide * height) / width))}px`;
    const size = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
    draw();
  }

  // ---- drawing -------------------------------------------------------------------------------------------------------
  function draw() {
    const context = canvas.getContext("2d"), ratio = window.devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    if (!shown) return;
    const [left, top] = toPage([shown.view[0] - 0.5, shown.view[1] - 0.5]);
    const wide = (shown.view[2] / view[2]) * canvas.clientWidth, high = (shown.view[3] / view[3]) * canvas.clientHeight;
    context.imageSmoothingEnabled = wide / shown.width < 3;
    context.drawImage(shown.bitmap, left, top, wide, high);
    if (shown.tint) context.drawImage(shown.tint, left, top, wide, high);
    for (const o of state.objects) drawObject(context, o);
    const pending = press?.drag ? [moves() ? inside(cross) : press.from] : state.clicks;
    if (state.tool === "bbox" && pending.length) drawBox(context, pending[0], inside(cross), colorOf(state.category), true);
    for (const click of pending) mark(context, toPage(click), colorOf(state.category), "ring");
    if (document.activeElement === canvas || canvas.matches(":hover")) drawCross(context);
  }

  function drawObject(context, o) {
    const color = colorOf(o.category), chosen = o.key === state.chosen;
    if (o.bbox) {
      const [x, y, w, h] = o.bbox;
      drawBox(context, [x, y], [x + w - 1, y + h - 1], color, false, chosen);
    }
    if (o.extreme_points) {
      const [top, left, bottom, right] = o.extreme_points;
      drawBox(context, [left[0], top[1]], [right[0], bottom[1]], color, true, chosen);
      for (const point of o.extreme_points) mark(context, toPage(point), color, "diamond", chosen);
    }
    if (o.point) mark(context, toPage(o.point), color, "dot", chosen);
  }

  function stroke(context, color, width, dash = []) {
    context.setLineDash(dash);
    context.lineWidth = width;
    context.strokeStyle = color;
    context.stroke();
    context.setLineDash([]);
  }

  function drawBox(context, [x0, y0], [x1, y1], color, thin, chosen) {
    const [left, top] = toPage([Math.min(x0, x1) - 0.5, Math.min(y0, y1) - 0.5]);
    const [right, bottom] = toPage([Math.max(x0, x1) + 0.5, Math.max(y0, y1) + 0.5]);
    context.beginPath();
    context.rect(left, top, right - left, bottom - top);
    stroke(context, chosen ? "#000" : "rgb(255 255 255 / .85)", thin ? 3 : 4.5);
    stroke(context, color, thin ? 1.2 : 2.2, thin ? [5, 4] : []);
  }

  function mark(context, [x, y], color, kind, chosen) {
    const r = (kind === "diamond" ? 5.5 : 5) + (chosen ? 2.5 : 0);
    context.beginPath();
    if (kind === "diamond") context.moveTo(x, y - r), context.lineTo(x + r, y), context.lineTo(x, y + r), context.lineTo(x - r, y), context.closePath();
    else context.arc(x, y, r, 0, 2 * Math.PI);
    stroke(context, "rgb(0 0 0 / .7)", 5);
    stroke(context, "#fff", 3);
    if (kind === "ring") return stroke(context, color, 1.8);
    context.fillStyle = color;
    context.fill();
  }

  function drawCross(context) {
    const [x, y] = toPage(inside(cross)), gap = 7;
    context.beginPath();
    for (const [from, to] of [[0, x - gap], [x + gap, canvas.clientWidth]]) context.moveTo(from, y), context.lineTo(to, y);
    for (const [from, to] of [[0, y - gap], [y + gap, canvas.clientHeight]]) context.moveTo(x, from), context.lineTo(x, to);
    stroke(context, "rgb(0 0 0 / .55)", 2.2);
    stroke(context, "rgb(255 255 255 / .95)", 1);
  }

  // ---- words and buttons ---------------------------------------------------------------------------------------------
  function describe() {
    const chosen = state.objects.find((o) => o.key === state.chosen), open = state.objects.filter((o) => o.open).length;
    const left = state.needed > 1 && state.clicks.length ? ` ${state.clicks.length} of ${state.needed} clicks.` : "";
    const words = state.message || (open && state.tool === "select" ? `${open} proposed masks wait for an answer.` : HINTS[state.tool] + left);
    if (said.textContent !== words) said.textContent = words;
    said.className = state.error ? "error" : "";
    canvas.style.touchAction = ["bbox", "move"].includes(state.tool) || view[2] < state.size[0] ? "none" : "pan-y";
    if (root.classList.toggle("bare", moves())) return canvas.setAttribute("aria-label", state.name);
    number.max = state.count;
    if (document.activeElement !== number) number.value = state.index + 1;
    count.textContent = `of ${state.count.toLocaleString("en")}`;
    name.textContent = name.title = state.name;
    previous.disabled = state.index === 0;
    next.disabled = state.index === state.count - 1;
    undo.disabled = !state.undo;
    save.disabled = !state.unsaved;
    save.textContent = state.unsaved ? "Save" : "Saved";
    save.className = state.unsaved ? "main" : "";
    const names = JSON.stringify([state.classes, state.tools]);
    if (names !== classNames) makeChoices();
    classNames = names;
    for (const b of tools.children) b.setAttribute("aria-pressed", b.value === state.tool);
    const tags = state.tool === "tags";
    classes.setAttribute("aria-label", tags ? "Tags of the image" : "Class of the next object");
    for (const b of classes.children)
      b.setAttribute("aria-pressed", tags ? state.tags.includes(+b.value) : +b.value === state.category);
    canvas.setAttribute("aria-label", `Image ${state.index + 1} of ${state.count}, ${state.name}: ${state.objects.length} objects`);
    accept.hidden = !chosen?.open;
    again.hidden = remove.hidden = !chosen;
    following.hidden = !open;
    actions.hidden = !chosen && !open;
    list();
  }

  function makeChoices() {
    tools.replaceChildren(...Object.entries(state.tools).map(([value, text]) =>
      element("button", { type: "button", value, textContent: text, title: `${text} (${text[0]})`, onclick: () => send("tool", { value }) })));
    classes.replaceChildren(...state.classes.map((c, i) => {
      const swatch = element("span", { className: "swatch" });
      swatch.style.background = c.color;
      const key = i < 10 ? [element("kbd", { textContent: (i + 1) % 10, "aria-hidden": "true" })] : [];
      return element("button", { type: "button", value: c.id, onclick: () => send("category", { value: c.id }) }, swatch, c.name, ...key);
    }));
  }

  function list() {
    const focused = objects.contains(document.activeElement) ? document.activeElement.value : null;
    objects.hidden = !state.objects.length;
    objects.replaceChildren(...state.objects.map((o) => {
      const swatch = element("span", { className: "swatch" });
      swatch.style.background = colorOf(o.category);
      const kinds = Object.keys(KINDS).filter((k) => o[k]).map((k) => KINDS[k]);
      if (o.open) kinds.push(o.score == null ? "mask?" : `mask? ${o.score.toFixed(2)}`);
      else if (o.mask) kinds.push("mask");
      const b = element("button", { type: "button", value: o.key, onclick: () => send("choose", { value: o.key }) },
        swatch, nameOf(o.category), element("small", { textContent: kinds.join(", ") }));
      b.setAttribute("aria-pressed", o.key === state.chosen);
      return element("li", {}, b);
    }));
    if (focused) [...objects.querySelectorAll("button")].find((b) => b.value === focused)?.focus();
  }

  // ---- the hand ------------------------------------------------------------------------------------------------------
  const reach = () => (12 / canvas.clientWidth) * view[2];
  const click = (xy, from = xy) => send("click", { xy: inside(xy), ...(moves() ? { start: inside(from) } : { reach: reach() }) });
  const place = (event) => toImage(...((r) => [event.clientX - r.left, event.clientY - r.top])(canvas.getBoundingClientRect()));

  function moveTo(xy, spoken = false) {
    cross = inside(xy);
    at.setAttribute("aria-live", spoken ? "polite" : "off");
    at.textContent = `x ${cross[0]}, y ${cross[1]}`;
    draw();
  }

  function look([x, y, w, h]) {
    const [width, height] = state.size;
    w = Math.min(Math.max(w, Math.min(16, width)), width);
    h = Math.min(Math.max(h, Math.min(16, height)), height);
    view = [Math.min(Math.max(x, 0), width - w), Math.min(Math.max(y, 0), height - h), w, h].map(Math.round);
    draw();
    clearTimeout(look.waiting);  // the kernel is asked when the hand rests
    look.waiting = setTimeout(() => ((look.waiting = undefined), send("view", { value: view })), 120);
  }

  function zoom(factor, [x, y] = cross) {
    const closest = Math.max(16 / view[2], 16 / view[3], 1 / factor), [w, h] = [view[2] * closest, view[3] * closest];
    const share = [(x - view[0]) / view[2], (y - view[1]) / view[3]];
    look([x - share[0] * w, y - share[1] * h, w, h]);
  }

  canvas.onpointerdown = (event) => {
    if (event.button) return;
    canvas.focus({ preventScroll: true });
    const from = inside(place(event));
    const drag = moves() || (state.tool === "bbox" && !state.clicks.length);
    press = { from, view, x: event.clientX, y: event.clientY, drag, moved: false };
    canvas.setPointerCapture(event.pointerId);
    moveTo(from);
  };
  canvas.onpointermove = (event) => {
    if (press) press.moved ||= Math.hypot(event.clientX - press.x, event.clientY - press.y) > 8;
    if (press?.moved && !press.drag && view[2] < state.size[0]) {
      const [dx, dy] = [event.clientX - press.x, event.clientY - press.y];
      look([press.view[0] - (dx / canvas.clientWidth) * view[2], press.view[1] - (dy / canvas.clientHeight) * view[3], view[2], view[3]]);
    } else moveTo(place(event));
  };
  canvas.onpointerup = (event) => {
    if (!press) return;
    const { from, moved, drag } = press;
    press = null;
    if (moves()) return click(moved ? place(event) : from, from);
    if (!moved || drag) click(from);
    if (moved && drag) click(place(event));
  };
  canvas.onpointercancel = () => (press = null);
  canvas.onpointerleave = canvas.onblur = canvas.onfocus = draw;
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey || moves()) return;
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1.25 : 0.8, place(event));
  }, { passive: false });

  function step(dx, dy, fine) {
    const size = fine ? 1 : Math.max(1, Math.round(view[2] / 50));
    const [x, y] = inside([cross[0] + dx * size, cross[1] + dy * size]);
    const [left, top, w, h] = view;
    const moved = [Math.min(Math.max(left, x - w + 1), x), Math.min(Math.max(top, y - h + 1), y), w, h];
    if (moved[0] !== left || moved[1] !== top) look(moved);
    moveTo([x, y], true);
  }

  function chooseClass(i) {
    if (state.classes[i]) send("category", { value: state.classes[i].id });
  }

  const here = () => Math.max(0, state.classes.findIndex((c) => c.id === state.category));
  const ANYWHERE = {  // also while a button has the focus
    PageUp: () => state.index && send("go", { value: state.index - 1 }),
    PageDown: () => state.index < state.count - 1 && send("go", { value: state.index + 1 }),
    Escape: () => send("escape"),
    "[": () => chooseClass(here() - 1),
    "]": () => chooseClass(here() + 1),
    n: () => send("next"), a: () => send("accept"), c: () => send("again"), Delete: () => send("remove"), Backspace: () => send("undo"),
    "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), f: () => look([0, 0, ...state.size]),
  };
  const ON_CANVAS = { Enter: () => click(cross) };
  for (const [key, dx, dy] of [["ArrowLeft", -1, 0], ["ArrowRight", 1, 0], ["ArrowUp", 0, -1], ["ArrowDown", 0, 1]])
    ON_CANVAS[key] = (event) => step(dx, dy, event.shiftKey);

  root.onkeydown = (event) => {
    event.stopPropagation();
    if (event.target === number || event.altKey) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    let act = event.target === canvas && ON_CANVAS[key];
    if (!moves()) {
      if (event.ctrlKey || event.metaKey) act = { z: () => send("undo"), s: () => send("save") }[key];
      else if (/^[0-9]$/.test(key)) act = () => chooseClass((+key + 9) % 10);
      else act ||= ANYWHERE[key] || (TOOL_KEYS[key] && (() => send("tool", { value: TOOL_KEYS[key] })));
    }
    if (!act) return;
    event.preventDefault();
    act(event);
  };

  let asked = false;
  const changed = () => {  // a message changes several traits at once
    if (!asked) queueMicrotask(() => ((asked = false), update()));
    asked = true;
  };
  const traits = ["change:picture", "change:overlay", "change:state"];
  for (const trait of traits) model.on(trait, changed);
  const watch = new ResizeObserver(resize);
  watch.observe(root);
  update();
  return () => {
    for (const trait of traits) model.off(trait, changed);
    watch.disconnect();
  };
}

export default { render };
