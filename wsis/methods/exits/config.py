"""Settings of EXITS with their sources. FULL is the supplementary's COCO setting, TINY the same algorithm for two cores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from wsis.core.config import changed, ours, paper
from wsis.training.schedule import Schedule
from wsis.weak.sources import Clicks

CITE, MAL = "lee2024exits", "lan2023mal"


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """One crop per object: its box with a margin, stretched to a square."""

    size: int = paper(512, cite=MAL, where="official code", unit="px", scales=True)
    margin: float = paper(1.2, cite=MAL, where="official code", unit="half boxes, both sides of an axis together")
    test_margin: float = paper(0.6, cite=MAL, where="official code, test_margin", unit="half boxes, the same way")
    flip: float = paper(0.5, cite=MAL, where="official code", unit="probability")
    jitter: float = paper(0.5, cite=MAL, where="official code", unit="probability")
    fill: Literal["reflect", "wrap"] = ours(
        "reflect", why="the release wraps to the other side of the image, where a seed would be wrong"
    )
    min_side: float = paper(2.0, cite=MAL, where="official code: boxes to train on are larger", unit="px")
    min_area: float = paper(2048.0, cite=MAL, where="official code: likewise", unit="px", scales=True)


@dataclass(frozen=True, kw_only=True)
class SeedConfig:
    """Tokens that the four clicks and the box label for sure."""

    push: float = paper(24.0, cite=CITE, where="supp. text, COCO; LVIS 16, VOC 12", unit="px of the crop", scales=True)
    direction: Literal["radial", "axis"] = ours("radial", why="the paper: toward the centre; axis keeps one coordinate")
    other_objects: bool = ours(
        False, why="seeds of the background on other objects in the box; the supplementary hints at it"
    )


@dataclass(frozen=True, kw_only=True)
class ExtractorConfig:
    """The frozen transformer whose attention says how alike two tokens are."""

    backbone: str = paper("vit_base", cite=CITE, where="Table a5: 86M parameters", scales=True)
    weights: str = paper("mae", cite=CITE, where="Table a4", scales=True)
    layer: int = paper(10, cite=CITE, where="Table a1; 0 is the mean of all", unit="layer from 1")
    similarity: Literal["attn", "qk_cos", "kk_cos"] = ours(
        "attn", why="the paper: from self-attention; cosines to compare"
    )
    temperature: float = ours(0.1, why="of the cosines only", unit="cosine")
    objective: Literal["mil", "cls", "points"] = ours("mil", why="of the warm-up: unpublished; needs the boxes only")


@dataclass(frozen=True, kw_only=True)
class WalkConfig:
    """From similarity to transition matrix, to scores, to retrieved points."""

    sinkhorn: Literal["symmetric", "alternate"] = ours("symmetric", why="keeps symmetry exactly and needs one vector")
    iterations: int = ours(20, why="rows sum to 1 within 1e-6 on 1,024 tokens", unit="Sinkhorn iterations")
    hops: int = paper(3, cite=CITE, where="Table a2", unit="hops")
    limit: bool = paper(False, cite=CITE, where="Table a2, eq. (a2): for ever, with restart, in place of hops")
    beta: float = paper(0.25, cite=CITE, where="Table a2", unit="probability to go on, of the limit")
    seeds: Literal["mean", "max"] = ours("mean", why="keeps probability; max follows each click by itself")
    score: Literal["density", "raw", "ratio", "minmax", "maxabs"] = ours(
        "density", why="unpublished; times the number of valid tokens it is free of that number"
    )
    tau_fg: float = ours(1.0, why="unpublished; used with thresholds=fixed", unit="score", scales=True)
    tau_bg: float = ours(1.0, why="unpublished; likewise", unit="score", scales=True)
    thresholds: Literal["calibrated", "fixed"] = ours(
        "calibrated", why="both so that as many crops retrieve nothing as the paper says"
    )
    fg_factor: float = ours(1.0, why="of the calibrated threshold; Fig. a1 (a)", unit="times tau")
    bg_factor: float = ours(1.0, why="of the calibrated threshold; Fig. a1 (b)", unit="times tau")
    empty: float = paper(0.07, cite=CITE, where="supp. Sec. B", unit="fraction of crops that retrieve nothing")
    crops: int = ours(2000, why="to calibrate on; the rate is then known to half a point", unit="crops", scales=True)


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """The network that makes the pseudo masks."""

    backbone: str = paper("vit_base", cite=CITE, where="Table a5: 93M parameters with the decoder", scales=True)
    weights: str = paper("mae", cite=CITE, where="supp. text", scales=True)
    stem: Literal["patch", "conv"] = ours("patch", why="pretrained; the 93M count implies a random convolutional stem")
    upsample: int = ours(
        4, why="masks of 128 pixels, the size of the release's losses", unit="times the token grid", scales=True
    )
    ema: float = paper(0.996, cite=MAL, where="official code", unit="per step", scales=True)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights and kinds of the objective."""

    mil: float = paper(10.0, cite=CITE, where="supp. text; MAL 4")
    point: float = paper(0.5, cite=CITE, where="supp. text, COCO and LVIS; VOC .05")
    crf: float = paper(0.5, cite=CITE, where="supp. text")
    mil_ramp: int = paper(1000, cite=MAL, where="official code", unit="step", scales=True)
    crf_ramp: int = paper(4000, cite=MAL, where="official code", unit="step", scales=True)
    mil_over: Literal["batch", "empty"] = ours("batch", why="a rare term then stays rare; unpublished")
    point_at: Literal["center", "pool"] = ours(
        "center", why="where the token is; pool averages the logits of its patch"
    )
    point_balance: bool = ours(False, why="all labelled tokens alike; unpublished")
    point_kind: Literal["bce", "dice"] = ours("bce", why="the exact form is unpublished")


