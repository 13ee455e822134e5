"""Clicking on one's own images, one at a time: points, extreme points, boxes, tags, and proposed masks to accept."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from wsis.core.errors import AnnotationError, DataError, WsisError
from wsis.core.files import Entry
from wsis.data.images import read_image
from wsis.data.label_file import CLICKS, LabelFile, ProposedMasks, label_of
from wsis.viz.canvas import Canvas, draw_view, encode_numbers, number_masks, object_at
from wsis.viz.style import CLASS_COLORS

CLOSEST = 16  # pixels of the shorter side of the closest view
TOOLS = {"point": "Point", "extreme_points": "Extreme points", "bbox": "Box", "tags": "Tags", "select": "Select"}


class Annotator(Canvas):
    """A canvas on the images of a folder that writes weak labels into a COCO JSON; see `annotate`."""

    def __init__(self, labels: LabelFile, masks: ProposedMasks | None = None) -> None:
        self.labels, self._proposed = labels, masks
        self._last_tool = self.tool = "point"
        self.index, self.category = 0, labels.categories[0]["id"]
        self.clicks: list[list[int]] = []  # (x, y), of an object that still needs some
        self.chosen: str | None = None  # the key of an object
        self._clicked_again: set[tuple[str, str]] = set()  # proposed masks that were answered by another click
        self._say(f"{labels.missing} images of the JSON are not in the folder; they are kept" if labels.missing else "")
        self._open(0)

    @property
    def name(self) -> str:
        """The file name of the image that is shown."""
        return self.labels.names[self.index]

    def save(self) -> None:
        """Write the JSON; raises DataError if it cannot be written, or was changed by another program."""
        self.labels.save()
        self._say(f"saved in {self.labels.path}")
        self._sync()

    _do_save = save

    @property
    def state(self) -> Entry:
        categories, height, width = self.labels.categories, *self._size
        return {
            "index": self.index,
            "count": len(self.labels),
            "name": self.name,
            "size": [width, height],
            "view": list(self._view),
            "classes": [
                {"id": c["id"], "name": c["name"], "color": CLASS_COLORS[i % len(CLASS_COLORS)]}
                for i, c in enumerate(categories)
            ],
            "category": self.category,
            "tool": self.tool,
            "tools": TOOLS,
            "needed": CLICKS.get(self.tool, 0),
            "clicks": self.clicks,
            "objects": [
                {k: v for k, v in o.items() if k != "segmentation"} | {"mask": bool(o["segmentation"])}
                for o in self._objects
            ],
            "chosen": self.chosen,
            "tags": self.labels.tags(self.name),
            "message": self._message,
            "error": self._is_error,
            "unsaved": self.labels.unsaved,
            "undo": bool(self.clicks or self.labels.changes),
        }

    def _open(self, index: int) -> None:
        self.index, self.clicks, self.chosen = index, [], None
        self._image, self._size, self._proposals, self._problem = Image.new("RGB", (1, 1), "white"), (1, 1), [], ""
        record = self.labels.record(self.name)
        said = (record["height"], record["width"]) if record else None
        try:
            pixels = read_image(self.labels.folder / self.name, said)
            self._size = height, width = pixels.shape[-2], pixels.shape[-1]
            self._image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
            if said not in (None, self._size):
                there = f"{self.labels.path} says {said[1]} x {said[0]}"
                raise DataError(f"{self.name} is {width} x {height}, but {there}; fix either")
            if self._proposed:
                self._proposals = self._proposed.of(self.name, self._size, record["id"] if record else None)
        except WsisError as error:
            self._problem = str(error)
            self._say(self._problem, error=True)
        self._view = (0, 0, self._size[1], self._size[0])
        self._draw()

    def _draw(self) -> None:
        """Make the two images of the view: its colors, and the number of the topmost mask at each pixel (red + 256 green)."""
        self._objects = self._list_objects()
        masks = [o["segmentation"] for o in self._objects]
        self.picture, shape = draw_view(self._image, self._view)
        self._numbers = number_masks(masks, self._size, self._view, shape)
        self.overlay = encode_numbers(self._numbers) if any(masks) else b""

    def _list_objects(self) -> list[Entry]:
        """The annotations of the image, each with the proposed mask of its id, and the other proposed masks."""
        objects, answered = [], self._clicked_again
        if self._problem:
            return objects
        for a in self.labels.annotations(self.name):
            clicks = {k: a[k] for k in CLICKS if a.get(k) is not None}
            if a.get("segmentation"):
                clicks.pop("bbox", None)  # that of the mask
            shape = {"segmentation": a.get("segmentation"), "open": False, "score": None}
            objects.append({"key": f"a{a['id']}", "category": a["category_id"], **clicks, **shape})
        by_key = {o["key"]: o for o in objects}
        accepted = [o["segmentation"] for o in objects if o["segmentation"]]
        for k, mask in enumerate(self._proposals):
            own, shape = by_key.get(f"a{mask.get('id')}"), mask["segmentation"]
            if own is None or own["category"] != mask["category_id"]:
                own = {"key": f"m{k}", "category": mask["category_id"], "segmentation": None}
            if own["segmentation"] or shape in accepted or (self.name, own["key"]) in answered:
                continue
            own |= {"segmentation": shape, "open": True, "score": mask.get("score")}
            if own["key"] not in by_key:
                objects.append(own)
        return objects

    def _refresh(self) -> None:
        """Follow what changed in the labels; the masks are drawn anew only if they are others."""
        objects = self._list_objects()
        if [(o["key"], o["segmentation"]) for o in objects] == [(o["key"], o["segmentation"]) for o in self._objects]:
            self._objects = objects
        else:
            self._draw()
        if self.chosen not in {o["key"] for o in self._objects}:
            self.chosen = None

    def _check_image(self) -> None:
        """Raise DataError if the image cannot be labeled."""
        if self._problem:
            raise DataError(self._problem)

    def _object(self) -> Entry | None:
        return next((o for o in self._objects if o["key"] == self.chosen), None)

    def _do_click(self, xy: Sequence[float], reach: float = 0) -> None:
        """reach: pixels around the click in which a mark is meant."""
        height, width = self._size
        x, y = (round(float(value)) for value in xy)
        if not (0 <= x < width and 0 <= y < height):
            raise AnnotationError(f"the click ({x}, {y}) is outside the image of {width} x {height}; click on it")
        if self.tool == "select":
            self.chosen = object_at((x, y), self._objects, self._numbers, self._view, reach)
        if self.tool not in CLICKS:
            return
        self._check_image()
        self.clicks = [*self.clicks, [x, y]]
        if len(self.clicks) < CLICKS[self.tool]:
            return
        clicks, self.clicks, chosen = self.clicks, [], self._object()
        label = {"category_id": chosen["category"] if chosen else self.category} | label_of(self.tool, clicks)
        self.labels.put(self.name, self._size, label, _annotation_id(chosen))
        if chosen:
            self._clicked_again.add((self.name, chosen["key"]))
            self.chosen, self.tool = None, "select"

    def _do_undo(self) -> None:
        if self.clicks:
            self.clicks = self.clicks[:-1]
        elif name := self.labels.undo():
            self._clicked_again = {pair for pair in self._clicked_again if pair[0] != name}
            if name != self.name:
                self._open(self.labels.names.index(name))

    def _do_escape(self) -> None:
        self.clicks, self.chosen = [], None

    def _do_tool(self, value: str) -> None:
        if value not in TOOLS:
            raise ValueError(f"no tool {value!r}")
        self.tool, self.clicks, self.chosen = value, [], None
        self._last_tool = value if value in CLICKS else self._last_tool

    def _do_category(self, value: int) -> None:
        if value not in {c["id"] for c in self.labels.categories}:
            raise ValueError(f"no class {value!r}")
        if self.tool == "tags":
            self._check_image()
            self.labels.toggle_tag(self.name, self._size, value)
        else:
            self.category = value

    def _do_choose(self, value: str) -> None:
        self.tool, self.clicks, self.chosen = "select", [], value

    def _do_next(self) -> None:
        """Choose the next proposed mask that has no answer."""
        keys = [o["key"] for o in self._objects]
        start = keys.index(self.chosen) + 1 if self.chosen else 0
        waiting = [o["key"] for o in self._objects[start:] + self._objects[:start] if o["open"]]
        if waiting:
            self._do_choose(waiting[0])
        else:
            self._say("every proposed mask of this image has an answer")

    def _do_accept(self) -> None:
        chosen = self._object()
        if not chosen or not chosen["open"]:
            raise AnnotationError("no proposed mask is chosen; choose one, or press N for the next")
        self._check_image()
        mask = {"category_id": chosen["category"], "segmentation": chosen["segmentation"]}
        self.labels.accept(self.name, self._size, mask, _annotation_id(chosen))
        rest = [o["key"] for o in self._objects if o["open"] and o is not chosen]
        self.chosen = rest[0] if rest else None

    def _do_again(self) -> None:
        """Wait for the click that answers the chosen object or mask."""
        if not (chosen := self._object()):
            raise AnnotationError("no object is chosen; choose one first")
        self.tool, self.clicks = next((kind for kind in CLICKS if kind in chosen), self._last_tool), []

    def _do_remove(self) -> None:
        """Remove the chosen object; a proposed mask without an object is only put aside."""
        if not (chosen := self._object()):
            raise AnnotationError("no object is chosen; choose one first")
        if chosen["key"][0] == "m":
            self._clicked_again.add((self.name, chosen["key"]))
        else:
            self.labels.remove(self.name, int(chosen["key"][1:]))

    def _do_go(self, value: int) -> None:
        """Turn to another image; what is not saved yet is saved."""
        if self.labels.unsaved:
            self.labels.save()
        self._open(max(0, min(int(value), len(self.labels) - 1)))

    def _do_view(self, value: Sequence[int]) -> None:
        """Show a part of the image: left, top, width, height in pixels, moved and shrunk to fit into the image."""
        height, width = self._size
        closest = min(CLOSEST, height, width)
        x, y, w, h = (round(float(v)) for v in value)
        w, h = max(closest, min(w, width)), max(closest, min(h, height))
        self._view = (max(0, min(x, width - w)), max(0, min(y, height - h)), w, h)
        self._draw()


def annotate(
    images: Path | str, path: Path | str, classes: Sequence[str] = (), masks: Path | str | None = None
) -> Annotator:
    """Label the images of a folder by mouse, touch or keyboard, into a COCO JSON that is read again when it is there.

    images: the folder. path: the JSON; where it is to be trained on, `FOLDER/annotations/instances_<split>.json` beside
    `FOLDER/images/<split>`. classes: names, added to those of the JSON. masks: a JSON of `label` or `predict`, whose masks
    are shown to be accepted or clicked again. Raises DataError for a folder without an image, an unsound JSON, or no class.
    """
    labels = LabelFile(images, path, classes)
    return Annotator(labels, ProposedMasks(masks, labels.categories) if masks else None)


def _annotation_id(chosen: Entry | None) -> int | None:
    return int(chosen["key"][1:]) if chosen and chosen["key"][0] == "a" else None
