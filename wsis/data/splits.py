"""Which classes of a semantic data set are novel, and the class lists of COCO-Stuff-10K and ADE20K in their order.

A split is named S1-S9 for COCO-Stuff, S1-S4 for ADE20K (SimFormer, Chen et al., NeurIPS 2022; every image stays in the
training set), `random:SHARE:SEED` or `names:A,B,C` for any list. Numbers are labels 0..C-1; what is not novel is base.
"""

from collections.abc import Sequence
from hashlib import sha256

from wsis.core.errors import ConfigError


def _words(text: str) -> tuple[str, ...]:
    return tuple(" ".join(name.split()) for name in text.split(","))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split())


# 80 things in the order of COCO, 91 kinds of stuff in that of the alphabet
COCO_STUFF = _words("""
    person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign, parking
    meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag, tie,
    suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis
    racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot
    dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard,
    cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear, hair drier,
    toothbrush, banner, blanket, branch, bridge, building-other, bush, cabinet, cage, cardboard, carpet, ceiling-other,
    ceiling-tile, cloth, clothes, clouds, counter, cupboard, curtain, desk-stuff, dirt, door-stuff, fence, floor-marble,
    floor-other, floor-stone, floor-tile, floor-wood, flower, fog, food-other, fruit, furniture-other, grass, gravel,
    ground-other, hill, house, leaves, light, mat, metal, mirror-stuff, moss, mountain, mud, napkin, net, paper,
    pavement, pillow, plant-other, plastic, platform, playingfield, railing, railroad, river, road, rock, roof, rug,
    salad, sand, sea, shelf, sky-other, skyscraper, snow, solid-other, stairs, stone, straw, structural-other, table,
    tent, textile-other, towel, tree, vegetable, wall-brick, wall-concrete, wall-other, wall-panel, wall-stone,
    wall-tile, wall-wood, water-other, waterdrops, window-blind, window-other, wood
""")

# Scene Parsing's order, the first name of each class
ADE20K = _words("""
    wall, building, sky, floor, tree, ceiling, road, bed, window, grass, cabinet, sidewalk, person, earth, door, table,
    mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea, mirror, rug, field, armchair, seat,
    fence, desk, rock, wardrobe, lamp, tub, rail, cushion, base, box, column, signboard, chest of drawers, counter,
    sand, sink, skyscraper, fireplace, refrigerator, grandstand, path, stairs, runway, case, pool table, pillow, screen
    door, stairway, river, bridge, bookcase, blind, coffee table, toilet, flower, book, hill, bench, countertop, stove,
    palm, kitchen island, computer, swivel chair, boat, bar, arcade machine, hovel, bus, towel, light, truck, tower,
    chandelier, awning, street lamp, booth, tv, plane, dirt track, clothes, pole, land, bannister, escalator, ottoman,
    bottle, buffet, poster, stage, van, ship, fountain, conveyer belt, canopy, washer, plaything, pool, stool, barrel,
    basket, falls, tent, bag, minibike, cradle, oven, ball, food, step, tank, trade name, microwave, pot, animal,
    bicycle, lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, traffic light, tray, trash can, fan,
    pier, crt screen, plate, monitor, bulletin board, shower, radiator, glass, clock, flag
""")

# The order matters: S4 to S9 are the first 43, 51, 59, 68, 76 and 85, so that each contains the one before
COCO_ORDER = _numbers("""
    170 112 3 26 121 69 50 87 14 13 58 106 17 134 164 161 100 151 24 114 25 92 12 61 102 113 89 110 76 128 149 57 144
    137 46 27 83 133 162 37 109 33 40 82 47 0 31 111 66 91 120 136 39 157 163 45 28 131 9 49 19 155 150 1 4 68 130 42
    132 75 71 48 7 85 116 96 93 159 139 115 95 105 78 156 54 5 11 44 65 88 62 60 41 104 107 8 168 117 98 143
""")

