"""Settings of SimFormer with their sources. FULL is the release's COCO-Stuff-10K setting, TINY the same algorithm, smaller."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from wsis.core.config import changed, ours, paper
from wsis.data.splits import WORLD_SPLIT, find_split
from wsis.training.schedule import Schedule
from wsis.weak.sources import Clicks

CITE = "chen2022simformer"
PARENT = "cheng2021maskformer"

Mode = Literal["basic", "self_aug", "self_same", "cross"]


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """MaskFormer: proposals of class and mask from one transformer decoder on a convolutional backbone."""

    backbone: str = paper("resnet50", cite=PARENT, where="official config", scales=True)
    weights: str = paper("imagenet", cite=PARENT, where="official config", scales=True)
    width: int = paper(256, cite=PARENT, where="official config", unit="channels of both embeddings", scales=True)
    queries: int = paper(100, cite=PARENT, where="official config", scales=True)
    layers: int = paper(6, cite=PARENT, where="official config, of the decoder", scales=True)
    heads: int = paper(8, cite=PARENT, where="official config", scales=True)
    feedforward: int = paper(2048, cite=PARENT, where="official config", unit="channels", scales=True)
    dropout: float = paper(0.1, cite=PARENT, where="official config", unit="probability")


@dataclass(frozen=True, kw_only=True)
class ClassConfig:
    """Classes of proposals, of base and novel classes alike: what the image's tags teach."""

    no_object: float = paper(0.1, cite=PARENT, where="official config", unit="weight of unmatched proposals")
    mask_cost: float = paper(
        1.0, cite=PARENT, where="official code, of a known mask in the match", unit="weight", scales=True
    )
    novel_mask_cost: float = paper(0.0, cite=CITE, where="official code", unit="weight")


@dataclass(frozen=True, kw_only=True)
class MaskConfig:
    """Masks of proposals: focal and dice loss, where a mask is known."""

    focal: float = paper(20.0, cite=PARENT, where="official config", unit="weight")
    dice: float = paper(1.0, cite=PARENT, where="official config", unit="weight")
    alpha: float = paper(0.25, cite=PARENT, where="official code, of the focal loss", unit="weight of positives")
    gamma: float = paper(2.0, cite=PARENT, where="official code, of the focal loss", unit="exponent")


@dataclass(frozen=True, kw_only=True)
class ComplementConfig:
    """The masks of an image's novel classes together should be what its base masks leave."""

    weight: float = paper(0.15, cite=CITE, where="official config, COCO; ADE .2", unit="weight; 0 = off")
    ignore: float = paper(-2.9444, cite=CITE, where="official config: probability .05", unit="logit")


@dataclass(frozen=True, kw_only=True)
class PairConfig:
    """Similarity of pixels, learned on base classes and taught to the scores of novel ones."""

    mode: Mode = paper("cross", cite=CITE, where="supp. Table 2: basic, self, cross")
    reference: Literal["deconf", "deconf_parity", "random", "base", "novel"] = paper(
        "deconf", cite=CITE, where="official config, Deconf0.01"
    )
    rarest: float = paper(0.01, cite=CITE, where="official config", unit="probability of the rarest class")
    points: int = paper(100, cite=CITE, where="supp. Table 1", unit="pixels per image", scales=True)
    inside: float = paper(0.8, cite=CITE, where="official code", unit="of the pixels, in the chosen base class")
    labelled: Literal["either", "both"] = paper(
        "either", cite=CITE, where="official code: which pixel of a pair is of a base class; both is ours"
    )
    blocks: int = paper(3, cite=CITE, where="official code", unit="residual blocks of SimNet")
    window: int = paper(25, cite=CITE, where="official code", unit="steps that balance the two kinds of pair")
    detach: bool = paper(True, cite=CITE, where="official config, BASE_DETACH")
    teacher_norm: Literal["eval", "train"] = ours(
        "eval", why="in training mode the statistics mix in pairs without a label, as in the release"
    )
    student: Literal["cross", "same"] = ours(
        "cross", why="the teacher's pairs; the release compares pixels of one image with a teacher across two"
    )
    scores: Literal["novel", "all"] = paper("novel", cite=CITE, where="official config, NovelScore")
    form: Literal["ce", "cce", "b"] = paper("cce", cite=CITE, where="official configs of S2, S4-S9; ce for S3")
    threshold: float = paper(0.5, cite=CITE, where="official code", unit="likeness that says nothing")
    similarity: float = paper(1.0, cite=CITE, where="official config", unit="weight of SimNet's loss")
    distillation: float = paper(0.1, cite=CITE, where="official config, COCO (S1: 0); ADE .5", unit="weight")


