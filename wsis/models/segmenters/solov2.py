"""SOLOv2 (Wang et al., NeurIPS 2020): a grid cell names the class of the object at it and the kernel that draws its mask.

    pyramid --levels resized to S x S cells--> class scores [C] and a kernel [E] per cell
            --levels summed at stride 4------> mask features [E, H/4, W/4];   mask = sigmoid(kernel . features)

Values are those of mmdetection's configuration, on which the papers that we follow report.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d, one_hot
from torchvision.ops import Conv2dNormActivation, sigmoid_focal_loss

from wsis.core.masks import RunLengths, Size
from wsis.core.types import Instances
from wsis.models.convnets import scale_of
from wsis.models.pyramids import FeatureNetwork
from wsis.models.segmenters.targets import SMALL, Target, Terms, View, at_image_size, size_of, stacked_masks
from wsis.ops.losses import squared_dice

SIGMA = 0.2  # share of an object's box: the region around its center whose cells answer for it
DICE_WEIGHT = 3.0  # the focal loss counts once
SCORE, MASK, FINAL_SCORE = 0.1, 0.5, 0.05  # thresholds: class score before, pixel, score after matrix NMS
CANDIDATES, DETECTIONS = 500, 100  # per image, before and after matrix NMS
STRIDES = (8, 8, 16, 32, 32)  # of the levels that the heads see; also the area of the smallest mask at stride 4
RANGES = ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048))  # of sqrt(box area), pixels, that a level answers for
Levels = list[Tensor]
TINY_SIDE = 0.12  # of an image of a tiny run: 96 pixels in place of 800


class Design(NamedTuple):
    view: View
    width: int  # channels of the pyramid
    head: int  # channels of the heads
    depth: int  # convolutions of a head
    kernel: int  # E
    grids: tuple[int, ...]  # cells along a side, by level
    share: float = 1.0  # of the sides that objects have at full scale, where `RANGES` and the smallest areas hold


# Short sides of 640 to 800 are those of the 3x schedule; the 1x schedule has 800 alone.
FULL = Design(View(short=(640, 800)), 256, 512, 4, 256, (40, 36, 24, 16, 12))

# Smaller images hold fewer objects: fewer cells.
DESIGNS = {
    "full": FULL,
    "small": Design(FULL.view.scaled(SMALL), 64, 128, 2, 64, (20, 18, 12, 8, 6), SMALL),
    "tiny": Design(View(), 64, 64, 2, 64, (12, 10, 8, 6, 4), TINY_SIDE),
}


class SOLOv2(nn.Module):
    """SOLOv2 at the scale of its backbone, see `scale_of`."""

    def __init__(self, classes: int, backbone: str, weights: str) -> None:
        super().__init__()
        self.design = DESIGNS[scale_of(backbone)]
        self.view, self.classes = self.design.view, classes
        self.network = FeatureNetwork(backbone, weights, self.design.width)
        self.cells = CellHead(self.design, classes)
        self.masks = MaskHead(self.design)

    def forward(self, images: list[Tensor], targets: list[Target] | None = None) -> Terms | list[Instances]:
        stack = self.network.backbone.stack
        if targets is not None:
            batch = stack(images)
            return self.loss(*self.maps(batch), targets, size_of(batch))
        windows, instances = [self.view.at_test(*image.shape[1:]) for image in images], []
        batch = stack([w.image(i) for w, i in zip(windows, images, strict=True)])
        for masks, labels, scores, window, image in zip(*self.detect(*self.maps(batch)), windows, images, strict=True):
            high = scores > FINAL_SCORE
            parts = at_image_size(masks[high], size_of(batch), window.size, size_of(image), MASK)
            runs = RunLengths.encode((p._replace(pixels=p.pixels > MASK) for p in parts), size_of(image))
            instances.append(Instances.make(runs, labels[high], scores=scores[high]))
        return instances

    def maps(self, batch: Tensor) -> tuple[Levels, Levels, Tensor]:
        """Return by level the scores (logits) [B, C, S, S] and kernels [B, E, S, S]; the mask features [B, E, h, w]."""
        pyramid = list(self.network(batch).values())
        features = self.masks(pyramid[:4])
        pyramid[0] = interpolate(pyramid[0], scale_factor=0.5, mode="bilinear", align_corners=False)
        pyramid[4] = interpolate(pyramid[4], pyramid[3].shape[2:], mode="bilinear", align_corners=False)
        pairs = [self.cells(level, grid) for level, grid in zip(pyramid, self.design.grids, strict=True)]
        return [p[0] for p in pairs], [p[1] for p in pairs], features

    def loss(self, logits: Levels, kernels: Levels, features: Tensor, targets: list[Target], size: Size) -> Terms:
        """Return the focal loss and 3 x the mean dice loss of positive cells, whose counts are the one wait for the device."""
        with torch.autocast(features.device.type, enabled=False):
            masks = stacked_masks([t.masks for t in targets], size)
            labels = torch.cat([t.labels for t in targets])
            owner = assign(targets, masks, self.design)  # [B, cells]
            owned = owner >= 0
            counts = owned.sum(1).tolist()
            positive = owned.flatten().argsort(descending=True, stable=True)[: sum(counts)]
            with_none = torch.cat([labels, labels.new_full((1,), self.classes)])  # for owner -1
            classes = one_hot(with_none[owner], self.classes + 1)[..., :-1].float()
            focal = sigmoid_focal_loss(flat(logits).float(), classes, reduction="sum")
            rows = flat(kernels).float().flatten(0, 1)[positive].split(counts)
            drawn = torch.cat([k @ f for k, f in zip(rows, features.float().flatten(2), strict=True)])
            true = quartered(masks).flatten(1)[owner.flatten()[positive]]
            dice = squared_dice(drawn.sigmoid(), true).sum() / max(sum(counts), 1)
            return {"focal": focal / (sum(counts) + 1), "dice": DICE_WEIGHT * dice}

    def detect(self, logits: Levels, kernels: Levels, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return mask probabilities [B, N, h, w], labels and scores [B, N] by falling score, at most 100 per image. The release
        takes 500 candidates after their masks' mean probability has entered the score: the same below 500.
        """
        with torch.autocast(features.device.type, enabled=False):
            peaks = flat([peak_scores(x.float().sigmoid()) for x in logits])  # [B, cells, C]
            scores, place = peaks.flatten(1).topk(min(CANDIDATES, peaks[0].numel()))
            cell, labels = place // self.classes, place % self.classes
            rows = flat(kernels).float().take_along_dim(cell[..., None], 1)
            probability = (rows @ features.float().flatten(2)).sigmoid()  # [B, N, h w]
            inside = probability > MASK
            area = inside.sum(2)
            levels = zip(STRIDES, self.design.grids, strict=True)
            by_cell = [s * self.design.share**2 for s, g in levels for _ in range(g * g)]
            smallest = torch.tensor(by_cell, device=area.device)[cell]
            inner = (probability * inside).sum(2) / area.clamp(min=1)
            scores = torch.where((scores > SCORE) & (area > smallest), scores * inner, 0.0)
            scores, order = scores.sort(1, descending=True)
            labels, inside = labels.gather(1, order), inside.take_along_dim(order[..., None], 1)
            scores, best = matrix_nms(inside, labels, scores).topk(min(DETECTIONS, scores.shape[1]))
            masks = probability.take_along_dim(order.gather(1, best)[..., None], 1)
            return masks.unflatten(2, features.shape[2:]), labels.gather(1, best), scores


