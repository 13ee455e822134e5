"""Settings of BESTIE with their sources. FULL is the paper's VOC 2012 setting, TINY the same algorithm for two cores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from wsis.baselines import relation
from wsis.baselines.irn import MASKRCNN
from wsis.baselines.relation import RelationConfig
from wsis.core.config import changed, ours, paper
from wsis.core.errors import ConfigError
from wsis.core.types import IGNORE
from wsis.training.schedule import Schedule
from wsis.training.stages import SharedSettings, presets
from wsis.weak.simulate import PointKind
from wsis.weak.sources import Clicks


@dataclass(frozen=True, kw_only=True)
class PamConfig:
    """The peak attention module of the classifier."""

    alpha: float = paper(0.5, "Table 2 (supp.); official scripts 0.7", unit="fraction of the maximum")
    layers: tuple[int, ...] = paper((6,), "Table 3 (supp.)", unit="VGG stage")


@dataclass(frozen=True, kw_only=True)
class CueConfig:
    """Peaks of the class activation maps as instance cues."""

    source: Literal["peaks", "truth"] = ours("peaks", "the method; truth is an oracle: one pixel of each true object")
    threshold: float = paper(0.5, "supp. text; official code 0.7", unit="probability")
    kernel: int = paper(15, "official code", unit="px", scales=True)


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Centers from the offset map: small connected areas where the offset is short."""

    threshold: float = paper(2.5, "supp. Sec. 1", unit="px")
    area: int = paper(21, "supp. Sec. 1", unit="px²")
    tolerance: int = paper(3, "supp. Sec. 1; official code: exclusive, so that 4 includes 3", unit="px²")
    min_heat: float = paper(0.05, "official code", unit="center map value")
    min_distance: float = paper(100.0, "official code", unit="px", scales=True)


