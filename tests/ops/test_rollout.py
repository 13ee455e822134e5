"""Rollout by rows: closed forms, the product of whole matrices, and what it leaves undone."""

import pytest
import torch

from benchmarks.measure import _peak_bytes
from wsis.ops.rollout import rollout_rows

CPU = torch.device("cpu")


def made(layers=4, tokens=23, batch=2, heads=3, width=5, seed=0):
    """Queries and keys of some layers, the last one first, sharp enough that attention is far from even."""
    generator = torch.Generator().manual_seed(seed)
    x = 2 * torch.randn(layers, 2, batch, heads, tokens, width, generator=generator)
    return [(q, k) for q, k in x.unbind(0)]


def matrix(query, key):
    """(A + I) / 2 of one layer, in fp64: [B, T, T]."""
    attention = (query.double() @ key.double().mT * query.shape[-1] ** -0.5).softmax(-1).mean(1)
    return (attention + torch.eye(attention.shape[-1])) / 2


def everything(layers, batch=2):
    tokens = layers[0][0].shape[2]
    return rollout_rows(layers, torch.arange(tokens).expand(batch, -1))


def constant(similarity, layers=3):
    """Layers whose logits are `similarity` [T, T]."""
    width = similarity.shape[-1]
    query = (similarity * width**0.5).view(1, 1, *similarity.shape)
    return [(query, torch.eye(width).view(1, 1, width, width))] * layers


def test_rows_are_distributions():
    rows = everything(made())
    assert (rows >= 0).all()
    torch.testing.assert_close(rows.sum(-1), torch.ones(2, 4, 23))


def test_the_first_candidate_is_the_last_layer():
    layers = made()
    torch.testing.assert_close(everything(layers)[:, 0].double(), matrix(*layers[0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("chunk", [1, 7, 23, 512])
def test_equals_the_product_of_matrices(chunk):
    layers = made()
    asked = torch.tensor([[3, 22, 3], [0, 9, 14]])
    rows = rollout_rows(layers, asked, chunk)
    product = matrix(*layers[0])
    for k, following in enumerate([*layers[1:], None]):
        wanted = product.take_along_dim(asked[..., None], 1)
        torch.testing.assert_close(rows[:, k].double(), wanted, atol=1e-6, rtol=0)
        product = product @ matrix(*following) if following else product


def test_tokens_that_see_only_themselves_stay():
    rows = everything(constant(1e4 * torch.eye(6)), batch=1)
    assert torch.equal(rows, torch.eye(6).expand(1, 3, 6, 6))


def test_even_attention_halves_what_is_left_of_the_token():
    rows = everything(constant(torch.zeros(6, 6)), batch=1)
    for k in range(3):
        left = 0.5 ** (k + 1)
        wanted = left * torch.eye(6) + (1 - left) / 6
        torch.testing.assert_close(rows[0, k], wanted)


def test_renumbering_the_tokens_renumbers_the_rows():
    layers, order = made(), torch.randperm(23, generator=torch.Generator().manual_seed(1))
    moved = [(q[:, :, order], k[:, :, order]) for q, k in layers]
    torch.testing.assert_close(everything(moved), everything(layers)[..., order, :][..., order])


def test_no_objects():
    assert rollout_rows(made(), torch.zeros(2, 0, dtype=torch.long)).shape == (2, 4, 0, 23)


def test_is_fp32_under_autocast():
    layers, asked = made(), torch.tensor([[3], [5]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = rollout_rows(layers, asked)
    assert torch.equal(mixed, rollout_rows(layers, asked))


def test_halves_are_raised_first():
    layers, asked = [(q.bfloat16(), k.bfloat16()) for q, k in made()], torch.tensor([[3], [5]])
    rows = rollout_rows(layers, asked)
    assert torch.equal(rows, rollout_rows([(q.float(), k.float()) for q, k in layers], asked))


def test_memory_grows_with_the_chunk_and_not_with_all_pairs():
    layers, asked = made(tokens=600, batch=1, heads=2), torch.tensor([[3, 4]])
    pairs = 600 * 600 * 4
    assert _peak_bytes(lambda: rollout_rows(layers, asked, chunk=32), CPU) < pairs / 2
