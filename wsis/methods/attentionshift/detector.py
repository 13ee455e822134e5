"""AttentionShift's detector, and the whole network that is trained (official code).

taps --pyramid--> proposals; features of the last layer within them --transformer decoders--> class and box, mask
Proposals, sampling and suppression are torchvision's; the two decoders follow imTED, as the release does.
"""

from typing import NamedTuple

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork, RPNHead
from torchvision.ops import FeaturePyramidNetwork, roi_align
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from wsis.methods.attentionshift import labels as labeling
from wsis.methods.attentionshift.config import AttentionShiftConfig, HeadConfig
from wsis.methods.attentionshift.maps import PaddedPoints
from wsis.methods.attentionshift.model import CELLS, Encoded, Encoder, MilHead, TokenHeads, pad_to_multiple
from wsis.models.pyramids import ViTPyramid

MASK_CELLS = 14  # along the side of a mask's features; the mask is twice as fine, in training and at inference
MIN_SCORE, MAX_DETECTIONS = 0.05, 100  # of an object that is detected, and of an image (official config)
PRIOR_LOGIT = -4.6  # of a token's classes at first: one in a hundred, as usual with a focal loss (Lin et al., 2017)
Size = tuple[int, int]  # (height, width) in pixels


class Decoder(nn.Module):
    """A small transformer on a region's cells: [R, D, side, side] -> [R, side^2, width], after a learned `token`, if any."""

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
        return [level.float() for level in logits], [level.float() for level in deltas]


class Detection(NamedTuple):
    """What the detector makes of one training step: of all N sampled regions, and of the R that hold an object."""

    proposal_terms: dict[str, Tensor]  # objectness and proposal_box, from torchvision
    logits: Tensor  # fp32 [N, 1 + C], 0 is background
    classes: Tensor  # long [N], their targets
    rois: Tensor  # [R, 4] pixels
    objects: Tensor  # long [R], which object of the batch each holds
    boxes: Tensor  # [R, 4], decoded for their class
    true_boxes: Tensor  # [R, 4], their targets
    mask_logits: Tensor  # fp32 [R, 28, 28] of their class