class CellHead(nn.Module):
    """Class scores and kernels per cell; one head for all levels. Only the kernels see coordinates."""

    def __init__(self, design: Design, classes: int) -> None:
        super().__init__()
        ins = [design.width] + [design.head] * (design.depth - 1)
        self.scores = nn.Sequential(*(block(i, design.head) for i in ins))
        ins[0] += 2
        self.kernels = nn.Sequential(*(block(i, design.head) for i in ins))
        self.score = nn.Conv2d(design.head, classes, 3, padding=1)
        self.kernel = nn.Conv2d(design.head, design.kernel, 3, padding=1)
        initialize(self)
        nn.init.constant_(self.score.bias, math.log(0.01 / 0.99))  # pyright: ignore  # nearly all cells are background

    def forward(self, feature: Tensor, grid: int) -> tuple[Tensor, Tensor]:
        x = interpolate(with_coordinates(feature), (grid, grid), mode="bilinear", align_corners=False)
        return self.score(self.scores(x[:, :-2])), self.kernel(self.kernels(x))


class MaskHead(nn.Module):
    """Mask features: the levels at strides 4 to 32, each doubled until stride 4, and summed."""

    def __init__(self, design: Design) -> None:
        super().__init__()
        width, self.levels = design.kernel // 2, nn.ModuleList([nn.Sequential(block(design.width, design.kernel // 2))])
        for doublings in (1, 2, 3):
            ins = [design.width + 2 * (doublings == 3)] + [width] * (doublings - 1)
            enlarge = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
            self.levels.append(nn.Sequential(*(layer for i in ins for layer in (block(i, width), enlarge))))
        self.out = block(width, design.kernel, size=1)
        initialize(self)

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        placed = [*pyramid[:-1], with_coordinates(pyramid[-1])]
        return self.out(sum(level(feature) for level, feature in zip(self.levels, placed, strict=True)))


