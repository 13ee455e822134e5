"""One-to-one matching of what a network asks for with what an image holds."""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from wsis.core.errors import ConfigError, TrainingError


@torch.no_grad()
def assign(cost: Tensor, present: Tensor) -> Tensor:
    """The query of each target, so that the sum of an image's costs is least and no query has two targets.

    cost: float [B, P, G] of P queries and G targets, any sign. present: bool [B, G], targets that exist; the costs of
    others are not looked at. Returns int64 [B, G] on the device of `cost`; -1 where the target does not exist.
    The assignment is solved on the host (scipy): a call copies once to it and once back, however many images.

    Raises:
        ConfigError: an image with more targets than queries.
        TrainingError: a cost that is not finite.
    """
    host = torch.cat([cost, present[:, None].to(cost.dtype)], 1).cpu().double()  # one copy, not two
    result = torch.full(present.shape, -1)
    for image, (costs, exists) in enumerate(zip(host[:, :-1], host[:, -1].bool(), strict=True)):
        wanted = costs[:, exists]  # [P, g]
        queries, targets = wanted.shape
        if targets > queries:
            raise ConfigError(
                f"image {image} of the batch has {targets} objects for {queries} queries; raise their number"
            )
        if not wanted.isfinite().all():
            raise TrainingError(
                f"image {image} of the batch: {int((~wanted.isfinite()).sum())} of {wanted.numel()} costs of matching "
                "are not finite; lower the learning rate"
            )
        result[image, exists] = torch.from_numpy(linear_sum_assignment(wanted.T.numpy())[1])
    return result.to(cost.device)