class Detector(nn.Module):
    """From features of the last layer and of the taps to objects; call it to train, `detect` to use it."""

    def __init__(self, width: int, patch: int, cfg: AttentionShiftConfig) -> None:
        super().__init__()
        heads, self.patch = cfg.heads, patch
        self.levels = ViTPyramid(width)
        self.pyramid = FeaturePyramidNetwork([width] * 4, heads.pyramid, LastLevelMaxPool())
        anchors = Anchors((patch // 4, patch // 2, patch, 2 * patch, 4 * patch), heads.anchor)
        n = heads.proposals
        before, after = {"training": 2 * n, "testing": n}, {"training": n, "testing": n}
        head = ProposalHead(heads.pyramid, 3)
        # IoU of objects and of background, sampled anchors and their positive share, proposals before and after NMS, its IoU
        self.rpn = RegionProposalNetwork(anchors, head, 0.7, 0.3, 256, 0.5, before, after, nms_thresh=0.7)
        sampling, suppression = (0.5, 0.5, heads.rois, 0.25, (10, 10, 5, 5)), (MIN_SCORE, 0.5, MAX_DETECTIONS)
        self.sampler = RoIHeads(None, None, None, *sampling, *suppression)  # it has no layers
        self.box, self.predictor = Decoder(width, CELLS, True, heads), FastRCNNPredictor(heads.width, 1 + cfg.classes)
        self.mask, self.classes = Decoder(width, MASK_CELLS, False, heads), nn.Linear(heads.width, cfg.classes)

    def forward(self, encoded: Encoded, sizes: list[Size], boxes: list[Tensor], labels: list[Tensor]) -> Detection:
        """sizes: without padding. boxes: [G, 4], labels: [G] in 0..C-1 of each image; G may be 0."""
        targets = [{"boxes": b, "labels": k + 1} for b, k in zip(boxes, labels, strict=True)]
        features, (proposals, proposal_terms) = encoded.features, self._propose(encoded, sizes, targets)
        rois, matched, classes, _ = self.sampler.select_training_samples(proposals, targets)
        logits, deltas = self._classify(features, rois)
        rois = [r[c > 0] for r, c in zip(rois, classes, strict=True)]
        every, joined = torch.cat(classes), torch.cat(rois)
        positive = (every > 0).nonzero()[:, 0]
        label = every[positive]
        firsts = torch.tensor([0, *(len(b) for b in boxes)]).cumsum(0).tolist()  # the number of an image's first object
        objects = torch.cat([m + first for m, first in zip(matched, firsts, strict=False)])[positive]
        chosen = deltas[positive].unflatten(1, (-1, 4))[torch.arange(len(label), device=label.device), label]
        decoded = self.sampler.box_coder.decode_single(chosen, joined)
        masks = self.segment(features, rois, label - 1)
        return Detection(proposal_terms, logits, every, joined, objects, decoded, torch.cat(boxes)[objects], masks)

    @torch.no_grad()
    def detect(self, encoded: Encoded, sizes: list[Size]) -> list[dict[str, Tensor]]:
        """Boxes [R, 4] within `sizes`, labels [R] in 0..C-1, falling scores [R], probabilities within the boxes [R, 28, 28]."""
        features, (proposals, _) = encoded.features, self._propose(encoded, sizes)
        logits, deltas = self._classify(features, proposals)
        boxes, scores, labels = self.sampler.postprocess_detections(logits, deltas, proposals, sizes)
        masks = self.segment(features, boxes, torch.cat(labels) - 1).sigmoid()
        parts = zip(boxes, labels, scores, masks.split([len(b) for b in boxes]), strict=True)
        return [{"boxes": b, "labels": k - 1, "scores": s, "masks": m} for b, k, s, m in parts]

    def _propose(
        self, encoded: Encoded, sizes: list[Size], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Proposals [N, 4] of each image and, with targets, torchvision's two terms."""
        features = self.pyramid({str(i): level for i, level in enumerate(self.levels(encoded.taps))})
        self.rpn.train(targets is not None)  # its mode decides whether there are terms, and nothing else
        proposals, terms = self.rpn(ImageList(encoded.features, sizes), features, targets)
        names = {"loss_objectness": "objectness", "loss_rpn_box_reg": "proposal_box"}
        return proposals, {names[name]: term for name, term in terms.items()}

    def _classify(self, features: Tensor, boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits of regions fp32 [R, 1 + C], 0 is background, and deltas of the box of each class fp32 [R, 4 (1 + C)]."""
        regions = roi_align(features, boxes, CELLS, 1 / self.patch, aligned=True)
        logits, deltas = self.predictor(self.box(regions)[:, 0])
        return logits.float(), deltas.float()

    def segment(self, features: Tensor, boxes: list[Tensor], labels: Tensor) -> Tensor:
        """Mask logits of regions, boxes [R_i, 4] of each image, each of its class [R] in 0..C-1: fp32 [R, 28, 28].

        Only this class is enlarged. The release first enlarges all channels; both steps are linear, so the result is the same.
        """
        cells = self.mask(roi_align(features, boxes, MASK_CELLS, 1 / self.patch, aligned=True))
        weight, bias = self.classes.weight[labels], self.classes.bias[labels]
        logits = (cells @ weight[:, :, None])[..., 0].float() + bias[:, None]
        grid = logits.view(-1, 1, MASK_CELLS, MASK_CELLS)
        return interpolate(grid, scale_factor=2, mode="bicubic", align_corners=True)[:, 0]


class Outputs(NamedTuple):
    """What one training step gives; the labels and the targets of the tokens have no gradient."""

    labels: labeling.Labels
    logits: Tensor  # of the tokens, [B, P, C]
    places: Tensor  # of the tokens, [B, P, 2]
    scores: Tensor  # of candidates, [B, G, K, C]
    targets: PaddedPoints
    extents: Tensor  # of the images, see `image_extents`
    detection: Detection


class AttentionShift(nn.Module):
    """Transformer with learned tokens, their heads, the MIL head and the detector. Call it to train."""

    def __init__(self, cfg: AttentionShiftConfig) -> None:
        super().__init__()
        self.cfg, self.encoder = cfg, Encoder(cfg)
        width, patch = self.encoder.width, self.encoder.patch
        self.tokens = TokenHeads(width, cfg)
        nn.init.constant_(self.tokens.label[-2].bias, PRIOR_LOGIT)  # pyright: ignore[reportArgumentType]  # the last linear
        self.mil = MilHead(width, patch, cfg)
        self.detector = Detector(width, patch, cfg)
        self.multiple = 2 * patch  # pixels that have to divide the sides of images, for the detector's pyramid

    def forward(self, images: Tensor, valid: Tensor, clicks: PaddedPoints, owners: Tensor | None = None) -> Outputs:
        """images: [B, 3, H, W] in [0, 1]. valid: bool [B, H, W], False on padding. owners: see `label`."""
        images = pad_to_multiple(images, self.multiple)
        valid = pad_to_multiple(valid, self.multiple, "constant")
        encoded, extents, present = self.encoder(images), image_extents(valid), clicks.present
        owners = None if owners is None else pad_to_multiple(owners, self.multiple, "constant")
        labels, logits, places, scores = self.label(encoded, valid, clicks, self.cfg, owners)
        targets = labeling.with_key_points(clicks, labels.key_points, self.cfg.tokens)
        counts = present.sum(1).tolist()
        boxes, classes = labels.boxes[present].split(counts), clicks.labels[present].split(counts)
        sizes = [(int(h), int(w)) for w, h in extents.tolist()]
        detection = self.detector(encoded, sizes, list(boxes), list(classes))
        return Outputs(labels, logits, places, scores, targets, extents, detection)

    def label(
        self,
        encoded: Encoded,
        valid: Tensor,
        clicks: PaddedPoints,
        cfg: AttentionShiftConfig,
        owners: Tensor | None = None,
    ) -> tuple[labeling.Labels, Tensor, Tensor, Tensor]:
        """Labels and, with a gradient, logits and places of tokens and scores of candidates. valid: bool [B, H, W].

        owners: of an oracle, [B, H, W], k on the true object of click k - 1, else 0.
        """
        logits, places = self.tokens(encoded.tokens)
        tokens = labeling.match_tokens(logits, places, clicks, image_extents(valid))
        maps, boxes = labeling.find_candidates(encoded, tokens, clicks, valid, cfg)
        scores = self.mil(encoded.features, boxes.transpose(1, 2))
        chosen = of_class(scores.detach(), clicks.labels).argmax(2)
        numbers = torch.arange(1, boxes.shape[2] + 1, device=boxes.device)[:, None, None]
        truth = None if owners is None else owners[:, None] == numbers
        if truth is not None and cfg.oracle == "boxes":
            boxes = labeling.true_boxes(boxes, truth)
        labels = labeling.find_labels(encoded, (maps, boxes), chosen, clicks, valid, cfg)
        if truth is not None and cfg.oracle == "masks":
            labels = labeling.true_labels(labels, truth)
        return labels, logits, places, scores


def image_extents(valid: Tensor) -> Tensor:
    """(width, height) of each image without its padding, which is at the right and at the bottom: fp32 [B, 2]."""
    return torch.stack([valid.any(1).sum(1), valid.any(2).sum(1)], 1).float()


def of_class(scores: Tensor, labels: Tensor) -> Tensor:
    """MIL scores [B, G, K, C] of each object's class: [B, G, K]."""
    return scores.take_along_dim(labels[..., None, None], 3)[..., 0]
