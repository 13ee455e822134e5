"""Settings of AttentionShift with their sources. FULL is the release's VOC 2012 setting, TINY the same algorithm, smaller."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from wsis.core.config import changed, ours, paper
from wsis.training.schedule import Schedule
from wsis.weak.simulate import PointKind
from wsis.weak.sources import Clicks

CITE = "liao2023attentionshift"


@dataclass(frozen=True, kw_only=True)
class TokenConfig:
    """Learned tokens that ask the transformer for the object at a point."""

    count: int = paper(100, cite=CITE, where="official code", unit="tokens", scales=True)
    class_cost: float = paper(1.0, cite=CITE, where="official code, focal cost")
    place_cost: float = paper(10.0, cite=CITE, where="official code", unit="per image side")
    feedback: bool = ours(
        True, why="the abstract: iteratively; key-points are targets too. Off in the released VOC config"
    )
    most: int = paper(50, cite=CITE, where="official code", unit="key-points fed back per image", scales=True)


@dataclass(frozen=True, kw_only=True)
class BoxConfig:
    """From attention maps to one pseudo box per object."""

    layers: int = paper(7, cite=CITE, where="official code", unit="last layers, one candidate map each")
    threshold: float = paper(0.2, cite=CITE, where="official code", unit="of the map's range", scales=True)
    area: float = paper(0.5, cite=CITE, where="official code", unit="of the largest component")
    mode: Literal["mirror", "tight"] = paper(
        "mirror", cite=CITE, where="official code, expand: symmetric about the point; tight suits random points"
    )
    step: int = ours(1, why="as in the release; larger is coarser and faster", unit="px per cell of a map")


@dataclass(frozen=True, kw_only=True)
class RefineConfig:
    """From the attention of a token to maps of object and background by cosine similarity."""

    enabled: bool = paper(True, cite=CITE, where="supp. Table 2; without: the baseline's raw attention")
    samples: int = paper(20, cite=CITE, where="official code", unit="patches per prototype")
    foreground: float = paper(0.2, cite=CITE, where="official code", unit="of the map's range")
    background: float = paper(0.1, cite=CITE, where="official code", unit="of the map's range")
    keep: float = paper(0.9, cite=CITE, where="official config, obj_tau", unit="of the row's maximum")
    iterations: int = paper(2, cite=CITE, where="official code", unit="iterations")


@dataclass(frozen=True, kw_only=True)
class PartConfig:
    """The key-point shift, the filter and the merging of parts (supp. Table 1)."""

    shift: Literal["none", "kmeans", "meanshift"] = paper(
        "meanshift", cite=CITE, where="supp. Table 1; none is the baseline"
    )
    filter: bool = paper(True, cite=CITE, where="supp. Table 1: K-Means* has it, K-Means has not")
    seeds: int = paper(20, cite=CITE, where="official code", unit="prototypes per object")
    iterations: int = paper(10, cite=CITE, where="official code", unit="shifts")
    tau: float = paper(0.1, cite=CITE, where="official code", unit="cosine distance, first bandwidth")
    temperature: float = paper(0.1, cite=CITE, where="official code", unit="of the bandwidth")
    core: float = paper(0.35, cite=CITE, where="official config", unit="foreground value")
    erosion: int = paper(11, cite=CITE, where="official code", unit="px, odd", scales=True)
    alike: float = paper(0.8, cite=CITE, where="official code", unit="cosine of a part's patches")
    inside: float = paper(0.85, cite=CITE, where="official code", unit="of a part's patches in the core")
    merge: float = paper(0.85, cite=CITE, where="official code", unit="cosine")
    most: int = paper(6, cite=CITE, where="official code: 5, its loop visits one more", unit="key-points")


@dataclass(frozen=True, kw_only=True)
class MaskConfig:
    """What teaches the mask head (supp. Table 2), and the pseudo masks."""

    supervision: Literal["point", "mask"] = paper("point", cite=CITE, where="supp. Table 2")
    extreme: Literal["none", "part_extent"] = ours(
        "none", why="the supplementary names extreme points, no code defines them; part_extent is our reading"
    )
    points: int = paper(10, cite=CITE, where="official code", unit="sampled per object")
    positive: float = paper(0.35, cite=CITE, where="official config", unit="of the box's maximum")
    negative: float = paper(0.8, cite=CITE, where="official config", unit="of the box's maximum")
    erosion: int = paper(21, cite=CITE, where="official code", unit="px, odd", scales=True)
    raw_points: int = paper(20, cite=CITE, where="official code, baseline", unit="sampled per object")
    raw_positive: float = paper(0.2, cite=CITE, where="official code, baseline", unit="of the map's range")
    raw_negative: float = paper(0.05, cite=CITE, where="official code, baseline", unit="of the map's range")


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """Detector and mask head: torchvision's proposals, two small transformer decoders on the last layer."""

    taps: tuple[int, ...] = paper((4, 6, 8, 12), cite=CITE, where="official config", unit="layer from 1", scales=True)
    pyramid: int = paper(256, cite=CITE, where="official config", unit="channels", scales=True)
    width: int = paper(256, cite=CITE, where="official config", unit="of the decoders", scales=True)
    depth: int = paper(4, cite=CITE, where="official config", unit="blocks of a decoder", scales=True)
    hidden: int = paper(1024, cite=CITE, where="official code", unit="of the MIL head", scales=True)
    anchor: int = paper(8, cite=CITE, where="official config", unit="strides", scales=True)
    rois: int = paper(512, cite=CITE, where="official config", unit="per image", scales=True)
    proposals: int = paper(1000, cite=CITE, where="official config", unit="per image", scales=True)
    score: float = paper(0.05, cite=CITE, where="official config, least at inference", unit="probability")
    detections: int = paper(100, cite=CITE, where="official config, most at inference", unit="per image")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the objective; all terms count from the first step."""

    token_class: float = paper(1.0, cite=CITE, where="official config")
    token_place: float = paper(10.0, cite=CITE, where="official config")
    mil: float = paper(1.0, cite=CITE, where="official config")
    proposal: float = paper(1.0, cite=CITE, where="official config, objectness and box")
    roi_class: float = paper(1.0, cite=CITE, where="official config")
    roi_box: float = paper(10.0, cite=CITE, where="official config, GIoU")
    mask: float = paper(1.0, cite=CITE, where="official config")


@dataclass(frozen=True, kw_only=True)
class SizeConfig:
    """Sizes of images in training and inference; the aspect is kept."""

    short: tuple[int, ...] = paper(
        tuple(range(480, 801, 32)), cite=CITE, where="official config", unit="px, one at random", scales=True
    )
    long: int = paper(1333, cite=CITE, where="official config", unit="px, at most", scales=True)
    flip: float = paper(0.5, cite=CITE, where="official config", unit="probability")
    test_short: int = paper(600, cite=CITE, where="official config, val", unit="px", scales=True)
    test_long: int = paper(1000, cite=CITE, where="official config, val", unit="px, at most", scales=True)


@dataclass(frozen=True, kw_only=True)
class StatisticsConfig:
    """How alike features of objects and background are, measured while the network learns (supp. Fig. 1)."""

    times: int = ours(12, why="once an epoch; 0 measures nothing", unit="measurements in a run", scales=True)
    images: int = ours(200, why="enough for a smooth curve", unit="validation images", scales=True)


@dataclass(frozen=True, kw_only=True)
class AttentionShiftConfig:
    """AttentionShift (CVPR 2023)."""

    CITE: ClassVar[str] = CITE
    supervision: Literal["points"] = paper("points", cite=CITE, where="abstract")
    point: PointKind = paper(
        "box_center", cite=CITE, where="official code: its annotations are named so; where clicks are simulated"
    )
    backbone: str = paper("vit_small", cite=CITE, where="supp. Table 3", scales=True)
    weights: str = paper(
        "deit", cite=CITE, where="MAE of 800 epochs; no such checkpoint of ViT-S is in timm", scales=True
    )
    drop_path: float = paper(0.05, cite=CITE, where="official config", scales=True)
    classes: int = ours(20, why="VOC; set from the data", unit="classes", scales=True)
    tokens: TokenConfig = TokenConfig()
    boxes: BoxConfig = BoxConfig()
    refine: RefineConfig = RefineConfig()
    parts: PartConfig = PartConfig()
    mask: MaskConfig = MaskConfig()
    heads: HeadConfig = HeadConfig()
    loss: LossConfig = LossConfig()
    size: SizeConfig = SizeConfig()
    statistics: StatisticsConfig = StatisticsConfig()
    compat: Literal["clean", "official"] = ours("clean", why="official repeats the release's defects, for parity tests")
    network: Schedule = paper(
        Schedule(
            31_746,
            16,
            "adamw",
            1e-4,
            "step",
            (0.667, 0.917),
            weight_decay=0.05,
            decay_all=False,
            layer_decay=0.75,
            warmup=500,
        ),
        "official config: 12 epochs, each image four times; of which set is unknown, here 10,582",
    )

    @property
    def image_side(self) -> int:
        """Pixels of a training image's side, for trials on random numbers."""
        return self.size.short[-1]

    @property
    def clicks(self) -> Clicks | None:
        """The annotation of every object that the method needs."""
        return self.point

    def for_dry_run(self) -> Self:
        """These settings with random weights, for random images."""
        return changed(self, **{"weights": "random"})

    def for_classes(self, names: Sequence[str]) -> Self:
        """These settings for data with the classes `names`."""
        return changed(self, classes=len(names))


FULL = AttentionShiftConfig()

TINY = changed(
    FULL,
    classes=8,
    backbone="vit_hybrid",
    weights="points",
    drop_path=0.0,
    **{
        "tokens.count": 12,
        "tokens.most": 2,
        "boxes.threshold": 0.75,
        "parts.erosion": 5,
        "mask.erosion": 9,
        "heads.taps": (3, 4, 5, 8),
        "heads.pyramid": 64,
        "heads.width": 64,
        "heads.depth": 2,
        "heads.hidden": 128,
        "heads.anchor": 4,
        "heads.rois": 32,
        "heads.proposals": 100,
        "size.short": (96, 112, 128),
        "size.long": 256,
        "size.test_short": 128,
        "size.test_long": 256,
        "statistics.times": 5,
        "statistics.images": 60,
        "network.steps": 250,
        "network.batch_size": 4,
        "network.lr": 4e-4,
        "network.warmup": 10,
    },
)
