"""SAM, SAM 2 and SAM 3 (its tracker), prompted with the clicks or boxes that the four methods learn from.

    Segment Anything (ICCV 2023, arXiv 2304.02643), SAM 2 (arXiv 2408.00714), SAM 3 (arXiv 2511.16719)

An encoder sees the image once; a light decoder then turns each prompt into masks with an estimate of their IoU. Nothing is
trained, so a run is its settings: `python -m wsis label sam2:CHECKPOINT --data ... --weak ...` needs no run folder. The
networks and their processors are those of `transformers`; a checkpoint is a folder, or a name that it can download.

A single click may mean a part or the whole: of its three masks the one with the highest estimate is taken. Other prompts ask
for one mask. Both is what the releases recommend.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
import transformers
from torch import Tensor, nn

from wsis.core.config import changed, ours, paper
from wsis.core.errors import ConfigError, WeightsError
from wsis.core.masks import Part, RunLengths
from wsis.core.types import Batch, Instances, Report
from wsis.data.wrappers import samples
from wsis.training.apply import Run
from wsis.training.loop import make_accelerator
from wsis.training.stages import Method, SharedSettings, Stage, Workspace, first_process
from wsis.weak.simulate import PointKind
from wsis.weak.sources import Clicks

Prompt = Literal["point", "extreme_points", "extreme_box", "box"]
Supervision = Literal["points", "extreme_points", "boxes"]
MODELS: dict[str, tuple[str, str, str]] = {
    "sam": ("SamModel", "SamProcessor", "facebook/sam-vit-huge"),
    "sam2": ("Sam2Model", "Sam2Processor", "facebook/sam2.1-hiera-large"),
    "sam3": ("Sam3TrackerModel", "Sam3TrackerProcessor", "facebook/sam3"),
}
"""Network and processor in transformers, and the largest published checkpoint."""
PROMPTS_AT_ONCE = 16  # the decoder has a copy of the image's embedding for each


@dataclass(frozen=True, kw_only=True)
class PromptableConfig(SharedSettings):
    """A promptable model and what it is prompted with."""

    CITE: ClassVar[str] = "kirillov2023sam"
    image_side: ClassVar[int] = 1024
    largest_side: ClassVar[int] = 4096
    model: Literal["sam", "sam2", "sam3"] = ours("sam", "the first of them")
    checkpoint: str = ours(MODELS["sam"][2], "the largest; a folder or a name")
    prompt: Prompt = paper("point", "Sec. 3; extreme points as four clicks, or as the box that they span")
    point: PointKind = ours("box_center", "as AttentionShift; where clicks are simulated")
    classes: int = ours(80, "COCO; set from the data", unit="classes", scales=True)

    @property
    def supervision(self) -> Supervision:
        return "points" if self.prompt == "point" else "boxes" if self.prompt == "box" else "extreme_points"

    @property
    def clicks(self) -> Clicks:
        given = self.supervision
        return self.point if given == "points" else given


FULL = SMALL = TINY = PromptableConfig()


class Promptable(nn.Module):
    """A network and the processor that prepares images and prompts for it, and brings masks back to the image."""

    def __init__(self, network: Any, processor: Any) -> None:
        super().__init__()
        self.network, self.processor = network, processor

    @torch.no_grad()
    def forward(self, image: Tensor, prompts: dict[str, Tensor]) -> tuple[RunLengths, Tensor]:
        """Masks of an image uint8 [3, H, W], one for each of K prompts, and their estimated IoU in [0, 1], float32 [K].

        prompts: `input_points` [K, P, 2] or `input_boxes` [K, 4] in pixels, where pixel (i, j) lies between i and i + 1.
        """
        network, size, scores = self.network, (image.shape[1], image.shape[2]), []
        inputs = self.processor(images=image, return_tensors="pt", **{k: v[None].cpu() for k, v in prompts.items()})
        sizes = [inputs[key] for key in ("original_sizes", "reshaped_input_sizes") if key in inputs]
        embedded = network.get_image_embeddings(inputs["pixel_values"].to(image.device))
        ambiguous = "input_points" in prompts and prompts["input_points"].shape[1] == 1

        def parts() -> Iterator[Part]:
            for start in range(0, len(next(iter(prompts.values()))), PROMPTS_AT_ONCE):
                some = {k: inputs[k][:, start : start + PROMPTS_AT_ONCE].float().to(image.device) for k in prompts}
                found = network(image_embeddings=embedded, multimask_output=ambiguous, **some)
                best = found.iou_scores[0].argmax(1)
                scores.extend(found.iou_scores[0].amax(1).clamp(0, 1).tolist())
                for masks, index in zip(found.pred_masks[0], best, strict=True):
                    (mask,) = self.processor.post_process_masks([masks[index][None, None].float()], *sizes)
                    yield Part(0, 0, mask[0, 0])

        return RunLengths.encode(parts(), size), torch.tensor(scores)


def build(cfg: PromptableConfig) -> Promptable:
    """The pretrained model; raises WeightsError if its files are not here and cannot be downloaded, or are another model's."""
    network, processor, published = MODELS[cfg.model]
    try:
        options: Any = {"use_safetensors": True, "output_loading_info": True}  # a pickle could run code
        loaded, info = getattr(transformers, network).from_pretrained(cfg.checkpoint, **options)
        built = Promptable(loaded, getattr(transformers, processor).from_pretrained(cfg.checkpoint))
    except Exception as error:  # of many kinds: no network, no such name, a licence that was not accepted, other shapes
        raise WeightsError(
            f"{cfg.checkpoint} holds no {network} and could not be downloaded; download config.json, model.safetensors "
            f"and preprocessor_config.json or processor_config.json of a checkpoint such as {published} (of SAM 3 after "
            f"accepting its license) into a folder, and name it as {cfg.model}:FOLDER"
        ) from error
    if missing := sorted(info["missing_keys"]):
        raise WeightsError(f"{cfg.checkpoint} is of another model than {network}: it has no {missing[0]}")
    return built.eval()


