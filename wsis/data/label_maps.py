"""Class maps as label PNGs."""

import colorsys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from wsis.core.errors import DataError
from wsis.core.files import atomic
from wsis.core.types import IGNORE


def read_class_map(path: Path, size: tuple[int, int], classes: int) -> Tensor:
    """A class map uint8 [H, W] of 0, 1..`classes` and 255 for an image of `size` (height, width).

    Raises:
        DataError: missing, of another size, or with other values.
    """
    class_map = read_label_map(path)
    if tuple(class_map.shape) != size:
        raise DataError(
            f"{path} is {class_map.shape[1]} x {class_map.shape[0]}, its image {size[1]} x {size[0]}; write it again"
        )
    wrong = class_map[(class_map > classes) & (class_map != IGNORE)]
    if len(wrong):
        raise DataError(f"{path}: value {wrong[0]}; class maps hold 0, 1..{classes} and {IGNORE}")
    return class_map


def palette() -> list[int]:
    """768 numbers, RGB for 0..255: background dark, ignore light grey, classes by the golden angle of hue."""
    colors = [(0.12, 0.13, 0.16)]
    for i in range(1, IGNORE):
        lightness = (0.58, 0.44, 0.72)[i % 3]
        colors.append(colorsys.hls_to_rgb(0.55 + 0.618034 * i, lightness, 0.62))
    colors.append((0.88, 0.88, 0.86))
    return [round(255 * channel) for color in colors for channel in color]


PALETTE = palette()


def write_label_map(path: Path | str, label_map: Tensor) -> None:
    """Write integers 0..255 [H, W] as a PNG whose pixels are the values and whose colors are for the eye.

    Raises:
        DataError: values that do not fit in 8 bits.
        DiskSpaceError: the disk is full.
    """
    values = label_map.cpu().numpy()
    if values.size and (values.min() < 0 or values.max() > IGNORE):
        raise DataError(f"{path}: label {values.min()}..{values.max()} does not fit a label PNG; use 0..255")
    picture = Image.fromarray(values.astype(np.uint8), mode="L")
    picture.putpalette(PALETTE)
    with atomic(path) as temporary:
        picture.save(temporary, format="PNG", compress_level=3)


def read_label_map(path: Path | str) -> Tensor:
    """The values of a label PNG, uint8 [H, W], whatever its palette.

    Raises:
        DataError: missing, unreadable, or a picture in colors instead of values.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode not in ("P", "L", "1"):
                raise DataError(f"{path} is a picture of mode {picture.mode}; write class numbers as an 8-bit PNG")
            return torch.from_numpy(np.array(picture, dtype=np.uint8))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; every image needs its label map") from None
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise DataError(f"{path} cannot be read as a label map ({error}); write it again") from error
