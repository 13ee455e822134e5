"""Which classes of a semantic data set are novel, and the class lists of COCO-Stuff-10K and ADE20K in their order.

A split is named S1-S9 for COCO-Stuff, S1-S4 for ADE20K (SimFormer, Chen et al., NeurIPS 2022; every image stays in the
training set), `random:SHARE:SEED` or `names:A,B,C` for any list. Numbers are labels 0..C-1; what is not novel is base.
"""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from wsis.core.errors import ConfigError
from wsis.core.files import read_json

_PUBLISHED = read_json(Path(__file__).with_name("splits.json"))
COCO_STUFF: tuple[str, ...] = tuple(_PUBLISHED["coco_stuff"]["classes"])
"""80 things in the order of COCO, then 91 kinds of stuff in that of the alphabet."""
ADE20K: tuple[str, ...] = tuple(_PUBLISHED["ade20k"]["classes"])
"""In the order of Scene Parsing, by the first name of each class."""
COCO_ORDER: tuple[int, ...] = tuple(_PUBLISHED["coco_stuff"]["order"])
"""S4 to S9 are the first 43, 51, 59, 68, 76 and 85 of these: each contains the one before."""
COCO_SPLITS: dict[str, tuple[int, ...]] = {name: tuple(ids) for name, ids in _PUBLISHED["coco_stuff"]["splits"].items()}
COCO_SPLITS |= {f"S{i}": COCO_ORDER[:count] for i, count in enumerate((43, 51, 59, 68, 76, 85), 4)}
ADE_SPLITS: dict[str, tuple[int, ...]] = {name: tuple(ids) for name, ids in _PUBLISHED["ade20k"]["splits"].items()}
ANY_DATA = "for any data there are random:SHARE:SEED and names:A,B,C"
BACKGROUND_CLASS = "background"
"""The class of what no mask covers, where it is one; it is never drawn as novel."""
WORLD_SPLIT = "random:0.25:48"
"""Of the embedded world: objects and stuff are among its novel classes, in both layouts."""


def find_split(name: str, classes: Sequence[str]) -> tuple[int, ...]:
    """Return the novel labels of a split, in ascending order.

    `random:SHARE:SEED` draws by the names alone: the order of the classes does not matter, and a larger share of the same
    seed contains a smaller one. Raises ConfigError if the split or a class is unknown, S1-S9 are of other classes, or no
    class or every class is novel.
    """
    kind, _, rest = name.partition(":")
    if kind == "random":
        novel = _random(name, rest, classes)
    elif kind == "names":
        names = [rest] if rest in classes else [n.strip() for n in rest.split(",") if n.strip()]  # one may hold a comma
        if unknown := [n for n in names if n not in classes]:
            raise ConfigError(f"split: {unknown[0]!r} is no class of the data; its classes are {', '.join(classes)}")
        novel = {list(classes).index(n) for n in names}
    else:
        novel = _published(name, classes)
    if not 0 < len(novel) < len(classes):
        state = "no class is novel" if not novel else f"all {len(classes)} classes are novel"
        raise ConfigError(f"split={name!r}: {state}; there must be base classes with masks and novel ones")
    return tuple(sorted(novel))


def _published(name: str, classes: Sequence[str]) -> Sequence[int]:
    for data, names, splits in (("COCO-Stuff-10K", COCO_STUFF, COCO_SPLITS), ("ADE20K", ADE20K, ADE_SPLITS)):
        if tuple(classes) == names:
            if name in splits:
                return splits[name]
            raise ConfigError(f"split={name!r}: {data} has {', '.join(splits)}; {ANY_DATA}")
    lists = "S1 and the like are for the lists wsis.data.splits.COCO_STUFF and ADE20K, in their order"
    raise ConfigError(f"split={name!r} is not for these {len(classes)} classes: {lists}; {ANY_DATA}")


def _random(name: str, rest: str, classes: Sequence[str]) -> Sequence[int]:
    try:
        share, seed = rest.split(":")
        drawable = [i for i, c in enumerate(classes) if c != BACKGROUND_CLASS]
        count, key = round(float(share) * len(drawable)), int(seed)
    except (ValueError, OverflowError):
        raise ConfigError(f"split={name!r}: write random:SHARE:SEED, as in random:0.25:0") from None
    if not 0 < float(share) < 1:
        raise ConfigError(f"split={name!r}: the share of novel classes must lie between 0 and 1")
    return sorted(drawable, key=lambda i: sha256(f"{key}:{classes[i]}".encode()).digest())[:count]