COCO_SPLITS = {
    "S1": _numbers("""
        3 6 10 11 18 19 26 27 31 34 37 38 40 41 50 53 55 59 61 68 76 82 85 90 92 94 103 106 108 112 113 117 120 127 129
        131 141 146 155 156 159 166 169
    """),
    "S2": _numbers("""
        1 3 6 7 9 10 13 27 31 35 38 40 43 44 53 62 68 74 77 80 82 84 86 99 101 108 110 111 116 118 121 122 125 131 137
        141 148 153 155 156 160 161 166
    """),
    "S3": _numbers("""
        0 5 10 13 15 16 20 23 25 27 28 31 33 34 35 36 40 43 47 50 51 58 62 69 80 81 83 84 87 90 101 105 119 121 124 126
        137 138 150 154 157 158 164
    """),
    **{f"S{i}": COCO_ORDER[:count] for i, count in enumerate((43, 51, 59, 68, 76, 85), 4)},
}

ADE_SPLITS = {
    "S1": _numbers("""
        1 3 6 8 10 13 17 22 23 29 33 38 41 50 51 56 67 70 71 74 77 81 92 93 98 101 102 103 110 113 119 121 126 127 130
        136 147 149
    """),
    "S2": _numbers("""
        0 10 21 27 28 29 34 40 42 43 51 57 58 65 66 68 69 73 76 78 85 88 90 100 105 110 111 112 113 114 117 123 124 132
        134 139 142 146
    """),
    "S3": _numbers("""
        0 5 9 15 16 21 24 25 27 32 34 35 38 39 55 70 76 85 95 96 98 100 106 109 111 118 119 124 128 132 134 135 136 138
        140 141 143 144
    """),
    "S4": _numbers("""
        5 11 13 16 21 24 26 32 35 42 53 56 60 61 63 64 68 70 75 82 91 93 94 99 100 105 111 115 118 121 122 130 132 135
        137 138 141 143
    """),
}

WORLD_SPLIT = "random:0.25:48"
"""Of the embedded world: things and stuff are among its novel classes, in both layouts."""


def find_split(name: str, classes: Sequence[str]) -> tuple[int, ...]:
    """The novel labels of a split, in ascending order.

    `random:SHARE:SEED` draws by the names alone: the order of the classes does not matter, and a larger share of the
    same seed contains a smaller one.

    Raises:
        ConfigError: unknown split or class, S1-S9 for other classes than its own, no or every class novel.
    """
    kind, _, rest = name.partition(":")
    if kind == "random":
        novel = _random(name, rest, classes)
    elif kind == "names":
        novel = _named([n.strip() for n in rest.split(",") if n.strip()], classes)
    else:
        novel = _published(name, classes)
    if not 0 < len(novel) < len(classes):
        found = "no class is novel" if not novel else f"all {len(classes)} classes are novel"
        raise ConfigError(f"split={name!r}: {found}; there must be base classes with masks and novel ones")
    return tuple(sorted(novel))


def _published(name: str, classes: Sequence[str]) -> tuple[int, ...]:
    tables = {"COCO-Stuff-10K": (COCO_STUFF, COCO_SPLITS), "ADE20K": (ADE20K, ADE_SPLITS)}
    for data, (names, splits) in tables.items():
        if tuple(classes) == names:
            if name in splits:
                return splits[name]
            raise ConfigError(
                f"split={name!r}: {data} has {', '.join(splits)}, any data random:SHARE:SEED and names:A,B,C"
            )
    raise ConfigError(
        f"split={name!r} is not for these {len(classes)} classes: S1 and the like are for the lists "
        "wsis.data.splits.COCO_STUFF and ADE20K, in their order; use random:SHARE:SEED or names:A,B,C"
    )


def _random(name: str, rest: str, classes: Sequence[str]) -> tuple[int, ...]:
    try:
        share, seed = rest.split(":")
        count, key = round(float(share) * len(classes)), int(seed)
    except (ValueError, OverflowError):
        raise ConfigError(f"split={name!r}: write random:SHARE:SEED, as in random:0.25:0") from None
    if not 0 < float(share) < 1:
        raise ConfigError(f"split={name!r}: the share of novel classes must lie between 0 and 1")
    order = sorted(range(len(classes)), key=lambda i: sha256(f"{key}:{classes[i]}".encode()).digest())
    return tuple(order[:count])


def _named(names: Sequence[str], classes: Sequence[str]) -> tuple[int, ...]:
    unknown = [n for n in names if n not in classes]
    if unknown:
        raise ConfigError(f"split: {unknown[0]!r} is no class of the data; its classes are {', '.join(classes)}")
    return tuple({list(classes).index(n) for n in names})
