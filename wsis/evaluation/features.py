"""How similar a network's features are on objects, between them, and off them (AttentionShift, supp. Fig. 1).

The supplementary shows three curves and gives only their names; the definitions are ours. A patch has the unit vector f of
its feature, an object or a background the mean of its patches' f. There are two numbers for each name:

    foreground_background   an object and the background of its image; mean over the images
    inter_class             two objects of different classes, anywhere in the data; mean over the pairs
    intra_class             two objects of one class; mean over its pairs, then over the classes

Without a suffix they are cosines of the two means; with `_patches` they are the mean of <f, f> over all pairs of patches,
one on each side. There the foreground is all patches of an image's objects, each once. No pair is formed: the sum of <a, b>
over all pairs of a set is the squared length of its sum, and memory does not grow with the number of images.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot, pad

from wsis.core.types import Instances
from wsis.ops.patches import coverage


def object_patches(masks: Tensor, valid: Tensor, patch: int) -> Tensor:
    """The patches of each object: those that it covers by half or more, or else the one that it covers most.

    masks: bool [K, H, W], H and W multiples of `patch` (pixels). valid: bool [H, W], other pixels cover nothing. Returns
    bool [K, n] in raster order; no patch where no pixel is valid.
    """
    share = coverage(masks & valid, patch)
    best = one_hot(share.argmax(1), share.shape[1]).bool() & (share > 0)
    return (share >= 0.5) | best


class FeatureSimilarity:
    """The similarities over a data set, accumulated batch by batch, of C classes and features of width D."""

    def __init__(self, classes: int, width: int) -> None:
        # Axis 0: the cosine of means, the mean over patches.
        self.sums = torch.zeros(2, classes, width, dtype=torch.float64)
        self.squares = torch.zeros(2, classes, dtype=torch.float64)
        self.counts = torch.zeros(classes, dtype=torch.float64)
        self.apart = torch.zeros(2, dtype=torch.float64)
        self.images = 0

    @torch.no_grad()
    def update(self, features: Tensor, truth: Sequence[Instances], patch: int, valid: Tensor | None = None) -> None:
        """Count a batch. Crowds are neither object nor background, which is every valid patch that no mask touches.

        features: [B, D, h, w] of any float type. truth: B images; masks smaller than [h * patch, w * patch] pixels are
        padded at the bottom and on the right, larger ones raise ValueError. valid: bool [B, h * patch, w * patch], False on
        padding and on void; by default all that the masks reach.
        """
        height, width = (side * patch for side in features.shape[-2:])
        for i, (image, objects) in enumerate(zip(features.cpu().double(), truth, strict=True)):
            below, right = height - objects.runs.size[0], width - objects.runs.size[1]
            if min(below, right) < 0:
                sizes = f"masks of {list(objects.runs.size)} pixels, features of {[height, width]}"
                raise ValueError(f"image {i} of the batch: {sizes}; resize the masks as the image was")
            masks = pad(objects.masks.cpu(), (0, right, 0, below))
            inside = pad(torch.ones(objects.runs.size, dtype=torch.bool), (0, right, 0, below))
            inside = inside if valid is None else inside & valid[i].cpu()
            empty = coverage((inside & ~masks.any(0))[None], patch)[0] == 1
            counts = ~objects.crowd.cpu()
            units, patches = normalize(image.flatten(1).mT, dim=1), object_patches(masks[counts], inside, patch)
            filled = patches.any(1)
            patches, labels = patches[filled], objects.labels.cpu()[counts][filled]
            means = _means(units, patches)
            vectors = torch.stack([normalize(means, dim=1), means])  # [2, K, D]
            self.sums.index_add_(1, labels, vectors)
            self.squares.index_add_(1, labels, vectors.square().sum(2))
            self.counts.index_add_(0, labels, torch.ones_like(labels, dtype=torch.float64))
            if len(labels) and empty.any():
                behind, foreground = _means(units, torch.stack([empty, patches.any(0)]))
                self.apart += torch.stack([(vectors[0] @ normalize(behind, dim=0)).mean(), behind @ foreground])
                self.images += 1

    def result(self) -> dict[str, float]:
        """The six numbers, in [-1, 1]; nan where the data hold no such pair."""
        n, per_class = self.counts, self.sums.square().sum(2)  # [C]; [2, C]
        pairs = n.sum() ** 2 - n.square().sum()
        between = (self.sums.sum(1).square().sum(1) - per_class.sum(1)) / pairs.where(pairs > 0, torch.nan)
        within = ((per_class - self.squares) / (n * (n - 1)))[:, n > 1].mean(1)
        pairs_of = {"foreground_background": self.apart / self.images, "inter_class": between, "intra_class": within}
        return {n + suffix: float(v[i]) for n, v in pairs_of.items() for i, suffix in enumerate(("", "_patches"))}


def _means(units: Tensor, patches: Tensor) -> Tensor:
    """Mean f of each row of patches: [n, D] and bool [K, n], none empty -> [K, D]."""
    return patches.double() @ units / patches.sum(1, keepdim=True)


def pair_auc(similarity: Tensor, owner: Tensor, pairs: Tensor) -> float:
    """The area under the ROC curve of similarities [B, n, n] for "both patches are of one object".

    owner: int [B, n], the object of each patch, 0 or less for none. pairs: bool, broadcast to [B, n, n]: those that count
    where the first patch is of an object.
    """
    counts, same = (owner > 0)[:, :, None] & pairs, owner[:, :, None] == owner[:, None]
    return auc(similarity.cpu().expand(same.shape)[counts].numpy(), same[counts].numpy())


def linear_probe(features: Tensor, labels: Tensor, classes: int, test: Tensor, ridge: float) -> Tensor:
    """The classes of `test` [m, D] by a ridge regression with a bias on features [n, D]; ridge: the penalty per row."""
    x, x_test = (pad(t, (0, 1), value=1.0) for t in (features, test))
    penalty = len(x) * ridge * torch.eye(x.shape[1])
    return (x_test @ torch.linalg.solve(x.mT @ x + penalty, x.mT @ one_hot(labels, classes).float())).argmax(1)


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """The probability that a positive scores above a negative; nan without both kinds."""
    high, low = np.sort(scores[positive]), np.sort(scores[~positive])
    below = (np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")) / 2  # equal scores count half
    return float(below.mean() / len(low)) if len(high) and len(low) else float("nan")
