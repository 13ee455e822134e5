"""Settings of AttentionShift with their sources. FULL is the release's VOC 2012 setting, TINY the same algorithm, smaller."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from wsis.core.config import changed, ours, paper
from wsis.training.schedule import Schedule
from wsis.training.stages import SharedSettings, presets
from wsis.weak.simulate import PointKind
from wsis.weak.sources import Clicks


@dataclass(frozen=True, kw_only=True)
class TokenConfig:
    """Learned tokens that look for the object at a point."""

    count: int = paper(100, "official code", unit="tokens", scales=True)
    start: Literal["random", "spread"] = paper(
        "random", "official code; spread: at places all over the image, which long training finds alone", scales=True
    )
    feedback: bool = ours(True, "the abstract: iteratively; key-points are targets too. Off in the released VOC config")
    max_key_points: int = paper(50, "official code", unit="key-points fed back per image", scales=True)


@dataclass(frozen=True, kw_only=True)
class BoxConfig:
    """From attention maps to one pseudo box per object."""

    layers: int = paper(7, "official code: of 12 layers", unit="last layers, one candidate map each", scales=True)
    threshold: float = paper(0.2, "official code", unit="of the map's range", scales=True)
    mode: Literal["mirror", "tight"] = paper("mirror", "official code, expand; tight suits random points")


@dataclass(frozen=True, kw_only=True)
class PartConfig:
    """The key-point shift, the filter and the merging of parts (supp. Table 1)."""

    shift: Literal["none", "kmeans", "meanshift"] = paper("meanshift", "supp. Table 1; none is the baseline")
    filter: bool = paper(True, "supp. Table 1: K-Means* has it, K-Means has not")
    seeds: int = paper(20, "official code", unit="prototypes per object")
    tau: float = paper(0.1, "official code", unit="cosine distance, first bandwidth")
    temperature: float = paper(0.1, "official code", unit="of the bandwidth")
    core: float = paper(0.35, "official config", unit="foreground value")
    erosion: int = paper(11, "official code", unit="px, odd", scales=True)
    similarity: float = paper(0.8, "official code", unit="cosine of a part's patches", scales=True)
    merge: float = paper(0.85, "official code", unit="cosine", scales=True)
    max_key_points: int = paper(6, "official code: 5, its loop visits one more", unit="key-points")


@dataclass(frozen=True, kw_only=True)
class MaskConfig:
    """What supervises the mask head (supp. Table 2), and the pseudo masks."""

    supervision: Literal["point", "mask"] = paper("point", "supp. Table 2")
    points: int = paper(10, "official code", unit="sampled per object")
    positive: float = paper(0.35, "official config", unit="of the box's maximum")
    erosion: int = paper(21, "official code", unit="px, odd", scales=True)


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """Detector and mask head: torchvision's proposals, two small transformer decoders on the last layer."""

    taps: tuple[int, ...] = paper((4, 6, 8, 12), "official config", unit="layer from 1", scales=True)
    pyramid: int = paper(256, "official config", unit="channels", scales=True)
    width: int = paper(256, "official config", unit="of the decoders", scales=True)
    depth: int = paper(4, "official config", unit="blocks of a decoder", scales=True)
    hidden: int = paper(1024, "official code", unit="of the MIL head", scales=True)
    anchor: int = paper(8, "official config", unit="strides", scales=True)
    rois: int = paper(512, "official config", unit="per image", scales=True)
    proposals: int = paper(1000, "official config", unit="per image", scales=True)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the objective; all other terms have weight 1 (official config), and all count from the first step."""

    token_place: float = paper(10.0, "official config")
    roi_box: float = paper(10.0, "official config, GIoU")


@dataclass(frozen=True, kw_only=True)
class SizeConfig:
    """Sizes of images in training and inference; the aspect is kept."""

    short: tuple[int, ...] = paper(tuple(range(480, 801, 32)), "official config", unit="px, one at random", scales=True)
    long: int = paper(1333, "official config", unit="px, at most", scales=True)
    test_short: int = paper(600, "official config, val", unit="px", scales=True)
    test_long: int = paper(1000, "official config, val", unit="px, at most", scales=True)


@dataclass(frozen=True, kw_only=True)
class StatisticsConfig:
    """How similar features of objects and background are, measured while the network learns (supp. Fig. 1)."""

    times: int = ours(12, "once an epoch; 0 measures nothing", unit="measurements in a run", scales=True)
    images: int = ours(200, "enough for a smooth curve", unit="validation images", scales=True)


NETWORK = Schedule(
    31_746, 16, "adamw", 1e-4, "step", (0.667, 0.917), weight_decay=0.05, decay_all=False, layer_decay=0.75, warmup=500
)


@dataclass(frozen=True, kw_only=True)
class AttentionShiftConfig(SharedSettings):
    """AttentionShift (CVPR 2023)."""

    CITE: ClassVar[str] = "liao2023attentionshift"
    largest_side: ClassVar[int] = 4096  # pixels
    supervision: Literal["points"] = paper("points", "abstract")
    point: PointKind = paper("box_center", "official code: its annotations are named so; where clicks are simulated")
    backbone: str = paper("vit_small", "supp. Table 3", scales=True)
    weights: str = ours("deit", "published is MAE of 800 epochs; no such checkpoint of ViT-S is in timm", scales=True)
    drop_path: float = paper(0.05, "official config", scales=True)
    classes: int = ours(20, "VOC; set from the data", unit="classes", scales=True)
    tokens: TokenConfig = TokenConfig()
    boxes: BoxConfig = BoxConfig()
    refine: bool = paper(True, "supp. Table 2: cosine refinement; without it the baseline's raw attention")
    parts: PartConfig = PartConfig()
    mask: MaskConfig = MaskConfig()
    heads: HeadConfig = HeadConfig()
    loss: LossConfig = LossConfig()
    size: SizeConfig = SizeConfig()
    statistics: StatisticsConfig = StatisticsConfig()
    oracle: Literal["none", "boxes", "masks"] = ours(
        "none",
        "boxes: parts are sought in true boxes; masks: the detector learns true ones, what labels can bring at most",
    )
    compat: Literal["clean", "official"] = ours("clean", "official repeats the release's defects, for parity tests")
    network: Schedule = paper(NETWORK, "official config: 12 epochs, images four times; which set is open, here 10,582")

    @property
    def image_side(self) -> int:
        return self.size.short[-1]

    @property
    def clicks(self) -> Clicks | None:
        return self.point


BASELINE = {"refine": False, "parts.shift": "none", "tokens.feedback": False}


def baseline(cfg: AttentionShiftConfig) -> AttentionShiftConfig:
    """`cfg` without refinement and parts: masks and points from the raw attention (supp. Table 2, Baseline)."""
    return changed(cfg, **BASELINE)


FULL = AttentionShiftConfig()
SMALL, TINY = presets(FULL, __file__)
