"""BESTIE's label operations as plain loops over images, classes, components and centers.

Written from the formulas to be obviously right, not fast: what the batched versions have to equal.
"""

import math

import torch
from scipy import ndimage
from torch import Tensor

from wsis.ops.grouping import Centers


def connected_components(classes: Tensor, connectivity: int = 8) -> tuple[Tensor, int]:
    """Label every class of every image by itself; ids in order of (image, class, first pixel)."""
    ids, count = torch.zeros_like(classes, dtype=torch.long), 0
    structure = [[1, 1, 1]] * 3 if connectivity == 8 else None
    for image, out in zip(classes, ids, strict=True):
        for value in image.unique().tolist():
            if value == 0:
                continue
            labels, found = ndimage.label((image == value).cpu().numpy(), structure)
            labels = torch.from_numpy(labels).to(ids.device)
            out[labels > 0] = labels[labels > 0].long() + count
            count += found
    return ids, count


def splat_gaussians(centers: Tensor, plane: Tensor, shape: tuple[int, int, int], sigma: float) -> Tensor:
    """Paint one window after the other, keeping the maximum."""
    out = torch.zeros(shape, device=centers.device)
    reach = int(3 * sigma + 1)
    for (y, x), p in zip(centers.long().tolist(), plane.tolist(), strict=True):
        if not (0 <= y < shape[1] and 0 <= x < shape[2]):
            continue
        rows = torch.arange(max(0, y - reach), min(shape[1], y + reach + 1), device=out.device)
        columns = torch.arange(max(0, x - reach), min(shape[2], x + reach + 1), device=out.device)
        bell = torch.exp(-((rows[:, None] - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2))
        window = out[p, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        window.copy_(torch.maximum(window, bell))
    return out


def find_centers(heat: Tensor, ids: Tensor, threshold: float, kernel: int) -> Tensor:
    """Mask the heat by one component after the other, pool, compare: (image, y, x) int64 [N, 3]."""
    found = [torch.zeros(0, 3, dtype=torch.long, device=heat.device)]
    for b in range(len(heat)):
        for i in ids[b].unique().tolist():
            if i == 0:
                continue
            masked = torch.where((ids[b] == i) & (heat[b] > threshold), heat[b], -1.0)
            pooled = torch.nn.functional.max_pool2d(masked[None, None], kernel, 1, kernel // 2)[0, 0]
            peaks = ((masked == pooled) & (masked > 0)).nonzero()
            found.append(torch.nn.functional.pad(peaks, (1, 0), value=b))
    return torch.cat(found)


def cluster_centers(offsets: Tensor, ids: Tensor) -> Tensor:
    """Threshold the offsets of one component after the other, label, check areas: (image, y, x) [N, 3]."""
    found = []
    for b in range(len(ids)):
        near = offsets[b].norm(dim=0) < 2.5
        for i in ids[b].unique().tolist():
            if i == 0:
                continue
            labels, count = ndimage.label((near & (ids[b] == i)).cpu().numpy())
            for spot in range(1, count + 1):
                y, x = (labels == spot).nonzero()
                if abs(len(y) - 21) < 3:
                    found.append((b, math.trunc(y.mean()), math.trunc(x.mean())))
    return torch.tensor(found, dtype=torch.long, device=ids.device).reshape(-1, 3)


def group_pixels(offsets: Tensor, ids: Tensor, centers: Centers) -> Tensor:
    """Distances of all pixels to all centers of one component after the other: int64 [B, H, W]."""
    out = torch.zeros_like(ids)
    rows = torch.arange(ids.shape[1], device=ids.device)[:, None]
    columns = torch.arange(ids.shape[2], device=ids.device)
    for c in centers.component.unique().tolist():
        own = (centers.component == c).nonzero()[:, 0]
        b = int(centers.image[own[0]])
        y, x = offsets[b, 0] + rows, offsets[b, 1] + columns
        center_y, center_x = centers.position[own].T[:, :, None, None]
        square = (y - center_y) ** 2 + (x - center_x) ** 2
        mask = ids[b] == c + 1
        out[b][mask] = own[square.argmin(0)][mask] + 1
    return out


def region_statistics(ids: Tensor, count: int, heat: Tensor, probability: Tensor) -> tuple[Tensor, ...]:
    """Area, maximum of the heat and its (y, x), mean of the probability, of one region after the other."""
    area, position = torch.zeros(count, dtype=torch.long), torch.zeros(count, 2, dtype=torch.long)
    mean, highest = torch.zeros(count), torch.zeros(count)
    for i in range(count):
        mask = ids == i + 1
        if mask.any():
            inside = heat[mask]
            area[i], highest[i], mean[i] = mask.sum(), inside.max(), probability[mask].double().mean()
            position[i] = mask.nonzero()[inside == inside.max()][0, 1:]
    return tuple(column.to(ids.device) for column in (area, highest, position, mean))
