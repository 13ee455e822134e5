import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from wsis.core.errors import ConfigError
from wsis.data.world import CLASSES, PARTS, SPLITS, STUFF, Scene, World, WorldConfig
from wsis.data.world.drawings import DRAWINGS
from wsis.data.world.shapes import TINTS, box, limb, oval
from wsis.data.world.sprites import distances

PLAIN = {"contact": 0.0, "occlusion": 0.0, "nested": 0.0, "objects": (1, 2)}
AROUND = np.ones((3, 3), bool)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    world = World(length=60)
    return [world.scene(i) for i in range(60)]


def same_class_pairs(scene: Scene) -> list[tuple[np.ndarray, np.ndarray]]:
    masks, labels = scene.masks.numpy(), scene.labels.tolist()
    pairs = [(a, b) for a in range(len(labels)) for b in range(len(labels)) if a != b and labels[a] == labels[b]]
    return [(masks[a], masks[b]) for a, b in pairs]


def touches(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((ndimage.binary_dilation(a, AROUND) & b).any())


def is_split(mask: np.ndarray) -> bool:
    """In two pieces or more, of at least 6 pixels each."""
    sizes = np.bincount(ndimage.label(mask, AROUND)[0].ravel())[1:]
    return int((sizes >= 6).sum()) >= 2


def center_in_box(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether the middle of a's box lies in b's box."""
    (ay, ax), (by, bx) = (ndimage.find_objects(m.astype(int))[0] for m in (a, b))
    return by.start <= (ay.start + ay.stop) / 2 <= by.stop and bx.start <= (ax.start + ax.stop) / 2 <= bx.stop


def test_order_of_access_does_not_matter():
    forward, backward = World(length=6), World(length=6)
    a = [forward.scene(i) for i in range(6)]
    b = [backward.scene(i) for i in reversed(range(6))][::-1]
    assert all(torch.equal(x.image, y.image) and torch.equal(x.part_map, y.part_map) for x, y in zip(a, b, strict=True))


def test_splits_and_seeds_share_no_scene_and_no_id():
    worlds = [World(split, length=4) for split in SPLITS] + [World(length=4, seed=1)]
    assert len({world.scene(i).image.numpy().tobytes() for world in worlds for i in range(4)}) == 16
    assert len({world[i].image_id for world in worlds[:3] for i in range(4)}) == 12


def test_masks_are_disjoint_and_make_up_the_things_map(scenes):
    for scene in scenes:
        masks = scene.masks
        assert int(masks.sum(0).max()) <= 1
        assert torch.equal(masks.any(0), scene.object_class_map > 0)
        for mask, label in zip(masks, scene.labels, strict=True):
            assert (scene.object_class_map[mask] == label + 1).all()


def test_every_object_pixel_belongs_to_a_part_and_no_other_does(scenes):
    for scene in scenes:
        assert torch.equal(scene.part_map > 0, scene.instance_map > 0)
        assert int(scene.part_map.max()) <= len(PARTS)


def test_stuff_covers_the_picture_in_two_regions_or_more(scenes):
    for scene in scenes:
        assert int(scene.stuff_map.min()) >= 1 and int(scene.stuff_map.max()) <= len(STUFF)
        assert len(scene.stuff_map.unique()) >= 2


def test_semantic_map_holds_things_before_stuff(scenes):
    for scene in scenes:
        is_thing = scene.instance_map > 0
        assert torch.equal(scene.semantic[is_thing], scene.object_class_map[is_thing])
        assert torch.equal(scene.semantic[~is_thing].long(), scene.stuff_map[~is_thing] + len(CLASSES))


def test_sample_says_what_the_scene_holds():
    world = World("val", length=5)
    for i in range(5):
        scene, sample = world.scene(i), world[i]
        assert sample.tags.nonzero()[:, 0].tolist() == sorted(set(scene.labels.tolist()))
        assert torch.equal(sample.truth.masks, scene.masks) and torch.equal(sample.truth.labels, scene.labels)
        assert torch.equal(sample.true_semantic, scene.object_class_map)
        assert sample.image.dtype == torch.uint8 and sample.size == (128, 128)
        assert sample.semantic_map is None and sample.points is None
    assert world[3].file_name == "val_000003.png"


def test_all_classes_parts_and_stuff_occur(scenes):
    assert set(torch.cat([s.labels for s in scenes]).tolist()) == set(range(len(CLASSES)))
    assert len(torch.stack([s.part_map for s in scenes]).unique()) == len(PARTS) + 1
    assert len(torch.stack([s.stuff_map for s in scenes]).unique()) == len(STUFF)


def test_a_subset_of_the_classes_is_relabelled():
    config = WorldConfig(classes=("robot", "cat"))
    world = World(length=12, config=config)
    assert world.classes == ("robot", "cat")
    labels = torch.cat([world.scene(i).labels for i in range(12)])
    assert set(labels.tolist()) == {0, 1} and world[0].tags.shape == (2,)
    robot_parts = {PARTS.index("panel") + 1, PARTS.index("arm") + 1}
    for scene in map(world.scene, range(12)):
        for mask, label in zip(scene.masks, scene.labels, strict=True):
            seen = set(scene.part_map[mask].unique().tolist())
            assert label == 0 or not seen & robot_parts


def test_what_can_hardly_be_seen_is_left_out_everywhere():
    world = World(length=6, config=WorldConfig(objects=(25, 25), object_size=(0.04, 0.6)))
    dropped = 0
    for scene in map(world.scene, range(6)):
        dropped += 25 - len(scene.labels)
        assert all(int(mask.sum()) >= 16 for mask in scene.masks)
        assert torch.equal(scene.part_map > 0, scene.instance_map > 0)
    assert dropped > 0


@pytest.mark.parametrize(("probability", "least", "most"), [(0.0, 0.0, 0.1), (1.0, 0.9, 1.0)])
@pytest.mark.parametrize(
    ("knob", "holds"),
    [
        ("contact", lambda scene: any(touches(a, b) for a, b in same_class_pairs(scene))),
        ("occlusion", lambda scene: any(is_split(mask) for mask in scene.masks.numpy())),
        ("nested", lambda scene: any(center_in_box(a, b) for a, b in same_class_pairs(scene))),
    ],
)
def test_what_is_asked_for_happens(knob, holds, probability, least, most):
    world = World(length=30, config=WorldConfig(**PLAIN | {knob: probability}))
    assert least <= np.mean([holds(world.scene(i)) for i in range(30)]) <= most


def test_camouflage_brings_objects_closer_to_their_ground():
    def contrast(camouflage: float) -> float:
        world = World(length=30, config=WorldConfig(**PLAIN, camouflage=camouflage, context=0.0))
        distance = []
        for scene in map(world.scene, range(30)):
            ring = torch.from_numpy(ndimage.binary_dilation((scene.instance_map > 0).numpy(), iterations=6))
            inside = scene.image[:, scene.instance_map > 0].float().mean(1)
            outside = scene.image[:, ring & (scene.instance_map == 0)].float().mean(1)
            distance.append(float((inside - outside).norm()))
        return float(np.mean(distance))

    assert contrast(1.0) < 0.8 * contrast(0.0)


def test_texture_zero_paints_flat_ground():
    def roughness(texture: float) -> float:
        world = World(length=8, config=WorldConfig(**PLAIN, texture=texture))
        steps = [s.image.float().diff(dim=-1).abs().mean(0) for s in map(world.scene, range(8))]
        return float(torch.stack(steps).median())

    assert roughness(0.0) < 0.3 * roughness(1.0)


def test_colour_alone_does_not_solve_it(scenes):
    """The class whose mean colour is nearest to the pixel's; guessing would be right 1 time in 17."""
    pixels = torch.stack([s.image for s in scenes]).float().permute(0, 2, 3, 1)
    truth = torch.stack([s.object_class_map for s in scenes]).long()
    means = torch.stack([pixels[:40][truth[:40] == c].mean(0) for c in range(len(CLASSES) + 1)])
    found = torch.cdist(pixels[40:].reshape(-1, 3), means).argmin(1)
    truth = truth[40:].flatten()
    recall = [float((found[truth == c] == c).float().mean()) for c in truth.unique()]
    assert np.mean(recall) < 0.2


def test_a_scene_is_the_same_at_another_size():
    for i in range(4):
        small, large = (World(length=4, config=WorldConfig(size=n)).scene(i) for n in (96, 192))
        assert torch.equal(small.labels, large.labels)
        a, b = small.instance_map > 0, (large.instance_map > 0)[::2, ::2]
        assert (a & b).sum() > 0.8 * (a | b).sum()


def test_a_world_is_a_finite_sequence():
    assert len(list(World(length=3))) == 3
    with pytest.raises(IndexError, match="scene 3 of a world of 3"):
        World(length=3)[3]


@pytest.mark.parametrize(
    "values, words",
    [
        ({"size": 8}, "size=8"),
        ({"objects": (3, 2)}, "fewest <= most"),
        ({"object_size": (0.0, 0.5)}, "object_size"),
        ({"contact": 1.5}, "contact=1.5"),
        ({"classes": ("cat", "unicorn")}, "unicorn.*name one or more of cat"),
        ({"classes": ()}, "name one or more"),
        ({"classes": ("cat", "cat")}, "each once"),
    ],
)
def test_bad_settings_are_named(values, words):
    with pytest.raises(ConfigError, match=words):
        WorldConfig(**values)


@pytest.mark.parametrize("values", [{"split": "dev"}, {"length": -1}, {"seed": -1}])
def test_bad_worlds_are_named(values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        World(**values)


def test_distances_are_exact_where_geometry_says_so():
    x, y = np.meshgrid(np.linspace(-2, 2, 41), np.linspace(-2, 2, 41))
    grid = np.stack([x, y, np.ones_like(x)]).reshape(3, -1).astype(np.float32)
    parts = [
        oval("body", "main", 0.5, 0.25, 0.75),
        limb("leg", "main", -1, 0, 1, 0, 0.25),
        box("wall", "main", -1, -0.5, 1, 0.5, soft=0.0),
    ]
    disc, line, wall = distances(parts, grid).reshape(3, 41, 41)
    np.testing.assert_allclose(disc, np.hypot(x - 0.5, y - 0.25) - 0.75, atol=1e-3)
    np.testing.assert_allclose(line, np.hypot(np.maximum(np.abs(x) - 1, 0), y) - 0.25, atol=1e-5)
    dx, dy = np.abs(x) - 1, np.abs(y) - 0.5
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    np.testing.assert_allclose(wall, outside + np.minimum(np.maximum(dx, dy), 0), atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(CLASSES), st.integers(0, 2**31))
def test_drawings_are_made_of_known_parts_and_convex_polygons(name, seed):
    for part in DRAWINGS[name](np.random.default_rng(seed)):
        assert part.name in PARTS and part.tint in TINTS and part.bulge > 0
        if part.kind == "poly":
            corners = np.array(part.geometry[1:]).reshape(-1, 2)
            corners = corners[(np.roll(corners, -1, axis=0) != corners).any(1)]
            a, b = np.roll(corners, -1, axis=0) - corners, corners - np.roll(corners, 1, axis=0)
            turns = b[:, 0] * a[:, 1] - b[:, 1] * a[:, 0]
            assert (turns > -1e-9).all() or (turns < 1e-9).all()
