"""A classifier that learns image tags."""

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from wsis.core.types import Batch
from wsis.data.transforms import Augment
from wsis.training.loop import TrainingData
from wsis.training.schedule import Schedule
from wsis.training.stages import Workspace


def fit_tags(
    workspace: Workspace, name: str, model: nn.Module, crop: int, square: int, schedule: Schedule, *, save: bool
) -> nn.Module:
    """Train maps [B, C, h, w] of images by the multi-label cross entropy of their spatial mean.

    crop, square: of `Augment` in pixels; a square of 0 keeps the size of images.
    """

    def tag_loss(network: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        assert batch.tags is not None
        return {"total": binary_cross_entropy_with_logits(network(batch.images).mean((2, 3)), batch.tags.float())}

    color = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.1, "color_probability": 1.0, "shift": 0}
    scale = {"square": square or None, "long_side": None, "scale": (1, 1), "scale_step": 0}
    data = TrainingData(dataset=workspace.train, augment=Augment(crop=crop, **scale, **color))
    return workspace.fit(name, model, tag_loss, data, schedule, save=save)
