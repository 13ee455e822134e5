"""Similarity of features: closed forms against loops over pairs, planted directions, and which patches count."""

from itertools import combinations, product

import pytest
import torch
from torch.nn.functional import normalize

from wsis.core.types import Instances
from wsis.evaluation.features import FeatureSimilarity, auc, linear_probe, object_patches, pair_auc

PATCH = 4


def measured(features, truth, classes=4, valid=None, patch=PATCH):
    similarity = FeatureSimilarity(classes, features.shape[1])
    similarity.update(features, truth, patch, valid)
    return similarity.result()


def painted(grid, labels, crowd=None):
    """Instances of whole patches: grid of names [h, w], object i has the name i + 1."""
    grid = torch.as_tensor(grid)
    masks = grid[None] == torch.arange(1, len(labels) + 1)[:, None, None]
    masks = masks.repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)
    return Instances.make(masks, torch.tensor(labels), crowd=crowd)


def planted(grid, directions):
    """Features [D, h, w] that are directions[name] in the patches of that name."""
    return torch.as_tensor(directions, dtype=torch.float32)[torch.as_tensor(grid)].permute(2, 0, 1)


def mean(values):
    return sum(values) / len(values)


def by_loops(features, truth, valid):
    """The six numbers by their words: pixels, patches and pairs one at a time."""
    apart, apart_patches, objects = [], [], []
    for image, instances, seen in zip(features.double(), truth, valid, strict=True):
        h, w = image.shape[1:]
        f = {(r, c): normalize(image[:, r, c], dim=0) for r, c in product(range(h), range(w))}
        cell = {(r, c): (slice(r * PATCH, (r + 1) * PATCH), slice(c * PATCH, (c + 1) * PATCH)) for r, c in f}
        bare = [p for p in f if seen[cell[p]].all() and not instances.masks[:, *cell[p]].any()]
        mine = []
        for mask, label, crowd in zip(instances.masks, instances.labels, instances.crowd, strict=True):
            pixels = {p: int((mask & seen)[cell[p]].sum()) for p in f}
            if crowd or not any(pixels.values()):
                continue
            half = [p for p in f if pixels[p] >= PATCH**2 / 2]
            mine.append((int(label), half or [max(f, key=lambda p: pixels[p])]))
        objects += [(label, [f[p] for p in patches]) for label, patches in mine]
        if not mine or not bare:
            continue
        behind = normalize(mean([f[p] for p in bare]), dim=0)
        apart.append(mean([normalize(mean([f[p] for p in patches]), dim=0) @ behind for _, patches in mine]))
        front = {p for _, patches in mine for p in patches}
        apart_patches.append(mean([f[p] @ f[q] for p, q in product(front, bare)]))
    unit = [(label, normalize(mean(vectors), dim=0)) for label, vectors in objects]
    cosines = [(a, b, u @ v) for (a, u), (b, v) in combinations(unit, 2)]
    patches = [(a, b, mean([p @ q for p, q in product(s, t)])) for (a, s), (b, t) in combinations(objects, 2)]

    def within(pairs):
        kinds = {a for a, b, _ in pairs if a == b}
        return mean([mean([v for a, b, v in pairs if a == b == kind]) for kind in kinds])

    values = [mean(apart), mean(apart_patches)]
    values += [mean([v for a, b, v in pairs if a != b]) for pairs in (cosines, patches)]
    values += [within(cosines), within(patches)]
    return [float(v) for v in values]


