"""AttentionShift's detector: proposals, classes, boxes and masks of objects, taught by pseudo boxes (spec 2.12).

taps --pyramid--> proposals; features of the last layer within them --transformer decoders--> class and box, mask

Proposals, sampling and suppression are torchvision's; the two decoders follow imTED, as the release does.
"""

from typing import NamedTuple

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork, RPNHead
from torchvision.ops import FeaturePyramidNetwork, generalized_box_iou_loss, roi_align
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from wsis.methods.attentionshift.config import AttentionShiftConfig, HeadConfig
from wsis.methods.attentionshift.model import CELLS
from wsis.models.vit_pyramid import ViTPyramid

MASK_CELLS = 14
"""Cells along the side of a mask's features; the mask is twice as fine, in training and at inference (spec 9.3)."""
Size = tuple[int, int]  # (height, width) in pixels


class Decoder(nn.Module):
    """A small transformer on the cells of a region, with fixed positions. `token`: one learned token in front.

    Call: [R, D, side, side] -> [R, side^2, width], with a token [R, 1 + side^2, width].
    """

    positions: Tensor

    def __init__(self, width: int, side: int, token: bool, heads: HeadConfig) -> None:
        super().__init__()
        inner = heads.width
        self.narrow = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, inner))
        grid = build_sincos2d_pos_embed([MASK_CELLS] * 2, inner)[None]
        positions = resample_abs_pos_embed(grid, [side] * 2, [MASK_CELLS] * 2, num_prefix_tokens=0)
        self.register_buffer("positions", positions, persistent=False)
        self.token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, inner), std=0.02)) if token else None
        self.blocks = nn.Sequential(*(Block(inner, max(1, inner // 32), qkv_bias=True) for _ in range(heads.depth)))
        self.norm = nn.LayerNorm(inner)

    def forward(self, regions: Tensor) -> Tensor:
        x = self.narrow(regions.flatten(2).mT) + self.positions
        if self.token is not None:
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        return self.norm(self.blocks(x))


class BoxHead(nn.Module):
    """Call: [R, D, 7, 7] -> logits fp32 [R, 1 + C], 0 is background, and box deltas of each fp32 [R, 4 (1 + C)]."""

    def __init__(self, width: int, cfg: AttentionShiftConfig) -> None:
        super().__init__()
        self.decoder = Decoder(width, CELLS, token=True, heads=cfg.heads)
        self.predictor = FastRCNNPredictor(cfg.heads.width, 1 + cfg.classes)

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        logits, deltas = self.predictor(self.decoder(regions)[:, 0])
        return logits.float(), deltas.float()


class MaskHead(nn.Module):
    """The mask of one class in each region. Call: [R, D, 14, 14], labels [R] in 0..C-1 -> logits fp32 [R, 28, 28].

    The release enlarges all channels and then has a 1 x 1 convolution. Both are linear and the weights of an enlargement
    sum to 1, so the order does not matter, and only the class that is asked for is enlarged.
    """

    def __init__(self, width: int, cfg: AttentionShiftConfig) -> None:
        super().__init__()
        self.decoder = Decoder(width, MASK_CELLS, token=False, heads=cfg.heads)
        self.classes = nn.Linear(cfg.heads.width, cfg.classes)

    def forward(self, regions: Tensor, labels: Tensor) -> Tensor:
        cells = self.decoder(regions)
        weight, bias = self.classes.weight[labels], self.classes.bias[labels]
        logits = (cells @ weight[:, :, None])[..., 0].float() + bias[:, None]
        grid = logits.view(-1, 1, MASK_CELLS, MASK_CELLS)
        return interpolate(grid, scale_factor=2, mode="bicubic", align_corners=True)[:, 0]


class Anchors(AnchorGenerator):
    """Anchors at known strides, fp32. torchvision divides the image's side by the grid's, wrong where that rounds."""

    def __init__(self, strides: tuple[int, ...], scale: int) -> None:
        super().__init__(tuple((scale * s,) for s in strides), ((0.5, 1.0, 2.0),) * len(strides))
        self.strides = strides

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        self.set_cell_anchors(torch.float32, feature_maps[0].device)
        sizes = [list(f.shape[-2:]) for f in feature_maps]
        anchors = torch.cat(self.grid_anchors(sizes, [[torch.tensor(s)] * 2 for s in self.strides]))
        return [anchors] * len(image_list.image_sizes)


class ProposalHead(RPNHead):
    """torchvision's with outputs in fp32, since it decodes boxes in their precision, and bf16 rounds coordinates."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits, deltas = super().forward(x)
        return [one.float() for one in logits], [one.float() for one in deltas]


class Detection(NamedTuple):
    """What one step taught.

    terms: objectness, proposal_box, roi_class, roi_box, unweighted. Of the R sampled regions that hold an object, in
    the order of the images: rois float [R, 4] pixels, image long [R], matched long [R], the index of the object within
    its image, mask_logits fp32 [R, 28, 28] of its class.
    """

    terms: dict[str, Tensor]
    rois: Tensor
    image: Tensor
    matched: Tensor
    mask_logits: Tensor


class Detector(nn.Module):
    """From features of the last layer and of the taps, `Encoded`, to objects; call it to train, `detect` to use it."""

    def __init__(self, width: int, patch: int, cfg: AttentionShiftConfig) -> None:
        super().__init__()
        heads, self.patch = cfg.heads, patch
        self.levels = ViTPyramid(width)
        self.pyramid = FeaturePyramidNetwork([width] * 4, heads.pyramid, LastLevelMaxPool())
        strides = (patch // 4, patch // 2, patch, 2 * patch, 4 * patch)
        before, after = 2 * heads.proposals, heads.proposals
        self.rpn = RegionProposalNetwork(
            Anchors(strides, heads.anchor),
            ProposalHead(heads.pyramid, 3),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n={"training": before, "testing": before},
            post_nms_top_n={"training": after, "testing": after},
            nms_thresh=0.7,
        )
        self.sampler = RoIHeads(  # for its sampling and its suppression; it has no layers
            None, None, None, 0.5, 0.5, heads.rois, 0.25, (10, 10, 5, 5), heads.score, 0.5, heads.detections
        )
        self.box, self.mask = BoxHead(width, cfg), MaskHead(width, cfg)

    def forward(
        self, features: Tensor, taps: list[Tensor], sizes: list[Size], boxes: list[Tensor], labels: list[Tensor]
    ) -> Detection:
        """features: [B, D, h, w]. sizes: of the images without padding. boxes: [G, 4] each. labels: [G] in 0..C-1.

        The box term is the sum of 1 - GIoU over objects' regions, divided by the number of all sampled regions, as
        the class term is. torch's global generator samples. Images without objects are allowed.
        """
        targets = [{"boxes": b, "labels": k + 1} for b, k in zip(boxes, labels, strict=True)]
        proposals, first = self._propose(taps, sizes, targets)
        rois, matched, classes, _ = self.sampler.select_training_samples(proposals, targets)
        logits, deltas = self.box(self._regions(features, rois, CELLS))

        held = [c > 0 for c in classes]
        matched = [m[h] for m, h in zip(matched, held, strict=True)]
        wanted = torch.cat([b[m] for b, m in zip(boxes, matched, strict=True)])
        rois = [r[h] for r, h in zip(rois, held, strict=True)]
        known, every, inside = torch.cat(held), torch.cat(classes), torch.cat(rois)
        label = every[known]
        own = deltas[known].unflatten(1, (-1, 4))[torch.arange(len(label), device=label.device), label]
        decoded = self.sampler.box_coder.decode_single(own, inside)
        sampled = max(len(every), 1)
        terms = {
            "objectness": first["loss_objectness"],
            "proposal_box": first["loss_rpn_box_reg"],
            "roi_class": cross_entropy(logits, every, reduction="sum") / sampled,
            "roi_box": generalized_box_iou_loss(decoded, wanted, reduction="sum") / sampled,
        }
        image = torch.cat([torch.full_like(m, i) for i, m in enumerate(matched)])
        masks = self.mask(self._regions(features, rois, MASK_CELLS), label - 1)
        return Detection(terms, inside, image, torch.cat(matched), masks)

    @torch.no_grad()
    def detect(self, features: Tensor, taps: list[Tensor], sizes: list[Size]) -> list[dict[str, Tensor]]:
        """What is in each image: boxes [R, 4] pixels, labels [R] in 0..C-1, scores [R] falling, masks fp32 [R, 28, 28].

        Masks are probabilities within their boxes. sizes: see `forward`; boxes lie within them.
        """
        proposals, _ = self._propose(taps, sizes)
        logits, deltas = self.box(self._regions(features, proposals, CELLS))
        boxes, scores, labels = self.sampler.postprocess_detections(logits, deltas, proposals, sizes)
        masks = self.mask(self._regions(features, boxes, MASK_CELLS), torch.cat(labels) - 1).sigmoid()
        parts = zip(boxes, labels, scores, masks.split([len(b) for b in boxes]), strict=True)
        return [{"boxes": b, "labels": k - 1, "scores": s, "masks": m} for b, k, s, m in parts]

    def _propose(
        self, taps: list[Tensor], sizes: list[Size], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Proposals [N, 4] of each image and, with targets, torchvision's two terms."""
        features = self.pyramid({str(i): level for i, level in enumerate(self.levels(taps))})
        self.rpn.train(targets is not None)  # its mode decides whether there are terms, and nothing else
        return self.rpn(ImageList(taps[0], sizes), features, targets)

    def _regions(self, features: Tensor, boxes: list[Tensor], cells: int) -> Tensor:
        return roi_align(features, boxes, cells, 1 / self.patch, aligned=True)
