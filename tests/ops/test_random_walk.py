"""Sinkhorn scaling and walks on graphs whose transition matrix, or whose spread, is known."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.grid_walk import dense
from wsis.core.errors import ConfigError
from wsis.ops.random_walk import (
    Transition,
    grid_transition,
    neighbors,
    offsets,
    path,
    path_maximum,
    sinkhorn,
    walk,
    walk_each,
    walk_limit,
)


def positive(n=24, batch=2, seed=0, dtype=torch.float64):
    """Similarity without any symmetry, entries in (0.05, 1.05)."""
    return torch.rand(batch, n, n, generator=torch.Generator().manual_seed(seed), dtype=dtype) + 0.05


def columns(n, k, batch=1, seed=0, dtype=torch.float64):
    """Random distributions over n tokens."""
    drawn = torch.rand(batch, n, k, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return drawn / drawn.sum(1, keepdim=True)


def blocks(*sizes):
    """The transition of blocks without any edge between them: 1 / size within."""
    return Transition(
        torch.block_diag(*(torch.ones(s, s).double() / s for s in sizes))[None], torch.ones(1, sum(sizes))
    )


def halves(n, within):
    """Two blocks of n / 2 tokens: a hop stays in its block with probability `within`."""
    block = torch.arange(n) < n // 2
    same = (block[:, None] == block).double()
    matrix = (same * within + (1 - same) * (1 - within)) / (n / 2)
    return Transition(matrix[None], torch.ones(1, n).double()), block


# --- Sinkhorn


def test_rows_and_columns_sum_to_one_and_nothing_is_negative():
    matrix = sinkhorn(positive(), 20).dense()
    assert torch.allclose(matrix.sum(1), torch.ones(2, 24).double(), atol=1e-6)
    assert torch.allclose(matrix.sum(2), torch.ones(2, 24).double(), atol=1e-6)
    assert torch.allclose(matrix, matrix.mT, atol=1e-15)
    assert (matrix >= 0).all()


def test_a_transition_matrix_is_a_fixed_point():
    matrix = sinkhorn(positive(), 60).dense()
    assert torch.allclose(sinkhorn(matrix, 1).dense(), matrix, atol=1e-12)


def test_one_factor_for_each_row_and_its_column_beforehand_changes_nothing():
    similarity, factors = positive(), columns(24, 1, batch=2, seed=3)[..., 0] * 24 + 0.5
    scaled = factors[:, :, None] * similarity * factors[:, None]
    assert torch.allclose(sinkhorn(scaled, 80).dense(), sinkhorn(similarity, 80).dense(), atol=1e-12)


def test_uniform_blocks_become_one_over_their_size():
    similarity = torch.block_diag(*(torch.full((s, s), v).double() for s, v in ((2, 7.0), (3, 0.01), (5, 1.0))))[None]
    assert torch.allclose(sinkhorn(similarity, 60).dense(), blocks(2, 3, 5).matrix, atol=1e-9)


def test_one_token_keeps_everything():
    assert sinkhorn(torch.tensor([[[3e-4]]]), 20).dense() == pytest.approx(1)


def test_invalid_tokens_have_no_edge_and_the_others_do_as_if_they_were_alone():
    similarity = positive()
    valid = torch.rand(2, 24, generator=torch.Generator().manual_seed(1)) < 0.7
    matrix = sinkhorn(similarity, 40, valid).dense()
    for b in range(2):
        rows = valid[b].nonzero()[:, 0]
        alone = sinkhorn(similarity[b, rows][:, rows][None], 40).dense()[0]
        assert torch.allclose(matrix[b, rows][:, rows], alone, atol=1e-12)
    assert matrix[~valid].abs().max() == matrix.mT[~valid].abs().max() == 0


def test_a_crop_without_a_valid_token_gives_zeros_and_leaves_the_others_alone():
    valid = torch.tensor([[True], [False]]).expand(2, 24)
    matrix = sinkhorn(positive(), 20, valid).dense()
    assert matrix[1].eq(0).all()
    assert torch.allclose(matrix[0], sinkhorn(positive(), 20).dense()[0], atol=1e-12)


def test_halves_that_underflowed_are_computed_in_float32():
    similarity = positive(dtype=torch.float32)
    similarity[similarity < 0.4] = 1e-9  # below the least number that float16 has
    similarity[:, 3] = 1e-9
    transition = sinkhorn(similarity.half(), 40)
    assert transition.matrix.dtype == transition.scale.dtype == torch.float32
    assert torch.allclose(transition.dense().sum(1), torch.ones(2, 24), atol=1e-3)


def test_a_token_like_nothing_at_all_keeps_to_itself():
    similarity = positive()
    similarity[:, 3] = similarity[:, :, 3] = 0
    matrix = sinkhorn(similarity, 60).dense()
    assert torch.allclose(matrix.sum(1), torch.ones(2, 24).double(), atol=0.02)
    assert (matrix[:, 3, 3] > 0.98).all()


def test_autocast_changes_nothing():
    similarity, start = positive(dtype=torch.float32), columns(24, 2, batch=2, dtype=torch.float32)
    expected = walk(sinkhorn(similarity, 20), start, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(walk(sinkhorn(similarity, 20), start, 3), expected)


def test_scaling_without_an_iteration_is_refused():
    with pytest.raises(ConfigError, match="0"):
        sinkhorn(positive(), 0)


# --- walks


@pytest.mark.parametrize("hops", [0, 1, 2, 3, 4])
def test_walk_is_the_power_of_the_matrix(hops):
    transition, start = sinkhorn(positive(), 40), columns(24, 3, batch=2)
    expected = torch.linalg.matrix_power(transition.dense(), hops) @ start
    assert torch.allclose(walk(transition, start, hops), expected, atol=1e-15)


@pytest.mark.parametrize("hops", [1, 2, 3, 4, None])
def test_nothing_leaves_a_block_and_nothing_is_lost(hops):
    transition, start = blocks(2, 3, 5), torch.zeros(1, 10, 1).double()
    start[0, 3] = 1
    arrived = walk_limit(transition, start, 0.25) if hops is None else walk(transition, start, hops)
    outside = torch.ones(10).bool()
    outside[2:5] = False
    assert arrived[0, outside].eq(0).all()
    assert arrived.sum().item() == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("within", [0.6, 0.9, 0.2])
def test_contrast_of_two_halves_shrinks_by_a_known_factor(within):
    transition, block = halves(12, within)
    start = block.double()[None, :, None] / 6
    for hops in (1, 2, 3, 4):
        arrived = walk(transition, start, hops)[0, :, 0]
        difference = arrived[block].mean() - arrived[~block].mean()
        assert difference.item() * 6 == pytest.approx((2 * within - 1) ** hops, abs=1e-14)


@pytest.mark.parametrize("beta", [0.25, 0.6])
def test_contrast_of_two_halves_in_the_limit(beta):
    transition, block = halves(12, 0.9)
    arrived = walk_limit(transition, block.double()[None, :, None] / 6, beta)[0, :, 0]
    difference = (arrived[block].mean() - arrived[~block].mean()).item() * 6
    assert difference == pytest.approx((1 - beta) / (1 - beta * 0.8), abs=1e-14)


def test_a_long_walk_forgets_where_it_began():
    transition = sinkhorn(positive(), 40)
    assert torch.allclose(walk(transition, columns(24, 2, batch=2), 60), torch.tensor(1 / 24).double(), atol=1e-8)


def test_stages_of_a_walk_begin_with_the_start():
    transition, start = sinkhorn(positive(), 20), columns(24, 2, batch=2)
    stages = walk_each(transition, start, 3)
    assert stages.shape == (4, 2, 24, 2)
    for hops, stage in enumerate(stages):
        assert torch.equal(stage, walk(transition, start, hops))


@pytest.mark.parametrize("beta", [0.25, 0.5, 0.9])
def test_limit_agrees_with_solving_and_with_the_inverse(beta):
    transition, start = sinkhorn(positive(), 60), columns(24, 2, batch=2)
    system = torch.eye(24).double() - beta * transition.dense()
    limit = walk_limit(transition, start, beta)
    assert torch.allclose(limit, (1 - beta) * torch.linalg.solve(system, start), rtol=0, atol=1e-15)
    assert torch.allclose(limit, (1 - beta) * torch.linalg.inv(system) @ start, rtol=0, atol=1e-15)
    assert torch.allclose(limit.sum(1), torch.ones(2, 2).double(), atol=1e-12)


def test_limit_reaches_the_precision_of_float32_in_twelve_products(monkeypatch):
    transition, start = sinkhorn(positive(n=200).float(), 40), columns(200, 2, batch=2).float()
    double, products, apply = transition.dense().double(), [], Transition.apply
    monkeypatch.setattr(Transition, "apply", lambda t, v: products.append(1) or apply(t, v))
    limit = walk_limit(transition, start, 0.25)
    expected = 0.75 * torch.linalg.solve(torch.eye(200).double() - 0.25 * double, start.double())
    assert len(products) == 12
    assert torch.allclose(limit.double(), expected, rtol=1e-5, atol=0)


def test_limit_without_hops_is_the_start_and_with_ever_more_of_them_even():
    transition, start = sinkhorn(positive(), 60), columns(24, 1, batch=2)
    assert torch.equal(walk_limit(transition, start, 0.0), start)
    off = [(walk_limit(transition, start, beta) * 24 - 1).abs().max().item() for beta in (0.5, 0.9, 0.99)]
    assert off[0] > 4 * off[1] > 32 * off[2]
    assert off[2] < 0.02


@given(st.integers(2, 12), st.integers(0, 2**16))
@settings(max_examples=30, deadline=None)
def test_renumbering_the_tokens_renumbers_the_result(n, seed):
    similarity, start = positive(n, 1, seed), columns(n, 2, seed=seed)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    for walked in (lambda t, u: walk(t, u, 3), lambda t, u: walk_limit(t, u, 0.25)):
        arrived = walked(sinkhorn(similarity, 20), start)
        moved = walked(sinkhorn(similarity[:, order][:, :, order], 20), start[:, order])
        assert torch.allclose(moved, arrived[:, order], atol=1e-14)


@given(st.integers(2, 12), st.integers(0, 5), st.integers(0, 2**16))
@settings(max_examples=30, deadline=None)
def test_what_is_sent_arrives(n, hops, seed):
    transition = sinkhorn(positive(n, 1, seed), 60)
    arrived = walk(transition, columns(n, 2, seed=seed), hops)
    assert torch.allclose(arrived.sum(1), torch.ones(1, 2).double(), atol=1e-9)
    assert (arrived >= 0).all()


@pytest.mark.parametrize("beta", [-0.1, 1.0, math.nan])
def test_a_walk_that_never_returns_has_no_limit(beta):
    with pytest.raises(ConfigError, match="beta="):
        walk_limit(blocks(2, 2), torch.ones(1, 4, 1), beta)


def test_negative_hops_are_refused():
    with pytest.raises(ConfigError, match="hops=-1"):
        walk(blocks(2, 2), torch.ones(1, 4, 1), -1)


# --- on a grid


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense_affinity(affinity, radius):
    """[B, n, n] of the affinities to near cells, symmetric, 1 on the diagonal: cell by cell."""
    batch, _, height, width = affinity.shape
    matrix = torch.eye(height * width).double().repeat(batch, 1, 1)
    for number, (dy, dx) in enumerate(offsets(radius)):
        for y, x in ((y, x) for y in range(height - dy) for x in range(width) if 0 <= x + dx < width):
            i, j = y * width + x, (y + dy) * width + x + dx
            matrix[:, i, j] = matrix[:, j, i] = affinity[:, number, y, x]
    return matrix


@pytest.mark.parametrize(("radius", "cells"), [(1.0, 1), (1.5, 9), (2.5, 21), (5, 69), (10, 305)])
def test_offsets_are_half_of_the_lattice_points_of_a_disc(radius, cells):
    found = offsets(radius)
    assert 2 * len(found) + 1 == cells
    assert len({*found, *((-y, -x) for y, x in found)}) == cells - 1


@pytest.mark.parametrize("size", [(6, 7), (2, 9), (1, 1), (3, 2)])
def test_walk_on_a_grid_is_the_dense_walk(size):
    affinity, maps = drawn(2, len(offsets(5)), *size), drawn(2, 3, *size, seed=1)
    transition = grid_transition(affinity, 5)
    matrix = dense_affinity(affinity, 5)
    matrix = matrix / matrix.sum(2, keepdim=True)
    assert torch.allclose(dense(transition), matrix, atol=1e-12)
    expected = torch.linalg.matrix_power(matrix, 8) @ maps.flatten(2).mT
    assert torch.allclose(walk(transition, maps, 8).flatten(2).mT, expected, rtol=0, atol=1e-12)


def test_rows_of_a_grid_sum_to_one_and_fixed_cells_keep_their_value():
    fixed = drawn(1, 6, 6, seed=2) > 0.5
    transition = grid_transition(drawn(1, len(offsets(3)), 6, 6), 3, fixed)
    assert torch.allclose(dense(transition).sum(2), torch.ones(1, 36).double(), atol=1e-12)
    maps = drawn(1, 2, 6, 6, seed=3)
    walked = walk(transition, maps, 50)
    kept = fixed[:, None].expand_as(maps)
    assert torch.equal(walked[kept], maps[kept]) and not torch.equal(walked, maps)
    for hops, stage in enumerate(walk_each(transition, maps, 5)):  # each its own, though hops share buffers
        assert torch.equal(stage, walk(transition, maps, hops))


def test_what_is_in_a_block_of_a_grid_stays_in_it():
    left = (torch.arange(8) < 4).expand(1, 8, 8).double()
    same = torch.stack([(left == other).double() for other in neighbors(left, 3)], 1)
    walked = walk(grid_transition(same, 3), left[:, None], 100)
    assert torch.allclose(walked[:, 0], left, atol=1e-12)


def test_neighbors_of_a_grid_are_those_at_the_offsets():
    maps = torch.arange(12).view(1, 3, 4)
    for (dy, dx), seen in zip(offsets(3), neighbors(maps, 3, -1), strict=True):
        for y, x in ((y, x) for y in range(3) for x in range(4)):
            inside = y + dy < 3 and 0 <= x + dx < 4
            assert seen[0, y, x] == (maps[0, y + dy, x + dx] if inside else -1)


def test_path_is_the_cells_near_the_line_and_the_same_backwards():
    assert path((0, 3)) == ((0, 0), (0, 1), (0, 2), (0, 3))
    assert set(path((2, -2))) == {(0, 0), (0, -1), (1, 0), (1, -1), (1, -2), (2, -1), (2, -2)}
    for y, x in offsets(10):
        cells = path((y, x))
        assert {(y - a, x - b) for a, b in cells} == set(cells) and {(0, 0), (y, x)} <= set(cells)


def test_maximum_on_a_path_agrees_with_brute_force():
    maps = drawn(2, 7, 9)
    found = path_maximum(maps, 5)
    for number, (dy, dx) in enumerate(offsets(5)):
        for y, x in ((y, x) for y in range(7 - dy) for x in range(9) if 0 <= x + dx < 9):
            line = [(a, b) for a in range(dy + 1) for b in range(-abs(dx), abs(dx) + 1) if 0 <= b * dx <= dx * dx]
            near = [(a, b) for a, b in line if abs(dx * a - dy * b) / math.hypot(dy, dx) < 1 - 1e-9]
            expected = torch.stack([maps[:, y + a, x + b] for a, b in near if dx or b == 0]).amax(0)
            assert torch.equal(found[:, number, y, x], expected)
