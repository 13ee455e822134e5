"""One-to-one matching of the queries of a network with the targets of an image."""

import torch
from jaxtyping import Bool, Float, Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from wsis.core.errors import ConfigError, TrainingError


@torch.no_grad()
def assign(cost: Float[Tensor, "B P G"], present: Bool[Tensor, "B G"]) -> Int64[Tensor, "B G"]:
    """The query of each target with the least sum of costs in each image, where no query has two targets.

    cost: of P queries and G targets, of any sign. present: which targets exist; the costs of others are not read, and their
    query is -1. The host solves it (scipy). Raises ConfigError for an image with more targets than queries, and TrainingError
    for a cost that is not finite.
    """
    host = torch.cat([cost, present[:, None].to(cost.dtype)], 1).cpu().double()  # one copy, not two
    result = torch.full(present.shape, -1)
    for image, (costs, exists) in enumerate(zip(host[:, :-1], host[:, -1].bool(), strict=True)):
        needed = costs[:, exists]
        queries, targets = needed.shape
        if targets > queries:
            raise ConfigError(f"image {image} of the batch has {targets} objects for {queries} queries; have more")
        if not needed.isfinite().all():
            wrong = f"{int((~needed.isfinite()).sum())} of {needed.numel()} costs of matching are not finite"
            raise TrainingError(f"image {image} of the batch: {wrong}; lower the learning rate")
        result[image, exists] = torch.from_numpy(linear_sum_assignment(needed.T.numpy())[1])
    return result.to(cost.device)
