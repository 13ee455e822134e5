"""One-to-one matching: against every permutation, with targets that do not exist, and what it refuses."""

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsis.core.errors import ConfigError, TrainingError
from wsis.ops.matching import assign


def costs(queries, targets, seed, batch=1):
    return torch.randn(batch, queries, targets, generator=torch.Generator().manual_seed(seed))


def everyone(cost):
    return torch.ones(len(cost), cost.shape[2], dtype=torch.bool)


@given(st.integers(1, 6), st.integers(0, 4), st.integers(0, 2**16))
@settings(max_examples=40, deadline=None)
def test_no_permutation_is_cheaper(queries, targets, seed):
    targets = min(queries, targets)
    cost = costs(queries, targets, seed)
    found = assign(cost, everyone(cost))[0]
    assert len(set(found.tolist())) == targets
    columns = torch.arange(targets)
    best = min(cost[0, list(p), columns].sum() for p in permutations(range(queries), targets))
    torch.testing.assert_close(cost[0, found, columns].sum(), best)


def test_a_constant_on_a_target_changes_nothing_and_one_on_a_query_does():
    cost = costs(5, 3, 0)
    found = assign(cost, everyone(cost))
    assert torch.equal(assign(cost + torch.tensor([7.0, -3.0, 0.0]), everyone(cost)), found)
    dear = cost.clone()
    dear[0, found[0, 0]] += 100
    assert found[0, 0] not in assign(dear, everyone(cost))


def test_targets_that_do_not_exist_get_none_and_take_none():
    cost = torch.tensor([[[torch.nan, 0.0, torch.inf], [torch.nan, 1.0, 0.0]]] * 2)
    present = torch.tensor([[False, True, False], [False, True, False]])
    cost[1, :, 1] = torch.tensor([1.0, 0.0])
    assert assign(cost, present).tolist() == [[-1, 0, -1], [-1, 1, -1]]


def test_images_are_matched_by_themselves():
    cost = costs(6, 4, 1, batch=3)
    alone = [assign(one[None], everyone(one[None])) for one in cost]
    assert torch.equal(assign(cost, everyone(cost)), torch.cat(alone))


def test_no_targets():
    assert assign(torch.zeros(2, 5, 0), torch.zeros(2, 0, dtype=torch.bool)).shape == (2, 0)


def test_halves_are_taken():
    cost = costs(5, 3, 2).half()
    assert torch.equal(assign(cost, everyone(cost)), assign(cost.float(), everyone(cost)))


def test_the_host_is_asked_once_for_all_images(monkeypatch):
    copies, copy = [], torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: copies.append(1) or copy(self))
    cost = costs(6, 4, 1, batch=3)
    assign(cost, everyone(cost))
    assert len(copies) == 1


def test_more_targets_than_queries():
    cost = costs(2, 3, 0, batch=2)
    present = torch.tensor([[True, True, False], [True, True, True]])
    with pytest.raises(ConfigError, match="image 1 of the batch has 3 objects for 2 queries"):
        assign(cost, present)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_costs_that_are_not_finite(value):
    cost = costs(4, 2, 0, batch=2)
    cost[1, 2, 0] = value
    with pytest.raises(TrainingError, match="image 1 of the batch: 1 of 8 costs"):
        assign(cost, everyone(cost))