def scenes(seed, count=4, height=5, width=6):
    """Random images: overlapping rectangles of any size, some of them crowds, some pixels void."""
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(count, 7, height, width, generator=draw)
    features += 2 * torch.randn(1, 7, 1, 1, generator=draw)
    truth = []
    for _ in range(count):
        y, x = (torch.arange(side * PATCH) for side in (height, width))
        corner = torch.rand(4, 2, generator=draw) * torch.tensor([height, width]) * PATCH * 0.8
        end = corner + 1 + torch.rand(4, 2, generator=draw) * 9
        rows = (y >= corner[:, :1]) & (y < end[:, :1])
        columns = (x >= corner[:, 1:]) & (x < end[:, 1:])
        labels = torch.randint(0, 3, (4,), generator=draw)
        crowd = torch.rand(4, generator=draw) < 0.2
        truth.append(Instances.make(rows[:, :, None] & columns[:, None], labels, crowd=crowd))
    valid = torch.rand(count, height * PATCH, width * PATCH, generator=draw) > 0.003
    valid[:, :, -PATCH // 2 :] = False
    return features, truth, valid


class TestClosedForms:
    @pytest.mark.parametrize("seed", range(5))
    def test_equal_loops_over_pairs(self, seed):
        features, truth, valid = scenes(seed)
        expected = by_loops(features, truth, valid)
        assert list(measured(features, truth, valid=valid).values()) == pytest.approx(expected, abs=1e-12)

    def test_names(self):
        names = ("foreground_background", "inter_class", "intra_class")
        assert list(measured(*scenes(0)[:2])) == [n + level for n in names for level in ("", "_patches")]

    def test_batches_do_not_matter(self):
        features, truth, valid = scenes(1)
        parts = FeatureSimilarity(4, 7)
        for i in (2, 0, 3, 1):
            parts.update(features[[i]], [truth[i]], PATCH, valid[[i]])
        assert parts.result() == pytest.approx(measured(features, truth, valid=valid), abs=1e-12)

    def test_length_of_features_does_not_matter(self):
        features, truth, _ = scenes(2)
        lengths = 0.1 + torch.rand(len(features), 1, 5, 6, generator=torch.Generator().manual_seed(0))
        assert measured(features * lengths, truth) == pytest.approx(measured(features, truth), abs=1e-6)

    def test_memory_does_not_grow(self):
        similarity = FeatureSimilarity(4, 7)
        held = {k: v.shape for k, v in vars(similarity).items() if isinstance(v, torch.Tensor)}
        similarity.update(*scenes(3)[:2], PATCH)
        assert {k: getattr(similarity, k).shape for k in vars(similarity) if k != "images"} == held

    def test_halves_are_summed_in_float64(self):
        features, truth, _ = scenes(4)
        half = features.bfloat16()
        assert measured(half, truth) == pytest.approx(measured(half.double(), truth), abs=1e-12)


class TestPlanted:
    GRID = ((0, 0, 0, 0), (1, 1, 0, 2), (1, 1, 0, 3))

    def test_one_direction_each_gives_their_cosine(self):
        grid = [[0, 0], [0, 1]]
        found = measured(planted(grid, [[1, 0], [3, 4]])[None], [painted(grid, [2])])
        assert found["foreground_background"] == pytest.approx(0.6)
        assert found["foreground_background_patches"] == pytest.approx(0.6)

    def test_orthogonal_classes_and_identical_objects(self):
        grid = torch.tensor(self.GRID)
        directions = torch.eye(3)[[0, 1, 2, 1]]  # objects 1 and 3 look alike, object 2 does not
        found = measured(planted(grid, directions)[None], [painted(grid, [0, 1, 0])])
        assert [found[k] for k in ("inter_class", "inter_class_patches")] == pytest.approx([0, 0])
        assert [found[k] for k in ("intra_class", "intra_class_patches")] == pytest.approx([1, 1])

    def test_parts_make_the_two_levels_differ(self):
        """Two objects of the same two orthogonal parts: equal as wholes, half of their patches' pairs alike."""
        grid = [[1, 2, 0, 1, 2]]
        truth = painted([[1, 1, 0, 2, 2]], [0, 0])
        found = measured(planted(grid, torch.eye(3))[None], [truth])
        assert found["intra_class"] == pytest.approx(1)
        assert found["intra_class_patches"] == pytest.approx(0.5)

    def test_noise_has_no_direction(self):
        draw, images = torch.Generator().manual_seed(0), 20
        features = torch.randn(images, 64, 3, 4, generator=draw)
        found = measured(features, [painted(self.GRID, [0, 1, 2])] * images)
        pairs = (3 * images) ** 2 / 3
        assert abs(found["inter_class"]) < 5 / (64 * pairs) ** 0.5

    def test_every_class_weighs_the_same_within(self):
        grid = [[1, 2, 3, 4, 5]]
        directions = torch.eye(6)[[0, 1, 1, 1, 2, 3]]  # three of class 0 alike, two of class 1 not
        found = measured(planted(grid, directions)[None], [painted(grid, [0, 0, 0, 1, 1])])
        assert found["intra_class"] == pytest.approx(0.5)


class TestWhatCounts:
    VALID = torch.ones(PATCH, 2 * PATCH, dtype=torch.bool)

    def patches(self, rows, columns, valid=VALID):
        mask = torch.zeros(1, PATCH, 2 * PATCH, dtype=torch.bool)
        mask[:, rows, columns] = True
        return object_patches(mask, valid, PATCH)[0].tolist()

    def test_half_a_patch_is_enough(self):
        assert self.patches(slice(None), slice(0, 6)) == [True, True]
        assert self.patches(slice(None), slice(0, 5)) == [True, False]

    def test_a_small_object_has_its_best_patch_only(self):
        assert self.patches(0, slice(3, 6)) == [False, True]

    def test_of_equal_patches_one(self):
        assert self.patches(0, slice(3, 5)) == [True, False]

    def test_pixels_that_are_not_valid_cover_nothing(self):
        valid = self.VALID.clone()
        valid[:, :5] = False
        assert self.patches(slice(None), slice(0, 6), valid) == [False, True]
        assert self.patches(slice(None), slice(0, 5), valid) == [False, False]

    def test_an_object_without_valid_pixels_is_no_object(self):
        grid = [[1, 0, 2, 3]]
        valid = torch.ones(1, PATCH, 4 * PATCH, dtype=torch.bool)
        valid[..., :PATCH] = False
        features, truth = planted(grid, torch.eye(4)[[0, 1, 2, 1]])[None], painted(grid, [0, 0, 1])
        found = measured(features, [truth], valid=valid)
        assert found["inter_class"] == pytest.approx(0)
        assert found["intra_class"] != found["intra_class"]

    def test_void_is_no_background(self):
        grid = [[1, 0, 2]]  # the patch named 2 would make foreground and background alike
        valid = torch.ones(1, PATCH, 3 * PATCH, dtype=torch.bool)
        valid[0, 0, -1] = False
        features, truth = planted(grid, [[1, 0], [0, 1], [0, 1]])[None], [painted([[1, 0, 0]], [0])]
        assert measured(features, truth, valid=valid)["foreground_background"] == pytest.approx(0)
        assert measured(features, truth)["foreground_background"] > 0.5

    def test_a_touched_patch_is_no_background(self):
        masks = painted([[1, 0, 0]], [0]).masks
        masks[0, 0, -1] = True
        truth = Instances.make(masks, torch.zeros(1))
        features = planted([[1, 0, 2]], [[1, 0], [0, 1], [0, 1]])[None]
        assert measured(features, [truth])["foreground_background"] == pytest.approx(0)

    def test_a_crowd_is_neither(self):
        crowd = torch.tensor([False, True])
        truth = painted([[1, 0, 2]], [0, 1], crowd)
        found = measured(planted([[1, 0, 2]], [[1, 0], [0, 1], [0, 1]])[None], [truth])
        assert found["foreground_background"] == pytest.approx(0)
        assert found["inter_class"] != found["inter_class"]

    def test_padding_is_no_background(self):
        truth = painted([[1, 0]], [0])
        features = planted([[1, 0, 2], [2, 2, 2]], [[1, 0], [0, 1], [0, 1]])[None]
        everywhere = torch.ones(1, 2 * PATCH, 3 * PATCH, dtype=torch.bool)
        for valid in (None, everywhere):
            found = measured(features, [truth], valid=valid)
            assert found["foreground_background"] == pytest.approx(0)

    def test_images_without_objects_or_background_are_left_out_of_the_first(self):
        grids = [[[0, 1]], [[0, 0]], [[1, 1]]]
        truth = [painted(grids[0], [0]), painted(grids[1], []), painted(grids[2], [1])]
        features = torch.stack([planted(g, [[1.0, 0], [0.6, 0.8]]) for g in grids])
        found = measured(features, truth)
        assert found["foreground_background"] == pytest.approx(0.6)
        assert found["inter_class"] == pytest.approx(1)  # the object without background still counts here

    def test_nothing_to_measure_is_nan(self):
        found = measured(torch.ones(1, 2, 1, 2), [Instances.none(PATCH, 2 * PATCH)])
        assert all(value != value for value in found.values())

    def test_masks_larger_than_the_features_are_refused(self):
        with pytest.raises(ValueError, match="image 0.*resize"):
            measured(torch.ones(1, 2, 1, 2), [Instances.none(PATCH, 2 * PATCH + 1)])

    def test_the_number_of_images_must_agree(self):
        with pytest.raises(ValueError):
            measured(torch.ones(2, 2, 1, 2), [Instances.none(PATCH, 2 * PATCH)])


def test_auc_of_known_orders():
    positive = torch.tensor([True, True, False, False]).numpy()
    values = torch.tensor([4.0, 2.0, 3.0, 1.0]).numpy()
    assert auc(values, positive) == 0.75
    assert auc(values * 0, positive) == 0.5
    assert auc(values, positive | True) != auc(values, positive | True)  # NaN


def test_pairs_count_from_objects_on():
    owner = torch.tensor([[1, 1, 2, 0]])
    same = (owner[:, :, None] == owner[:, None]).float()
    same[0, 3] = torch.tensor([9.0, 9, 9, 0])  # from the background: does not count
    others = ~torch.eye(4, dtype=torch.bool)
    assert pair_auc(same, owner, others) == 1.0 and pair_auc(-same, owner, others) == 0.0


def test_linear_probe_names_what_a_line_separates():
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    x = x[x[:, 0].abs() > 0.4]
    labels = (x[:, 0] > 0).long()
    assert torch.equal(linear_probe(x, labels, 2, 3 * x, ridge=1e-4), labels)
