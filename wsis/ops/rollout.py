"""Attention of many layers as one map: where a token's information comes from (rollout).

A transformer's layer adds what it attends to, to what it had, so that half of a token comes from itself. Followed back
through the last layers, the share of every input token in one token is a row of the product of (A + I) / 2.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def rollout_rows(layers: Sequence[tuple[Tensor, Tensor]], rows: Tensor, chunk: int = 512) -> Tensor:
    r"""Some rows of the attention rollout, without its matrices (AttentionShift, official code).

    :math:`r_0 = (e + e A_L) / 2` and :math:`r_k = (r_{k-1} + r_{k-1} A_{L-k}) / 2` for the unit vector e of a token, with
    A the mean over the heads of :math:`\mathrm{softmax}(q k^T / \sqrt d)`. The first layer needs the asked rows only; of
    the others, one head's attention of `chunk` tokens to all is in memory at a time: O(chunk T), and G T^2 operations
    beyond the softmax where products of matrices take T^3.

    layers: queries and keys [B, heads, T, d] of successive layers, the last one first. rows: int64 [B, G], token ids.
    Returns fp32 [B, K, G, T], K the number of layers; candidate k follows the last k + 1 layers. Rows are not negative
    and sum to 1.
    """
    stages: list[Tensor] = []
    for query, key in layers:
        with torch.autocast(rows.device.type, enabled=False):
            query, key = query.float() * query.shape[-1] ** -0.5, key.float()
            if stages:
                before = stages[-1]
                attended = _attended(before, query, key, chunk)
            else:
                asked = query.gather(2, rows[:, None, :, None].expand(-1, query.shape[1], -1, query.shape[3]))
                attended = (asked @ key.mT).softmax(-1).mean(1)
                before = torch.zeros_like(attended).scatter_(2, rows[..., None], 1)
            stages.append((before + attended) / 2)
    return torch.stack(stages, 1)


def _attended(weights: Tensor, query: Tensor, key: Tensor, chunk: int) -> Tensor:
    """`weights` [B, G, T] times the mean attention of the heads; query, which is scaled, and key: [B, heads, T, d]."""
    total = torch.zeros_like(weights)
    if not weights.numel():  # no objects: the softmax of all tokens would be for nothing
        return total
    for start in range(0, weights.shape[2], chunk):
        some = slice(start, start + chunk)
        for q, k in zip(query.unbind(1), key.unbind(1), strict=True):
            total += weights[..., some] @ (q[:, some] @ k.mT).softmax(-1)
    return total / query.shape[1]