@dataclass(frozen=True, kw_only=True)
class CrfConfig:
    """Mean field on the colours of the crop: what the generator teaches itself."""

    zeta: float = paper(0.1, cite=MAL, where="official code", unit="normalised colour")
    kernel: int = paper(3, cite=MAL, where="official code", unit="px")
    iterations: int = paper(100, cite=MAL, where="official code", unit="iterations")
    low: float = paper(0.1, cite=MAL, where="official code", unit="probability")
    high: float = paper(0.9, cite=MAL, where="official code", unit="probability")
    epsilon: float = paper(1e-6, cite=MAL, where="official code; 0 is faster and moves a few pixels")


@dataclass(frozen=True, kw_only=True)
class MaskConfig:
    """From the trained generator to pseudo masks."""

    threshold: float = paper(
        0.1, cite=MAL, where="official code; EXITS' is unpublished", unit="probability", scales=True
    )
    source: Literal["student", "teacher", "mean"] = paper("student", cite=MAL, where="official code")
    flip: bool = paper(False, cite=MAL, where="official code")
    on_empty: Literal["box", "drop"] = ours("box", why="an annotation without a mask is lost for the final model")


@dataclass(frozen=True, kw_only=True)
class FinalConfig:
    """The segmenter that learns from the pseudo masks as if they were annotated."""

    segmenter: Literal["solov2", "mask2former", "maskrcnn"] = paper(
        "mask2former", cite=CITE, where="Table a5; Tables a1-a4 SOLOv2", scales=True
    )
    backbone: str = paper("swin_small", cite=CITE, where="Table a5; Tables a1-a4 ResNet-50", scales=True)
    weights: str = paper("imagenet", cite=CITE, where="supp. text", scales=True)
    masks: Literal["pseudo", "truth"] = ours("pseudo", why="truth is the upper bound of the figures")


@dataclass(frozen=True, kw_only=True)
class ExitsConfig:
    """EXITS (CVPR 2024, arXiv 2405.20729)."""

    CITE: ClassVar[str] = CITE
    supervision: Literal["extreme_points", "boxes"] = paper(
        "extreme_points", cite=CITE, where="abstract; boxes alone are MAL"
    )
    classes: int = ours(80, why="COCO; set from the data", unit="classes", scales=True)
    crop: CropConfig = CropConfig()
    seeds: SeedConfig = SeedConfig()
    extractor: ExtractorConfig = ExtractorConfig()
    walk: WalkConfig = WalkConfig()
    generator: GeneratorConfig = GeneratorConfig()
    loss: LossConfig = LossConfig()
    crf: CrfConfig = CrfConfig()
    mask: MaskConfig = MaskConfig()
    final: FinalConfig = FinalConfig()
    warmup: Schedule = paper(
        Schedule(118_000, 32, "adamw", 4.8e-5, "cosine", betas=(0.9, 0.9), weight_decay=5e-4, warmup=14_750, floor=0.2),
        "supp. text: 8 epochs; the rest as for the generator",
    )
    network: Schedule = paper(
        Schedule(147_500, 32, "adamw", 4.8e-5, "cosine", betas=(0.9, 0.9), weight_decay=5e-4, warmup=14_750, floor=0.2),
        cite=MAL,
        where="official code: 10 epochs of about 472,000 boxes above the least area, the first to warm up",
    )
    segmenter: Schedule = paper(
        Schedule(368_750, 16, "adamw", 1e-5, "step", (0.889, 0.963), new_lr=10.0, weight_decay=0.05, clip=0.01),
        "supp. text: Mask2Former's own schedule",
    )

    @property
    def image_side(self) -> int:
        """Pixels of a training image's side, for trials on random numbers."""
        return self.crop.size

    @property
    def clicks(self) -> Clicks | None:
        """The annotation of every object that the method needs."""
        return "extreme_points"

    def for_dry_run(self) -> Self:
        """These settings with random weights, for random images."""
        return changed(
            self, **{"extractor.weights": "random", "generator.weights": "random", "final.weights": "random"}
        )

    def for_classes(self, names: Sequence[str]) -> Self:
        """These settings for data with the classes `names`."""
        return changed(self, classes=len(names))


FULL = ExitsConfig()

TINY = changed(
    FULL,
    classes=8,
    **{
        "crop.size": 64,
        "crop.min_area": 100.0,
        "seeds.push": 4.0,
        "extractor.backbone": "vit_tiny",
        "walk.crops": 500,
        "generator.backbone": "vit_tiny",
        "generator.ema": 0.98,
        "loss.mil_ramp": 10,
        "loss.crf_ramp": 20,
        "mask.threshold": 0.5,
        "final.segmenter": "solov2",
        "final.backbone": "resnet_tiny",
        "final.weights": "shipped",
        "warmup.steps": 100,
        "warmup.batch_size": 8,
        "warmup.lr": 5e-4,
        "warmup.warmup": 10,
        "network.steps": 150,
        "network.batch_size": 8,
        "network.lr": 1e-3,
        "network.warmup": 10,
        "segmenter.steps": 200,
        "segmenter.batch_size": 8,
        "segmenter.lr": 1.5e-3,
        "segmenter.new_lr": 1.0,
        "segmenter.warmup": 20,
    },
)
