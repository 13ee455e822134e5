"""Extreme points beside those of `wsis.weak`: by the rule of another paper's labels, and those of a careless annotator."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wsis.data.checks import SIDES
from wsis.errors import AnnotationError
from wsis.weak import pixel_by_rank


def extreme_points_from_polygons(polygons: Sequence[Sequence[float]], height: int, width: int) -> Tensor:
    """The top, left, bottom and right pixel of one object's outlines: COCO polygons -> float32 [4, 2], (x, y).

    The rule of ExtremeNet's labels (Zhou et al., CVPR 2019): from the extreme corner go along the outline both ways while
    the corners stay within 2 % of the box's height (left and right: width); the click is in the middle of that stretch.
    Several outlines are joined end to end. Unlike a click from the mask, it may lie beside a concave object.

    Args:
        height, width: of the image, pixels; no click lies outside.
    """
    corners = torch.cat([torch.tensor(p, dtype=torch.float64).reshape(-1, 2) for p in polygons])
    low, high = corners.amin(0), corners.amax(0)
    clicks = []
    for axis, sign in ((1, 1), (0, 1), (1, -1), (0, -1)):
        depth = sign * corners[:, axis]
        first = int(depth.argmin())
        near = (depth - depth[first] <= 0.02 * (high - low)[axis]).roll(-first).byte()
        reached = near.cumprod(0) + near.flip(0).cumprod(0).flip(0) > 0  # onward and back from that corner
        stretch = corners.roll(-first, 0)[reached]
        click = (stretch.amin(0) + stretch.amax(0)) / 2
        click[axis] = corners[first, axis]
        clicks.append(click)
    # the outline is the far side of its last pixel
    last = torch.minimum(high.ceil(), high.new_tensor([width, height])) - 1
    return torch.stack(clicks).floor().minimum(last).clamp_min(0).float()


def jitter_extreme_points(
    xy: Tensor, masks: Tensor, radius: float, generator: torch.Generator | int = 0
) -> Tensor:
    """Extreme points of a careless annotator: any pixels of the object near its extreme rows and columns.

    As for DEXTR (Maninis et al., CVPR 2018): all pixels of the mask at most `radius` pixels from the row or column of a
    click are equally likely. The box may shrink, even to nothing, and the first click need not be the topmost.

    Args:
        xy: float [K, 4, 2], top, left, bottom, right. masks: bool [K, H, W].
        generator: source of chance, or its seed.

    Raises:
        AnnotationError: an object has no pixel that near to one of its clicks.
    """
    rows, columns = (torch.arange(side, device=masks.device) for side in masks.shape[1:])
    in_rows = (rows - xy[:, 0::2, 1, None]).abs() <= radius  # [K, 2, H]: top, bottom
    in_columns = (columns - xy[:, 1::2, 0, None]).abs() <= radius
    near = torch.stack([masks[:, None] & in_rows[..., None], masks[:, None] & in_columns[:, :, None]], 2)
    near = near.flatten(0, 2)  # [4 K, H, W]
    empty = (~near.flatten(1).any(1)).nonzero()[:, 0].tolist()
    if empty:
        k, side = divmod(empty[0], 4)
        raise AnnotationError(
            f"mask {k} has no pixel within {radius} px of its {SIDES[side]} click; click on the object"
        )
    if isinstance(generator, int):
        generator = torch.Generator().manual_seed(generator)
    uniform = torch.rand(len(near), generator=generator, dtype=torch.float64)
    return pixel_by_rank(near, uniform).view(-1, 4, 2)