@dataclass(frozen=True, kw_only=True)
class SizeConfig:
    """Sizes of images in training and inference."""

    crop: int = paper(640, cite=CITE, where="official config, COCO; ADE 512", unit="px", scales=True)
    short: tuple[int, ...] = paper(
        tuple(range(320, 961, 64)), cite=CITE, where="official config; supp. says up to 1280", unit="px", scales=True
    )
    long: int = paper(2560, cite=CITE, where="official config", unit="px, at most", scales=True)
    flip: float = paper(0.5, cite=CITE, where="official config", unit="probability")
    test_short: int = paper(640, cite=CITE, where="official config", unit="px", scales=True)
    test_long: int = paper(2560, cite=CITE, where="official config", unit="px, at most", scales=True)


@dataclass(frozen=True, kw_only=True)
class PseudoConfig:
    """Maps of the training images that a second network learns from: base truth, novel predictions."""

    present_only: bool = ours(False, why="as in the release: a predicted class without a tag becomes void")
    scales: tuple[int, ...] = paper((), cite=CITE, where="official config, COCO; ADE 320..960", unit="px, short sides")
    long: int = paper(
        4480, cite=CITE, where="official config, ADE: with several scales", unit="px, at most", scales=True
    )
    flip: bool = paper(False, cite=CITE, where="official config, COCO; ADE True")


@dataclass(frozen=True, kw_only=True)
class SimFormerConfig:
    """SimFormer (NeurIPS 2022)."""

    CITE: ClassVar[str] = CITE
    supervision: Literal["base_masks"] = paper("base_masks", cite=CITE, where="abstract: novel classes have tags")
    masks: Literal["base", "all"] = ours("base", why="all is the oracle: true masks of novel classes too")
    split: str = paper("S1", cite=CITE, where="official code, S1-S9 of COCO-Stuff, S1-S4 of ADE", scales=True)
    novel: tuple[int, ...] = ours((), why="set from the data's classes by the split", unit="labels", scales=True)
    tag_scope: Literal["crop", "image"] = paper(
        "crop", cite=CITE, where="official code: tags of what the crop shows, more than the image's"
    )
    classes: int = ours(171, why="COCO-Stuff; set from the data", unit="classes", scales=True)
    net: NetworkConfig = NetworkConfig()
    label: ClassConfig = ClassConfig()
    mask: MaskConfig = MaskConfig()
    complement: ComplementConfig = ComplementConfig()
    pairs: PairConfig = PairConfig()
    size: SizeConfig = SizeConfig()
    pseudo: PseudoConfig = PseudoConfig()
    network: Schedule = paper(
        Schedule(60_000, 8, "adamw", 1e-5, "poly", new_lr=10.0, weight_decay=1e-4, decay_all=False, clip=0.01),
        "official config, COCO; ADE 160k",
    )
    retrain: Schedule = paper(
        Schedule(60_000, 8, "adamw", 1e-5, "poly", new_lr=10.0, weight_decay=1e-4, decay_all=False, clip=0.01),
        "official config: as the first; 0 steps = no second network",
    )

    @property
    def image_side(self) -> int:
        """Pixels of a training image's side, for trials on random numbers."""
        return self.size.crop

    @property
    def clicks(self) -> Clicks | None:
        """The annotation of every object that the method needs."""
        return "class_maps"

    def for_dry_run(self) -> Self:
        """These settings with random weights, for random images."""
        return changed(self, **{"net.weights": "random", "novel": (0,)})

    @property
    def uses_pairs(self) -> bool:
        """Whether there is a SimNet."""
        return self.masks == "base" and self.pairs.mode != "basic"

    def for_classes(self, names: Sequence[str]) -> Self:
        """These settings for data with the classes `names`; raises ConfigError where the split does not fit them."""
        return changed(self, classes=len(names), novel=find_split(self.split, names))


FULL = SimFormerConfig()

TINY = changed(
    FULL,
    classes=16,
    split=WORLD_SPLIT,
    **{
        "net.backbone": "resnet_tiny",
        "net.weights": "shipped",
        "net.width": 64,
        "net.queries": 20,
        "net.layers": 3,
        "net.heads": 4,
        "net.feedforward": 128,
        "label.mask_cost": 0.1,
        "pairs.points": 32,
        "size.crop": 96,
        "size.short": (80, 96, 112, 128),
        "size.long": 256,
        "size.test_short": 96,
        "size.test_long": 256,
        "pseudo.long": 448,
        "network.steps": 500,
        "network.lr": 2e-4,
        "network.warmup": 100,
        "retrain.steps": 500,
        "retrain.lr": 2e-4,
        "retrain.warmup": 100,
    },
)
