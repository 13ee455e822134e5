"""SimNet: whether two pixels show the same class, from their embeddings (official code; supp. Sec. A1).

Its first layer reads both embeddings side by side: the sum of a product with each, so every pixel is multiplied once here,
not once per pair. The backward pass recomputes norms and ReLUs, and a block keeps two tensors of all pairs.
"""

from collections.abc import Callable
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, linear, relu
from torch.utils.checkpoint import checkpoint

from wsis.methods.simformer.pairs import PixelPairs, at_points, swap

BLOCKS, STEPS = 3, 25  # residual blocks, and steps over which the two kinds of pair are balanced (official code)
CHUNK = 32  # pixels of the first image at a time, where no statistics tie the pairs together


class Comparison(NamedTuple):
    """SimNet on `pairs`, all [B, J, J]: fp32 logits of one class and their weights; probabilities of `pairs.unlabeled`."""

    pairs: PixelPairs
    logits: Tensor
    weights: Tensor
    teacher: Tensor | None


class Block(nn.Module):
    """Two layers with batch norm and ReLU, and a shortcut: pairs [P, J, J, D], or a and b [P, J, D] -> [P, J, J, D]."""

    def __init__(self, inside: int, width: int) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Linear(inside, width), nn.BatchNorm1d(width)
        self.second, self.second_norm = nn.Linear(width, width), nn.BatchNorm1d(width)
        self.shortcut = nn.Linear(inside, width) if inside != width else None

    def forward(self, *inputs: Tensor, batch: bool) -> Tensor:
        def hidden(recomputing: bool, *inputs: Tensor) -> Tensor:
            return self.second(_activated(self.first_norm, _linear(self.first, *inputs), batch, recomputing))

        def output(recomputing: bool, inner: Tensor, *inputs: Tensor) -> Tensor:
            beside = inputs[0] if self.shortcut is None else relu(_linear(self.shortcut, *inputs))
            return _activated(self.second_norm, inner, batch, recomputing) + beside

        return _checkpointed(output, _checkpointed(hidden, *inputs), *inputs)


class SimNet(nn.Module):
    """Whether pixel i of a and pixel j of b are of one class: [P, J, D] twice -> [P, J, J].

    The logits are fp32. It is not symmetric: f(a, b) is not f(b, a), and both are trained.
    batch: normalize by these pairs, as in training.
    """

    counts: Tensor  # of pairs of one class and of two in the last steps, the newest first

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = (2 * width, *[width] * (BLOCKS - 1))
        self.blocks = nn.ModuleList(Block(inside, width) for inside in widths)
        self.head = nn.Linear(width, 2)
        self.register_buffer("counts", torch.zeros(STEPS, 2))
        self.counts[0] = 1

    def forward(self, a: Tensor, b: Tensor, batch: bool | None = None) -> Tensor:
        batch = self.training if batch is None else batch
        if not batch and a.shape[1] > CHUNK:
            return torch.cat([self(rows, b, batch) for rows in a.split(CHUNK, 1)], 1)
        pairs = self.blocks[0](a, b, batch=batch)
        for block in self.blocks[1:]:
            pairs = block(pairs, batch=batch)
        different, same = self.head.weight  # the release has a channel for each
        return (pairs @ (same - different) + self.head.bias[1] - self.head.bias[0]).float()

    def balance(self, same: Tensor, counted: Tensor) -> Tensor:
        """Weights of pairs, bool [...] -> fp32: the share of the other kind lately."""
        if self.training:
            new = torch.stack([(same & counted).sum(), (~same & counted).sum()]).float()
            self.counts.copy_(torch.cat([new[None], self.counts[:-1]]))
        # 1/2 and 1/2 without a pair in the last steps
        positive, negative = (self.counts.sum(0) + 1e-6).unbind()
        return torch.where(same, negative, positive) / (positive + negative)

    @torch.no_grad()
    def teach(self, a: Tensor, b: Tensor) -> Tensor:
        """Probabilities [P, J, J] without gradient, by running statistics."""
        return self(a, b, batch=False).sigmoid()

    def compare(self, embeddings: Tensor, pairs: PixelPairs) -> Comparison:
        """All that the objective asks; embeddings [B, D, h, w] learn nothing here."""
        embeddings, teacher = embeddings.detach(), None
        with torch.autocast(embeddings.device.type, enabled=False):
            a = at_points(embeddings, pairs.points)
            logits, weights = self(a, swap(a)), self.balance(pairs.same, pairs.counted)
            if pairs.unlabeled is not None:
                a = at_points(embeddings, pairs.unlabeled)
                teacher = self.teach(a, swap(a))
        return Comparison(pairs, logits, weights, teacher)


def _linear(layer: nn.Linear, *inputs: Tensor) -> Tensor:
    """`layer` of pairs, or of the vectors of a and b side by side: [P, J, J, D]."""
    if len(inputs) == 1:
        return layer(inputs[0])
    (a, b), width = inputs, inputs[0].shape[-1]
    rows, columns = linear(a, layer.weight[:, :width], layer.bias), linear(b, layer.weight[:, width:])
    return rows[:, :, None] + columns[:, None]


def _activated(norm: nn.BatchNorm1d, pairs: Tensor, batch: bool, recomputing: bool) -> Tensor:
    """ReLU of the normalized pairs [P, J, J, D]; a batch moves the running statistics the first time only."""
    momentum = 0.0 if recomputing else norm.momentum or 0.0
    statistics = norm.running_mean, norm.running_var, norm.weight, norm.bias
    return relu(batch_norm(pairs.flatten(0, 2), *statistics, batch, momentum, norm.eps)).view_as(pairs)


def _checkpointed(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """`function(recomputing, *inputs)`; the backward pass keeps the inputs only and calls it again."""
    calls = count()
    return checkpoint(lambda *x: function(next(calls) > 0, *x), *inputs, use_reentrant=False, preserve_rng_state=False)
