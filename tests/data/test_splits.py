"""Splits into base and novel classes are those that were published, and random ones depend on names alone."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsis.core.errors import ConfigError
from wsis.data.semantic import SemanticWorld
from wsis.data.splits import ADE20K, ADE_SPLITS, COCO_ORDER, COCO_SPLITS, COCO_STUFF, WORLD_SPLIT, find_split
from wsis.data.world import STUFF, World
from wsis.experiments.tables import find
from wsis.weak.sources import WORLDS

# sha256 of the ids in ascending order, joined by spaces
_COCO = "f62bfa8ad697 4205cd247047 4b8678ce4a76 8163331c9782 7d08c7db3311 3f0370eaf94a 31f52f0d2909 576a874cce91 b63d5339b584"
_ADE = "1ca1bc057787 3f107fcf1831 824613d9d859 7975adc3955b"
CHECKSUMS = {
    data: {f"S{i}": total for i, total in enumerate(text.split(), 1)} for data, text in (("coco", _COCO), ("ade", _ADE))
}
COUNTS = {"S1": 43, "S2": 43, "S3": 43, "S4": 43, "S5": 51, "S6": 59, "S7": 68, "S8": 76, "S9": 85}
LISTS = {"coco": COCO_STUFF, "ade": ADE20K}
LETTERS = tuple("abcdefghijklmnop")


@pytest.mark.parametrize(("data", "name"), [(d, n) for d, splits in CHECKSUMS.items() for n in splits])
def test_splits_are_those_of_the_release(data, name):
    novel = find_split(name, LISTS[data])
    assert list(novel) == sorted(set(novel)) and len(novel) == (COUNTS[name] if data == "coco" else 38)
    assert novel[0] >= 0 and novel[-1] < len(LISTS[data])
    assert sha256(" ".join(map(str, novel)).encode()).hexdigest()[:12] == CHECKSUMS[data][name]


def test_every_published_split_has_a_checksum():
    assert CHECKSUMS["coco"].keys() == COCO_SPLITS.keys() and CHECKSUMS["ade"].keys() == ADE_SPLITS.keys()


def test_splits_with_more_novel_classes_contain_those_with_fewer():
    sets = [set(find_split(f"S{i}", COCO_STUFF)) for i in range(4, 10)]
    assert all(a < b for a, b in zip(sets, sets[1:], strict=False))
    assert len(set(COCO_ORDER)) == 100


@pytest.mark.parametrize(("name", "things"), [("S1", 21), ("S2", 19), ("S3", 24), ("S4", 19), ("S9", 39)])
def test_published_number_of_novel_things(name, things):
    assert sum(i < 80 for i in find_split(name, COCO_STUFF)) == things


def test_class_lists():
    assert len(set(COCO_STUFF)) == len(COCO_STUFF) == 171 and len(set(ADE20K)) == len(ADE20K) == 150
    assert COCO_STUFF[79:81] == ("toothbrush", "banner") and COCO_STUFF[170] == "wood"
    assert list(COCO_STUFF[80:]) == sorted(COCO_STUFF[80:])
    assert ADE20K[0] == "wall" and ADE20K[12] == "person" and ADE20K[149] == "flag"


@given(st.permutations(LETTERS), st.integers(0, 99))
def test_random_split_does_not_depend_on_the_order_of_classes(order, seed):
    novel = [{c[i] for i in find_split(f"random:0.25:{seed}", c)} for c in (LETTERS, order)]
    assert novel[0] == novel[1] and len(novel[0]) == 4


def test_random_splits_of_one_seed_are_nested_and_of_two_seeds_differ():
    quarter, half, other = (set(find_split(f"random:{s}", LETTERS)) for s in ("0.25:3", "0.5:3", "0.25:4"))
    assert quarter < half and len(half) == 8 and quarter != other


def test_each_tiny_split_of_table_3_has_one_novel_class_more():
    classes = SemanticWorld(World(config=WORLDS["tiny"])).classes
    splits = dict.fromkeys(row.settings("tiny")["split"] for row in find("simformer.table3")[0].rows)
    sets = [set(find_split(split, classes)) for split in splits]
    assert len(sets) == 6
    assert all(a < b and len(b - a) == 1 for a, b in zip(sets, sets[1:], strict=False))


def test_named_classes_are_novel():
    assert find_split("names: c, a", LETTERS) == (0, 2)
    assert find_split("names:oak, L.", ("elm", "oak, L.")) == (1,), "a name may hold a comma"


@pytest.mark.parametrize("layout", ["coco", "ade"])
@pytest.mark.parametrize("config", [None, WORLDS["tiny"]])
def test_split_of_the_world_has_novel_things_and_novel_stuff(layout, config):
    classes = SemanticWorld(World(config=config), layout).classes
    novel = {classes[i] for i in find_split(WORLD_SPLIT, classes)}
    assert len(novel - {*STUFF, "ground"}) >= 2 and len(novel & set(STUFF)) >= 1


@pytest.mark.parametrize(
    ("name", "classes", "words"),
    [
        ("S1", LETTERS, "is not for these 16 classes"),
        ("S1", COCO_STUFF[::-1], "in their order"),
        ("S10", COCO_STUFF, "COCO-Stuff-10K has S1, S2"),
        ("S5", ADE20K, "ADE20K has S1, S2, S3, S4; for any data"),
        ("random:half", LETTERS, "write random:SHARE:SEED"),
        ("random:nan:0", LETTERS, "write random:SHARE:SEED"),
        ("random:1.5:0", LETTERS, "between 0 and 1"),
        ("random:0.01:0", LETTERS, "no class is novel"),
        ("random:0.99:0", LETTERS, "all 16 classes are novel"),
        ("names:", LETTERS, "no class is novel"),
        ("names:a,zebra", LETTERS, "'zebra' is no class of the data"),
    ],
)
def test_errors(name, classes, words):
    with pytest.raises(ConfigError, match=words):
        find_split(name, classes)
