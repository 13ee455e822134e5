"""Attention of many layers as one map: where a token's information comes from (rollout).

Half of what a layer puts into a token comes from the token itself. Followed back through the last layers, the share of
every input token in one token is a row of the product of (A + I) / 2.
"""

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

QueryKey = tuple[Float[Tensor, "B heads T d"], Float[Tensor, "B heads T d"]]


@torch.no_grad()
def rollout_rows(layers: list[QueryKey], rows: Int64[Tensor, "B G"], chunk: int = 512) -> Float32[Tensor, "B K G T"]:
    """Some rows of the attention rollout, without its matrices (AttentionShift, official code); they sum to 1.

    r_0 = (e + e A_L) / 2 and r_k = (r_{k-1} + r_{k-1} A_{L-k}) / 2 for the unit vector e of a token, with A the mean over
    the heads of softmax(q k^T / sqrt(d)). One head's attention of `chunk` tokens to all is in memory at a time.

    layers: queries and keys of K successive layers, the last one first. rows: token ids. Candidate k follows the last k + 1
    layers.
    """
    stages: list[Tensor] = []
    for query, key in layers:
        with torch.autocast(rows.device.type, enabled=False):
            query, key = query.float() * query.shape[-1] ** -0.5, key.float()
            if not stages:
                first = query.gather(2, rows[:, None, :, None].expand(-1, query.shape[1], -1, query.shape[3]))
                attended = (first @ key.mT).softmax(-1).mean(1)
                before = torch.zeros_like(attended).scatter_(2, rows[..., None], 1)
            else:
                before, attended = stages[-1], torch.zeros_like(stages[-1])
                for start in range(0, query.shape[2] if before.numel() else 0, chunk):  # without rows nothing is needed
                    part = slice(start, start + chunk)
                    for q, k in zip(query.unbind(1), key.unbind(1), strict=True):
                        attended += before[..., part] @ (q[:, part] @ k.mT).softmax(-1)
                attended /= query.shape[1]
            stages.append((before + attended) / 2)
    return torch.stack(stages, 1)
