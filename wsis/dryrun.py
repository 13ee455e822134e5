"""What a run will cost: every stage of a method for a few steps, at its true size, on random numbers.

The networks start from random weights and the images are noise, so nothing is learned, read or downloaded.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsis.config import changed, flatten
from wsis.errors import ConfigError
from wsis.runs import Workspace, method
from wsis.train import Augment, Engine, Schedule, StepLoss, make_accelerator, optimise
from wsis.types import Batch, Dataset, Instances, Points, Sample

STEPS = {"cpu": (1, 2), "cuda": (5, 15)}  # steps that warm up, steps that count
CPU_BATCH = 2  # images; more of them take longer without telling more
PICTURES = 2


class Noise:
    """Images of random pixels with everything that a method may ask for: tags, points, class maps, blocks as objects."""

    def __init__(self, side: int, classes: int) -> None:
        self.side, self.classes = side, tuple(f"class {i}" for i in range(classes))

    def __len__(self) -> int:
        return PICTURES

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(index)
        image = torch.randint(0, 256, (3, self.side, self.side), dtype=torch.uint8, generator=generator)
        labels = torch.tensor([0, 1, 0]) % len(self.classes)
        block = self.side // 4
        masks = torch.zeros(3, self.side, self.side, dtype=torch.bool)
        for k, corner in enumerate((0, block, 2 * block)):
            masks[k, corner : corner + block, corner : corner + block] = True
        corners = torch.tensor([0, block, 2 * block])
        xy = (corners + block // 2)[:, None].expand(3, 2)
        semantic = ((labels + 1)[:, None, None] * masks).amax(0).to(torch.uint8)
        return Sample(
            image=image, image_id=index + 1, file_name=f"{index}.png", semantic_map=semantic, true_semantic=semantic,
            tags=torch.zeros(len(self.classes), dtype=torch.bool).index_fill(0, labels, True),
            points=Points.make(xy, labels), truth=Instances.make(masks, labels),
        )  # fmt: skip


def dry_run(name: str, cfg: Any, device: str = "auto", workers: int = 0) -> str:
    return ""
