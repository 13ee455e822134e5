"""Settings of EXITS with their sources. FULL is the supplementary's COCO setting; SMALL and TINY are the same algorithm."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from wsis.core.config import ours, paper
from wsis.models.segmenters import Name
from wsis.training.schedule import Schedule
from wsis.training.stages import SharedSettings, presets
from wsis.weak.sources import Clicks

MAL = "lan2023mal"
GENERATOR = Schedule(
    147_500, 32, "adamw", 4.8e-5, "cosine", betas=(0.9, 0.9), weight_decay=5e-4, warmup=14_750, floor=0.2
)
MASK2FORMER = Schedule(368_750, 16, "adamw", 1e-5, "step", (0.889, 0.963), new_lr=10.0, weight_decay=0.05, clip=0.01)


@dataclass(frozen=True, kw_only=True)
class SizeConfig:
    """Crops of single objects, and which objects are large enough to train on."""

    crop: int = paper(512, "official code", unit="px", scales=True, cite=MAL)
    min_area: float = paper(2048.0, "official code: larger boxes are trained on", unit="px²", scales=True, cite=MAL)


@dataclass(frozen=True, kw_only=True)
class SeedConfig:
    """Tokens that the four clicks and their box label with certainty."""

    push: float = paper(24.0, "supp. text, COCO; LVIS 16, VOC 12", unit="px of the crop", scales=True)
    other_objects: bool = ours(False, "clicks of neighbors as background; the supplementary hints at it")


@dataclass(frozen=True, kw_only=True)
class ExtractorConfig:
    """The frozen transformer whose attention is the similarity of tokens, or convolutional network and its cosines."""

    backbone: str = paper("vit_base", "Table a5: 86M parameters", scales=True)
    weights: str = paper("mae", "Table a4", scales=True)
    layer: int = paper(10, "Table a1; 0 is the mean of all; of a transformer", unit="layer from 1")


@dataclass(frozen=True, kw_only=True)
class WalkConfig:
    """From similarity to a transition matrix, to scores, to retrieved points."""

    hops: int = paper(3, "Table a2", unit="hops")
    limit: bool = paper(False, "Table a2, eq. (a2): an endless walk with restarts, in place of hops")
    tau_fg: float = ours(1.0, "unpublished; the stage `thresholds` calibrates it", unit="score", scales=True)
    tau_bg: float = ours(1.0, "unpublished; the stage `thresholds` calibrates it", unit="score", scales=True)
    fg_factor: float = ours(1.0, "of the calibrated threshold; Fig. a1 (a)", unit="times tau")
    bg_factor: float = ours(1.0, "of the calibrated threshold; Fig. a1 (b)", unit="times tau")
    empty_rate: float = paper(0.07, "supp. Sec. B", unit="fraction of crops that retrieve nothing")
    crops: int = ours(2000, "to calibrate on; the rate is then known to half a point", unit="crops", scales=True)


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """The network that generates the pseudo masks."""

    backbone: str = paper("vit_base", "Table a5: 93M parameters with the decoder", scales=True)
    weights: str = paper("mae", "supp. text", scales=True)
    stem: Literal["patch", "conv"] = ours("patch", "pretrained; the 93M count implies a random convolutional stem")
    ema: float = paper(0.996, "official code", unit="per step", scales=True, cite=MAL)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the terms of the objective, and the steps over which two of them rise."""

    mil: float = paper(10.0, "supp. text; MAL 4")
    point: float = paper(0.5, "supp. text, COCO and LVIS; VOC .05")
    crf: float = paper(0.5, "supp. text")
    mil_ramp: int = paper(1000, "official code", unit="step", scales=True, cite=MAL)
    crf_ramp: int = paper(4000, "official code", unit="step", scales=True, cite=MAL)


@dataclass(frozen=True, kw_only=True)
class CrfConfig:
    """The mean field on the colors of the crop, with which the generator supervises itself."""

    CITE: ClassVar[str] = MAL
    zeta: float = paper(0.1, "official code", unit="normalized color")
    iterations: int = paper(100, "official code", unit="iterations")


@dataclass(frozen=True, kw_only=True)
class MaskConfig:
    """From the trained generator to pseudo masks."""

    CITE: ClassVar[str] = MAL
    threshold: float = paper(0.1, "official code; EXITS' is unpublished", unit="probability", scales=True)
    source: Literal["student", "teacher", "mean"] = paper("student", "official code")
    flip: bool = paper(False, "official code")


@dataclass(frozen=True, kw_only=True)
class FinalConfig:
    """The segmenter that is trained on the pseudo masks as if they were annotated."""

    segmenter: Name = paper("mask2former", "Table a5; Tables a1-a4 SOLOv2", scales=True)
    backbone: str = paper("swin_small", "Table a5; Tables a1-a4 ResNet-50", scales=True)
    weights: str = paper("imagenet", "supp. text", scales=True)
    masks: Literal["pseudo", "truth"] = ours("pseudo", "truth is the upper bound of the figures")
    schedule: Schedule = paper(MASK2FORMER, "supp. text: Mask2Former's own schedule")


@dataclass(frozen=True, kw_only=True)
class ExitsConfig(SharedSettings):
    """EXITS (CVPR 2024, arXiv 2405.20729)."""

    CITE: ClassVar[str] = "lee2024exits"
    largest_side: ClassVar[int] = 4096  # pixels
    supervision: Literal["extreme_points", "boxes"] = paper("extreme_points", "abstract; boxes alone are MAL")
    classes: int = ours(80, "COCO; set from the data", unit="classes", scales=True)
    size: SizeConfig = SizeConfig()
    seeds: SeedConfig = SeedConfig()
    extractor: ExtractorConfig = ExtractorConfig()
    walk: WalkConfig = WalkConfig()
    generator: GeneratorConfig = GeneratorConfig()
    loss: LossConfig = LossConfig()
    crf: CrfConfig = CrfConfig()
    mask: MaskConfig = MaskConfig()
    final: FinalConfig = FinalConfig()
    warmup: Schedule = paper(replace(GENERATOR, steps=118_000), "supp. text: 8 epochs; the rest as for the generator")
    network: Schedule = paper(GENERATOR, "official code: 10 epochs of 472,000 boxes, the first to warm up", cite=MAL)

    @property
    def clicks(self) -> Clicks:
        return self.supervision

    @property
    def image_side(self) -> int:
        return self.size.crop

    @property
    def has_generator(self) -> bool:
        return self.final.masks == "pseudo"

    @property
    def has_extractor(self) -> bool:
        return self.has_generator and self.supervision == "extreme_points"


FULL = ExitsConfig()
SMALL, TINY = presets(FULL, __file__)