@dataclass(frozen=True, kw_only=True)
class RefineConfig:
    """Online self-refinement of the labels."""

    enabled: bool = paper(True, "Table 1 (supp.)")
    threshold: float = paper(0.3, "official code", unit="center map value")
    max_instances: int = paper(5, "official code", unit="instances per component")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights and kinds of the objective."""

    iag: bool = paper(True, "Table 1 (supp.)")
    unguided_norm: Literal["mean", "matched"] = paper("mean", "official code, without IAG")
    # The hardest pixels are worth more once the others are learned, which takes more steps than a short training has.
    hard_fraction: float = paper(0.2, "official code; listing 6 has the plain mean, 1", unit="of pixels", scales=True)
    # In a small crop a Gaussian covers a larger share of the area, and offsets are shorter.
    center_weight: float = paper(200.0, "supp. listing 6", scales=True)
    offset_weight: float = paper(0.01, "supp. listing 6", unit="1 / px", scales=True)


@dataclass(frozen=True, kw_only=True)
class SemanticConfig:
    """Where the semantic maps come from: the released maps are not part of any weak chain that we can run."""

    # A walk needs features, trained on photographs, of which similar ones belong together.
    source: Literal["cam", "walk", "irn", "folder", "truth", "masks"] = ours(
        "cam", "the simplest weak chain; walk, irn spread its activations; truth, masks are oracles", scales=True
    )
    irn: RelationConfig = RelationConfig()
    folder: str = ours("", "read with source=folder: class-map PNGs named like the images")
    background: float = ours(0.2, "usual; coarse maps need more", unit="normalized activation", scales=True)
    uncertain: float = ours(0.05, "closer calls are ignored", unit="difference of probabilities")
    sharpen: int = ours(10, "as in the refinement's paper; 0 leaves the maps as they are", unit="steps", scales=True)
    scales: tuple[float, ...] = ours((0.5, 1.0, 1.5, 2.0), "usual", unit="of the image size", scales=True)
    backbone: str = ours("resnet50", "of the network that retrains on the maps", scales=True)
    weights: str = ours("imagenet", "as for the other networks", scales=True)
    retrain: bool = ours(True, "as the authors' maps are made; minutes are too few for it", scales=True)


@dataclass(frozen=True, kw_only=True)
class SizeConfig:
    """Sizes of images in training and inference; the aspect is kept up to whole cells, except for the classifier."""

    crop: int = paper(416, "official code", unit="px", scales=True)
    long_side: int = paper(449, "official code; 0 keeps the size", unit="px", scales=True)
    scale: tuple[float, float] = paper((0.7, 1.3), "official code", unit="of the image size", scales=True)
    classifier_crop: int = paper(321, "official code", unit="px", scales=True)
    classifier_resize: int = paper(384, "official code; 0 keeps the size", unit="px", scales=True)
    test_long_side: int = paper(0, "official code: 0 keeps the size", unit="px", scales=True)


CLASSIFIER = Schedule(31_750, 5, "sgd", 1e-3, "step", (0.333, 0.667), nesterov=True, weight_decay=5e-4, new_lr=10.0)
SEMANTIC = Schedule(20_000, 16, "adam", 5e-5, warmup=2000)


@dataclass(frozen=True, kw_only=True)
class BestieConfig(SharedSettings):
    """BESTIE (CVPR 2022, arXiv 2109.09477)."""

    CITE: ClassVar[str] = "kim2022bestie"
    largest_side: ClassVar[int] = 1024  # pixels: all maps are held at this size
    whole_maps: ClassVar[bool] = True

    supervision: Literal["tags", "points"] = paper("tags", "Table 1 (paper), image-level row")
    point: PointKind = paper("mask_centroid", "released files; where clicks are simulated")
    backbone: str = paper("hrnet_w48", "supp. text 2d", scales=True)
    weights: str = paper("imagenet", "official code", scales=True)
    classifier_backbone: str = paper("vgg16", "supp. Fig. 2", scales=True)
    classifier_weights: str = paper("imagenet", "official code", scales=True)
    width: int = paper(256, "official code", unit="channels of the heads", scales=True)
    classifier_width: int = paper(512, "official code; at most that of the backbone", unit="channels", scales=True)
    # Adam moves a weight by its rate in a step: at a high rate, equal steps would soon outweigh different starts.
    init: float = paper(0.001, "official code", unit="standard deviation of new convolutions", scales=True)
    bn_momentum: float = paper(0.01, "official code, ResNet-50's decoders", unit="per step", scales=True)
    classes: int = ours(20, "VOC; set from the data", unit="classes", scales=True)
    center_mode: Literal["class_wise", "class_agnostic"] = paper("class_wise", "supp. text 2a")
    sigma: float = paper(6.0, "official code", unit="px", scales=True)
    center_kernel: int = paper(41, "official code", unit="px", scales=True)
    min_area: int = paper(50, "official code", unit="px²", scales=True)
    center_threshold: float = paper(0.1, "official code, at inference", unit="center map value")
    keep_centerless: bool = paper(True, "official code: val_ignore=False")
    flip: bool = paper(False, "official script, image-level; that of points has True")
    compat: Literal["clean", "official"] = ours("clean", "official repeats the release's defects, for parity tests")

    pam: PamConfig = PamConfig()
    cues: CueConfig = CueConfig()
    cluster: ClusterConfig = ClusterConfig()
    refine: RefineConfig = RefineConfig()
    loss: LossConfig = LossConfig()
    semantic: SemanticConfig = SemanticConfig()
    size: SizeConfig = SizeConfig()
    classifier: Schedule = paper(CLASSIFIER, "supp. text, 15 epochs; learning-rate groups from the official code")
    network: Schedule = paper(Schedule(50_000, 16, "adam", 5e-5, warmup=2000), "supp. text; official code: warm-up")
    semantic_network: Schedule = ours(SEMANTIC, "as the instance network, for the usual DeepLab length (not released)")
    final: Schedule = ours(MASKRCNN, "the usual 1x schedule; 0 steps leave this optional stage out")

    @property
    def image_side(self) -> int:
        return self.size.crop

    @property
    def clicks(self) -> Clicks | None:
        return self.point if self.supervision == "points" else None

    def for_classes(self, names: Sequence[str]) -> Self:
        if len(names) >= IGNORE:
            remedy = "merge some, or train a method without class maps (exits, attentionshift)"
            raise ConfigError(f"the data has {len(names)} classes, and BESTIE's class maps hold {IGNORE - 1}; {remedy}")
        return super().for_classes(names)


def at_size(cfg: BestieConfig, height: int, width: int) -> BestieConfig:
    """`cfg` with the lengths of cues and instances for whole images of this size; its own hold for `size.test_long_side`."""
    if not cfg.size.test_long_side:
        return cfg
    ratio = max(height, width) / cfg.size.test_long_side
    windows = {"cues.kernel": cfg.cues.kernel, "center_kernel": cfg.center_kernel}
    lengths = {name: 2 * round(ratio * (kernel // 2)) + 1 for name, kernel in windows.items()}
    area, distance = round(ratio**2 * cfg.min_area), ratio * cfg.cluster.min_distance
    return changed(cfg, min_area=area, cluster__min_distance=distance, **lengths)


FULL = BestieConfig()
SMALL, TINY = presets(FULL, __file__)
SMALL, TINY = changed(SMALL, semantic__irn=relation.SMALL), changed(TINY, semantic__irn=relation.TINY)
