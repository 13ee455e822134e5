"""SimNet: whether two pixels show the same class, from their embeddings (spec. of the release; supp. Sec. A1).

Its first layer sees both embeddings side by side. A matrix product over two vectors side by side is the sum of one over
each, so here every pixel is multiplied once, not once per pair, and no tensor of pairs is 2 D wide. What a layer makes
of its input by norm and ReLU is made again in the backward pass, not kept: per block two tensors of all pairs are.
"""

from collections.abc import Callable
from itertools import count

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, linear, relu
from torch.utils.checkpoint import checkpoint

from wsis.methods.simformer.config import PairConfig

ROWS = 32  # pixels of the first image at a time, where no statistics tie the pairs together


class BalanceWindow(nn.Module):
    """Weights that make pairs of one class and of two classes count the same over the last steps (official code).

    A pair of one class weighs the share of the others among all pairs of the last `steps` calls in training, and the
    other way round. The window starts with one pair of either kind. The release counts every 25th pair, pairs
    whose classes are hidden too; here all pairs that have a target count, and no others.
    Call: same, valid bool [...] -> weights float32 [...].
    """

    counts: Tensor  # of the two kinds, same class first; the newest step first

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(steps, 2))
        self.counts[0] = 1

    def forward(self, same: Tensor, valid: Tensor) -> Tensor:
        if self.training:
            new = torch.stack([(same & valid).sum(), (~same & valid).sum()]).float()
            self.counts.copy_(torch.cat([new[None], self.counts[:-1]]))
        positive, negative = (self.counts.sum(0) + 1e-6).unbind()  # a window without a pair: 1/2 and 1/2
        return torch.where(same, negative, positive) / (positive + negative)


class Block(nn.Module):
    """Two 1 x 1 convolutions, each with batch norm and ReLU, and a shortcut, with a convolution where widths differ.

    Call: pairs [P, J, J, D]; or a and b [P, J, D], whose vectors a_i and b_j side by side are the pairs. batch: whether the
    statistics of these pairs normalise -> [P, J, J, D].
    """

    def __init__(self, inside: int, width: int) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Linear(inside, width), nn.BatchNorm1d(width)
        self.second, self.second_norm = nn.Linear(width, width), nn.BatchNorm1d(width)
        self.shortcut = nn.Linear(inside, width) if inside != width else None

    def forward(self, *inputs: Tensor, batch: bool) -> Tensor:
        def hidden(again: bool, *inputs: Tensor) -> Tensor:
            return self.second(_activated(self.first_norm, _of(self.first, *inputs), batch, again))

        def output(again: bool, inner: Tensor, *inputs: Tensor) -> Tensor:
            beside = inputs[0] if self.shortcut is None else relu(_of(self.shortcut, *inputs))
            return _activated(self.second_norm, inner, batch, again) + beside

        return _made_again(output, _made_again(hidden, *inputs), *inputs)


class SimNet(nn.Module):
    """Residual blocks over pairs of pixels. Not symmetric: f(a, b) is not f(b, a), both are trained.

    Call: a, b [P, J, D], the pixels of the two images of each pair -> fp32 logits [P, J, J] that pixel i of the first and
    j of the second are of one class: the difference of the two channels of the release.
    """

    def __init__(self, width: int, cfg: PairConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width if i else 2 * width, width) for i in range(cfg.blocks))
        self.head, self.balance = nn.Linear(width, 2), BalanceWindow(cfg.window)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self._logits(a, b, self.training)

    @torch.no_grad()
    def teach(self, a: Tensor, b: Tensor, norm: str) -> Tensor:
        """Probabilities [P, J, J] without gradient; norm: "eval" or "train", which statistics normalise (see config)."""
        return self._logits(a, b, self.training and norm == "train").sigmoid()

    def _logits(self, a: Tensor, b: Tensor, batch: bool) -> Tensor:
        if batch:
            return self._of_pairs(a, b, batch)
        return torch.cat([self._of_pairs(rows, b, batch) for rows in a.split(ROWS, 1)], 1)

    def _of_pairs(self, a: Tensor, b: Tensor, batch: bool) -> Tensor:
        pairs = (a, b)
        for block in self.blocks:
            pairs = (block(*pairs, batch=batch),)
        different, same = self.head.weight
        return (pairs[0] @ (same - different) + self.head.bias[1] - self.head.bias[0]).float()


def _of(layer: nn.Linear, *inputs: Tensor) -> Tensor:
    """What `layer` makes of pairs, or of the vectors of a and b side by side: [P, J, J, D]."""
    if len(inputs) == 1:
        return layer(inputs[0])
    a, b = inputs
    width = a.shape[-1]
    of_a = linear(a, layer.weight[:, :width], layer.bias)
    return of_a[:, :, None] + linear(b, layer.weight[:, width:])[:, None]


def _activated(norm: nn.BatchNorm1d, pairs: Tensor, batch: bool, again: bool) -> Tensor:
    """ReLU of the normalised pairs [P, J, J, D]; the running statistics move by a batch, the first time only."""
    momentum = 0.0 if again else norm.momentum or 0.0
    statistics = norm.running_mean, norm.running_var, norm.weight, norm.bias
    return relu(batch_norm(pairs.flatten(0, 2), *statistics, batch, momentum, norm.eps)).view_as(pairs)


def _made_again(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """`function(again, *inputs)`, of which the backward pass keeps the inputs only and calls it again."""
    calls = count()

    def run(*inputs: Tensor) -> Tensor:
        return function(next(calls) > 0, *inputs)

    if not torch.is_grad_enabled():
        return run(*inputs)
    return checkpoint(run, *inputs, use_reentrant=False, preserve_rng_state=False)