def pseudo_labels(model: Promptable, batch: Batch, cfg: PromptableConfig) -> list[Instances]:
    """One mask for each prompt of each image; with one click for each object it contains the clicked pixel."""
    results = []
    for i, (image, valid) in enumerate(zip(batch.images, batch.valid, strict=True)):
        height, width = int(valid.any(1).sum()), int(valid.any(0).sum())
        if cfg.prompt == "point":
            assert batch.points is not None
            given = batch.points[batch.points.image == i]
            prompts = {"input_points": given.xy[:, None] + 0.5}
        else:
            assert batch.extreme_points is not None
            given = batch.extreme_points[i]
            four = cfg.prompt == "extreme_points"
            prompts = {"input_points": given.xy + 0.5} if four else {"input_boxes": given.boxes}
        if not len(given):
            results.append(Instances.none(height, width))
            continue
        runs, scores = model(image[:, :height, :width].mul(255).round().byte(), prompts)
        if cfg.prompt == "point":
            runs = runs.with_pixels(given.xy.round().long())
        results.append(Instances.make(runs, given.labels.cpu(), scores=scores, ids=given.ids.cpu()))
    return results


def stages(cfg: PromptableConfig) -> list[Stage]:
    """The masks of the training images: all that a row of a table shows."""
    return [Stage("labels", "pseudo_train.json", make_labels, "model checkpoint prompt point")]


@first_process
def make_labels(workspace: Workspace) -> Report:
    """One mask for each prompt as COCO JSON. Report: masks, their IoU, seconds for an object; on a GPU the memory in GB."""
    model, device, masks = build(workspace.cfg).to(workspace.device), workspace.device, []
    began = time.perf_counter()
    for sample in samples(workspace.train):
        masks += pseudo_labels(model, workspace.batch(sample), workspace.cfg)
    seconds = (time.perf_counter() - began) / max(sum(map(len, masks)), 1)
    report = workspace.write_masks(workspace.path("pseudo_train.json"), masks) | {"seconds_per_object": seconds}
    return report | ({"memory_gb": torch.cuda.max_memory_allocated(device) / 1e9} if device.type == "cuda" else {})


def load_run(name: str, prompt: Prompt | None = None, device: str = "auto") -> Run | None:
    """The model that `name` stands for, such as sam2:CHECKPOINT, by default prompted with points; None for a run folder.

    Raises WeightsError as `build`, and ConfigError for a run folder with a prompt, since a run knows its labels, or a model
    without a checkpoint.
    """
    model, _, checkpoint = name.partition(":")
    if model not in MODELS or not checkpoint:
        if name in MODELS and not Path(name).exists():
            raise ConfigError(f"{name} needs its checkpoint: write {name}:FOLDER or {name}:NAME")
        if prompt:
            raise ConfigError(f"--prompt is for {', '.join(MODELS)}, but {name} is labeled by what it was trained on")
        return None
    cfg = changed(FULL, model=model, checkpoint=checkpoint, prompt=prompt or "point")
    network, verbs = build(cfg).to(make_accelerator(device).device), cast(Method, sys.modules[__name__])
    return Run(verbs, cfg, classes=(), category_ids=(), model=network, folder=Path(name), data="", seed=0)