def block(ins: int, outs: int, size: int = 3) -> nn.Module:  # convolution, group norm, ReLU
    return Conv2dNormActivation(ins, outs, size, norm_layer=lambda width: nn.GroupNorm(min(32, width // 4), width))


def initialize(head: nn.Module) -> None:
    """Draw the convolutions of a head from a normal distribution of standard deviation .01, as in RetinaNet."""
    for convolution in (m for m in head.modules() if isinstance(m, nn.Conv2d)):
        nn.init.normal_(convolution.weight, std=0.01)
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)


def with_coordinates(feature: Tensor) -> Tensor:
    """Append x and y in [-1, 1] to a feature [B, D, h, w] as two more channels."""
    batch, _, height, width = feature.shape
    y, x = (torch.linspace(-1, 1, n, device=feature.device, dtype=feature.dtype) for n in (height, width))
    places = torch.stack(torch.meshgrid(x, y, indexing="xy")).expand(batch, -1, -1, -1)
    return torch.cat([feature, places], 1)


def flat(levels: list[Tensor]) -> Tensor:
    """Put maps [B, D, S, S] of all levels into one row of cells [B, cells, D]."""
    return torch.cat([level.flatten(2) for level in levels], 2).transpose(1, 2)


def quartered(masks: Tensor) -> Tensor:
    """Return the covered share of each 4 x 4 pixels, uint8 [K, H, W] -> float [K, H/4, W/4]; the release rounds it."""
    return masks.unflatten(2, (-1, 4)).unflatten(1, (-1, 4)).sum((2, 4), dtype=torch.uint8).float() / 16


@torch.no_grad()
def assign(targets: list[Target], masks: Tensor, design: Design) -> Tensor:
    """Say which object each cell answers for: int64 [B, cells], a row of `masks` uint8 [K, H, W] of all images, or -1.

    A level whose range holds sqrt(box area) answers with the cells that the central region touches, at most 3 x 3: sigma
    times the box, about the center of mass. In a shared cell the smallest object wins; the release trains its kernel on all.
    """
    (count, height, width), device = masks.shape, masks.device
    image = torch.cat([torch.full_like(t.labels, i) for i, t in enumerate(targets)])
    sides = torch.cat([t.boxes[:, 2:] - t.boxes[:, :2] for t in targets])  # [K, 2], (width, height)
    columns, rows = (masks.sum(axis, dtype=torch.float32) for axis in (1, 2))
    area = rows.sum(1)
    x = columns @ (torch.arange(width, device=device) + 0.5) / area / width  # in (0, 1)
    y = rows @ (torch.arange(height, device=device) + 0.5) / area / height
    reach = SIGMA / 2 * sides / torch.cat([sides.new_full((1,), side) for side in (width, height)])
    scale = sides.prod(1).sqrt()
    inside = []
    for grid, (low, high) in zip(design.grids, RANGES, strict=True):
        across, down = _cells(x, reach[:, 0], grid), _cells(y, reach[:, 1], grid)  # [K, S]
        down &= ((scale >= low * design.share) & (scale <= high * design.share))[:, None]
        inside.append((down[:, :, None] & across[:, None, :]).flatten(1))
    by_area = area.argsort(stable=True)
    rank = torch.empty_like(by_area).scatter_(0, by_area, torch.arange(count, device=device))
    claims = torch.where(torch.cat(inside, 1), rank[:, None], count)  # [K, cells]
    best = torch.full((len(targets), claims.shape[1]), count, device=device)
    best.scatter_reduce_(0, image[:, None].expand_as(claims), claims, "amin")
    return torch.cat([by_area, by_area.new_full((1,), -1)])[best]


def _cells(center: Tensor, reach: Tensor, grid: int) -> Tensor:
    """Mark the cells that center +- reach touches along one axis, as far as the neighbors of the center: bool [K, S]."""
    middle, first, last = ((v * grid).floor()[:, None] for v in (center, center - reach, center + reach))
    cell = torch.arange(grid, device=center.device)
    return (cell >= first) & (cell <= last) & ((cell - middle).abs() <= 1)


def peak_scores(scores: Tensor) -> Tensor:
    """Set scores [B, C, S, S] to 0 where a cell is not the highest of the four cells of which it is the last."""
    highest = max_pool2d(scores, 2, stride=1, padding=1)[:, :, :-1, :-1]
    return scores * (highest == scores)


def matrix_nms(masks: Tensor, labels: Tensor, scores: Tensor) -> Tensor:
    """Lower scores by the overlap with better scored masks of the class, all at once (SOLOv2, Sec. 3.3).

    Mask j decays by the least of exp(-2 (o_ij^2 - c_i^2)) over all i above it, with o the IoU and c_i that of i with its own
    worst rival above it: a mask that is itself suppressed suppresses less. masks: bool [B, N, P], by falling score; labels,
    scores and the result: [B, N].
    """
    pixels = masks.float()
    common = pixels @ pixels.transpose(1, 2)
    area = pixels.sum(2)
    union = (area[:, :, None] + area[:, None, :] - common).clamp(min=1)
    rivals = (labels[:, :, None] == labels[:, None, :]).triu(1)
    overlap = common / union * rivals  # [B, i, j], of j with i above it
    worst = overlap.amax(1)[:, :, None]
    return scores * (2.0 * (worst.square() - overlap.square())).exp().amin(1)
