"""What the four methods share beside the loop: their verbs, the stages of a run, and what these see."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar

import torch
import yaml
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from wsis.core.config import S, Settings, changed, flatten
from wsis.core.errors import DataError
from wsis.core.files import atomic
from wsis.core.types import IGNORE, Batch, Dataset, Instances, Report, Sample, Trace
from wsis.data.images import map_name
from wsis.data.label_maps import write_label_map
from wsis.data.transforms import Augment, collate
from wsis.data.wrappers import ground_truths, samples, unchanged
from wsis.data.write import write_instances
from wsis.evaluation.instances import iou_by_size, voc_ap
from wsis.evaluation.semantic import MeanIoU
from wsis.models.segmenters import Name, build_segmenter, predict, segmenter_terms
from wsis.models.segmenters.targets import JsonMasks, Terms
from wsis.models.weights import save_weights
from wsis.training import loop
from wsis.training.loop import LoopOptions, StepLoss, TrainingData
from wsis.training.schedule import Schedule
from wsis.weak.sources import Clicks

Predict = Callable[[Tensor], list[Instances]]
Restore = Callable[[Any, Path], nn.Module]
Label = Callable[[Any, Batch, Any], list[Instances]]
Labels = list[Instances] | Tensor  # the instances of each image, or class maps, long [B, H, W] of 1..C and 255


class MethodConfig(Settings, Protocol):
    """What the settings of every method have in common."""

    largest_side: ClassVar[int]  # pixels; `label` and `predict` shrink longer images to it,
    whole_maps: ClassVar[bool]  # and so does a run that makes maps of whole images

    @property
    def supervision(self) -> str: ...  # what the annotator gives
    @property
    def classes(self) -> int: ...  # C, without the background
    @property
    def clicks(self) -> Clicks | None: ...  # what the method needs of every object; None if tags of images are enough
    @property
    def image_side(self) -> int: ...  # pixels of a training image's side
    def for_classes(self, names: tuple[str, ...]) -> Self: ...  # for data with these classes
    def for_dry_run(self) -> Self: ...  # with weights that need no download, for random images of any classes


C = TypeVar("C", bound=MethodConfig)


@dataclass(frozen=True, kw_only=True)
class SharedSettings:
    """What the settings of most methods do alike."""

    whole_maps: ClassVar[bool] = False

    def for_classes(self, names: Sequence[str]) -> Self:
        return changed(self, classes=len(names))

    def for_dry_run(self) -> Self:
        return changed(self, **{name: "random" for name in flatten(self) if name.endswith("weights")})


def presets(full: S, module: str) -> tuple[S, S]:
    """The scales SMALL and TINY of a method, from the `presets.yaml` beside the file `module`: what differs from `full`."""
    scales = yaml.safe_load(Path(module).with_name("presets.yaml").read_text("utf-8"))
    return changed(full, **scales["small"]), changed(full, **scales["tiny"])


class Method(Protocol[C]):
    """What `wsis.methods.<name>` offers; a contract test holds all four methods to these verbs.

    model: what `build` and `restore` return; None where only weak labels are asked.
    """

    __name__: str
    FULL: C
    SMALL: C
    TINY: C

    # The networks, with pretrained weights where the settings ask for them; and the trained ones of a run folder.
    def build(self, cfg: C) -> nn.Module: ...
    def restore(self, cfg: C, folder: Path) -> nn.Module: ...

    # What the network of the stage `network` is trained on: crops, pairs or whole images, augmented.
    def training_data(self, dataset: Dataset, cfg: C) -> TrainingData: ...

    # What `loss` compares with, from the weak labels of a batch of `training_data`; never None.
    def targets(self, model: Any, batch: Batch, cfg: C) -> Any: ...

    # Named unweighted terms, and their weighted sum as `total`.
    def loss(self, model: Any, batch: Batch, targets: Any, cfg: C) -> dict[str, Tensor]: ...

    # Labels of whole images from their weak labels, refined by a model where there is one, and the tensors on the way there,
    # for figures. With clicks mask i belongs to click i; with one click per object it contains the clicked pixel.
    def pseudo_labels(self, model: Any, batch: Batch, cfg: C) -> Labels: ...
    def explain(self, model: Any, batch: Batch, cfg: C) -> Trace: ...

    # Without any label: images float32 [B, 3, H, W] in [0, 1] -> scored instances, or class maps.
    def predict(self, model: Any, images: Tensor, cfg: C) -> Labels: ...

    # The stages of a full run in order.
    def stages(self, cfg: C) -> "list[Stage]": ...


def method_name(method: Method) -> str:
    return method.__name__.rpartition(".")[2]


@dataclass(frozen=True)
class Stage:
    """One step of a full run; `settings` and `needs` are words, apart by spaces."""

    name: str  # also the stem of its files
    artefact: str  # a file or folder of the run that exists only when it is complete, or ""
    run: "Callable[[Workspace], Report]"  # makes the artefact at `workspace.path(artefact)` and returns a report
    settings: str  # the first parts of the names of the settings that decide the artefact
    needs: str = ""  # names of the stages whose artefacts it reads
    stream: str = ""  # names its random numbers where that is not `name`: a renamed stage keeps its published numbers


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """What a stage sees of its run, the settings, the data and where to write, and what several stages do."""

    cfg: Any
    train: Dataset
    val: Dataset | None
    folder: Path
    options: LoopOptions
    key: str = ""
    train_model: Callable[..., nn.Module] = loop.train  # or what a dry run does in its place

    @property
    def device(self) -> torch.device:
        return self.options.accelerator.device

    @property
    def is_first(self) -> bool:
        return self.options.accelerator.is_main_process

    def path(self, artefact: str) -> Path:
        return self.folder / artefact

    def fit(
        self, name: str, model: nn.Module, loss: StepLoss, data: TrainingData, schedule: Schedule, *, save: bool = True
    ) -> nn.Module:
        """Train `model`, save it as `<name>.safetensors` if asked to, and return it in eval mode; errors as of `loop.train`."""
        model = self.train_model(name, model, loss, data, schedule, self.options, self.key)
        if save:
            self.save(name, model)
        return model

    def save(self, name: str, model: nn.Module) -> None:
        if self.is_first:
            save_weights(self.path(f"{name}.safetensors"), model)

    def batch(self, *images: Sample) -> Batch:
        return collate(list(images)).to(self.device)

    def fit_method(self, verbs: Any, name: str, cfg: Any, dataset: Dataset, schedule: Schedule) -> nn.Module:
        """Train what a method builds on its own data, targets and loss; `verbs`: its module of these."""

        def loss(network: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
            return verbs.loss(network, batch, verbs.targets(network, batch, cfg), cfg)

        return self.fit(name, verbs.build(cfg), loss, verbs.training_data(dataset, cfg), schedule)

    def fit_tags(
        self, name: str, model: nn.Module, crop: int, square: int | None, schedule: Schedule, *, save: bool
    ) -> nn.Module:
        """Train maps [B, C, h, w] of images: cross entropy of their spatial mean with the tags. crop, square: see `Augment`."""

        def loss(network: nn.Module, batch: Batch, step: int) -> Terms:
            assert batch.tags is not None
            return {"total": binary_cross_entropy_with_logits(network(batch.images).mean((2, 3)), batch.tags.float())}

        color = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.1, "shift": 0}
        scale = {"square": square, "long_side": None, "scale": (1, 1), "scale_step": 0}
        data = TrainingData(dataset=self.train, augment=Augment(crop=crop, color_probability=1.0, **scale, **color))
        return self.fit(name, model, loss, data, schedule, save=save)

    def fit_segmenter(self, name: Name, path: Path, schedule: Schedule, backbone: str, weights: str) -> nn.Module:
        """Train a segmenter on the masks of a COCO JSON of the training images, as `final`, without images that have none."""
        masks = JsonMasks(path, tuple(self.train.classes))
        model = build_segmenter(name, len(self.train.classes), backbone, weights)
        # There is no augmentation here: the loss resizes and flips images together with the masks that it reads.
        data = TrainingData(dataset=masks.subset(self.train), augment=unchanged)

        def loss(network: nn.Module, batch: Batch, step: int) -> Terms:
            return segmenter_terms(network, *masks.examples(batch, model.view))

        return self.fit("final", model, loss, data, schedule)

    def fit_maskrcnn(self, restore: Restore, pseudo_labels: Label, backbone: str, weights: str) -> Report:
        """Train a Mask R-CNN, as `final`, on the masks that the trained method makes of the training images (BESTIE, daggers of
        Table 1). Report: the number of masks, mAP of the validation images.
        """
        path, data, figures = self.path("pseudo_train.json"), self.train, {}
        if self.is_first:
            network = restore(self.cfg, self.folder).to(self.device).eval()
            masks = (pseudo_labels(network, self.batch(s), self.cfg)[0].to("cpu") for s in samples(data))
            rows = zip(samples(data), masks, strict=True)
            figures = {"pseudo_masks": write_instances(path, rows, data.classes, data.category_ids)}
        self.options.accelerator.wait_for_everyone()
        model = self.fit_segmenter("maskrcnn", path, self.cfg.final, backbone, weights)
        pairs = self.predictions(lambda images: predict(model, images)) if self.is_first else None
        return figures | ({} if pairs is None else numbers(voc_ap(*pairs, self.cfg.classes)))

    def write_masks(self, path: Path, masks: Iterable[Instances]) -> Report:
        """Write one `Instances` per training image as COCO JSON; report their number, and their IoU where it is known."""
        dataset, stored = self.train, [m.to("cpu") for m in masks]
        rows = zip(samples(dataset), stored, strict=True)
        report: Report = {"masks": write_instances(path, rows, dataset.classes, dataset.category_ids)}
        truth = ground_truths(dataset)
        return report if truth is None else report | iou_by_size(stored, truth)

    def write_class_maps(self, folder: str, maps: Iterable[Tensor], unlabeled: int = IGNORE) -> MeanIoU | None:
        """Write one class map per training image by its `map_name`; compare them with the true ones where all are known.

        unlabeled: the class that pixels with 255 count as; by default they miss their true class.
        """
        metric, known = MeanIoU(self.cfg.classes + 1), True
        with atomic(self.path(folder)) as temporary:
            temporary.mkdir(parents=True)
            for sample, class_map in zip(samples(self.train), maps, strict=True):
                class_map = class_map.cpu()
                if not sample.file_name or (path := temporary / map_name(sample.file_name)).exists():
                    name = sample.file_name or "none"
                    raise DataError(f"image {sample.image_id} has the file name {name}; give each image one of its own")
                write_label_map(path, class_map)
                if sample.true_semantic is not None:
                    metric.update(torch.where(class_map == IGNORE, unlabeled, class_map), sample.true_semantic)
                known &= sample.true_semantic is not None
        return metric if known else None

    def predictions(self, predict: Predict) -> tuple[list[Instances], list[Instances]] | None:
        """What `predict` makes of each validation image [1, 3, H, W], and its true objects; None where these are not known."""
        truth = None if self.val is None else ground_truths(self.val)
        if truth is None:
            return None
        with torch.no_grad():
            return [predict(self.batch(sample).images)[0].to("cpu") for sample in self.validation()], truth

    def validation(self) -> Iterator[Sample]:
        return iter(()) if self.val is None else samples(self.val)


def first_process(run: Callable[[Workspace], Report]) -> Callable[[Workspace], Report]:
    """The stage `run` in the first process only; the others report nothing."""

    @wraps(run)
    def guarded(workspace: Workspace) -> Report:
        return run(workspace) if workspace.is_first else {}

    return guarded


def numbers(figures: Mapping[str, object]) -> dict[str, float]:
    """The figures that are numbers, without NaN, as a report takes them."""
    return {name: value for name, value in figures.items() if isinstance(value, float) and value == value}
