"""Settings of SimFormer with their sources. FULL is the release's COCO-Stuff-10K setting, TINY the same algorithm, smaller."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

from wsis.baselines import retab, rib
from wsis.baselines.retab import RetabConfig
from wsis.baselines.rib import RibConfig
from wsis.core.config import changed, ours, paper
from wsis.data.splits import WORLD_SPLIT, find_split
from wsis.training.schedule import Schedule
from wsis.training.stages import presets
from wsis.weak.sources import Clicks

PARENT = "cheng2021maskformer"


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """MaskFormer's transformer decoder, which makes proposals of class and mask."""

    CITE: ClassVar[str] = PARENT
    width: int = paper(256, "official config", unit="channels of both embeddings", scales=True)
    queries: int = paper(100, "official config", scales=True)
    layers: int = paper(6, "official config", scales=True)
    heads: int = paper(8, "official config", scales=True)
    feedforward: int = paper(2048, "official config", unit="channels", scales=True)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the terms of the objective, and of known masks beside the class in the matching."""

    matching: float = paper(1.0, "official code", cite=PARENT, unit="weight of a known mask's cost", scales=True)
    no_object: float = paper(0.1, "official config", cite=PARENT, unit="weight of unmatched queries")
    focal: float = paper(20.0, "official config", cite=PARENT, unit="weight")
    dice: float = paper(1.0, "official config", cite=PARENT, unit="weight")
    complement: float = paper(0.15, "official config, COCO; ADE .2", unit="weight; 0 = off")
    complement_floor: float = paper(-2.9444, "official config: probability .05", unit="logit")
    similarity: float = paper(1.0, "official config", unit="weight of SimNet's loss")
    distillation: float = paper(0.1, "official config, COCO (S1: 0); ADE .5", unit="weight; 0 = off")


@dataclass(frozen=True, kw_only=True)
class PairConfig:
    """The similarity of pixels, which is learned on base classes and distilled into the scores of novel ones."""

    mode: Literal["basic", "self", "cross"] = paper("cross", "supp. Table 2: basic, self, cross")
    points: int = paper(100, "supp. Table 1", unit="pixels per image", scales=True)
    labeled: Literal["either", "both"] = paper("either", "official code: pixels of a pair in base classes; both: ours")


@dataclass(frozen=True, kw_only=True)
class SizeConfig:
    """Sizes of images in training and inference."""

    crop: int = paper(640, "official config, COCO; ADE 512", unit="px", scales=True)
    short: tuple[int, ...] = paper(tuple(range(320, 961, 64)), "official config; supp. to 1280", unit="px", scales=True)
    long: int = paper(2560, "official config", unit="px, at most", scales=True)
    test_short: int = paper(640, "official config", unit="px", scales=True)
    test_long: int = paper(2560, "official config", unit="px, at most", scales=True)


@dataclass(frozen=True, kw_only=True)
class PseudoConfig:
    """Class maps of the training images, from which a second network learns: true base classes, predicted novel ones."""

    source: Literal["network", "rib", "retab"] = paper("network", "supp. Table 3: SimFormer*; others: RIB*, RETAB*")
    present_only: bool = ours(False, "as in the release: a predicted class without a tag becomes void")
    scales: tuple[int, ...] = paper((), "official config, COCO; ADE 320..960", unit="px, short sides")
    flip: bool = paper(False, "official config, COCO; ADE True")


SCHEDULE = Schedule(60_000, 8, "adamw", 1e-5, "poly", new_lr=10.0, weight_decay=1e-4, decay_all=False, clip=0.01)


@dataclass(frozen=True, kw_only=True)
class SimFormerConfig:
    """SimFormer (NeurIPS 2022)."""

    CITE: ClassVar[str] = "chen2022simformer"
    largest_side: ClassVar[int] = 1024  # pixels: the scores of all classes are held at this size
    whole_maps: ClassVar[bool] = True
    clicks: ClassVar[Clicks] = "class_maps"
    supervision: Literal["base_masks"] = paper("base_masks", "abstract: novel classes have tags")
    masks: Literal["base", "all"] = ours("base", "all is the oracle: true masks of novel classes too")
    split: str = paper("S1", "official code, S1-S9 of COCO-Stuff, S1-S4 of ADE", scales=True)
    novel: tuple[int, ...] = ours((), "set from the data's classes by the split", unit="labels", scales=True)
    tag_scope: Literal["crop", "image"] = paper("crop", "official code: the crop's tags say more than the image's")
    classes: int = ours(171, "COCO-Stuff; set from the data", unit="classes", scales=True)
    backbone: str = paper("resnet50", "official config", cite=PARENT, scales=True)
    weights: str = paper("imagenet", "official config", cite=PARENT, scales=True)
    decoder: DecoderConfig = DecoderConfig()
    loss: LossConfig = LossConfig()
    pairs: PairConfig = PairConfig()
    size: SizeConfig = SizeConfig()
    pseudo: PseudoConfig = PseudoConfig()
    rib: RibConfig = RibConfig()
    retab: RetabConfig = RetabConfig()
    network: Schedule = paper(SCHEDULE, "official config, COCO; ADE 160k")
    final: Schedule = paper(SCHEDULE, "official config: as the first; 0 steps = no second network")

    @property
    def image_side(self) -> int:
        return self.size.crop

    @property
    def unmasked(self) -> tuple[int, ...]:
        """The classes with tags only."""
        return self.novel if self.masks == "base" else ()

    @property
    def uses_pairs(self) -> bool:
        """Whether there is a SimNet."""
        return self.masks == "base" and self.pairs.mode != "basic"

    def for_classes(self, names: Sequence[str]) -> Self:
        """These settings for data with the classes `names`; raises ConfigError where the split does not fit them."""
        return changed(self, classes=len(names), novel=find_split(self.split, names))

    def for_dry_run(self) -> Self:
        """These settings with weights that need no download, for random images."""
        weights = "shipped" if self.weights == "shipped" else "random"  # shipped ones freeze the norms, as in training
        return changed(self, weights=weights, novel=(0,))


FULL = SimFormerConfig()
SMALL, TINY = presets(FULL, __file__)
SMALL = replace(SMALL, rib=rib.SMALL, retab=retab.SMALL)
TINY = replace(TINY, rib=rib.TINY, retab=retab.TINY, split=WORLD_SPLIT)
