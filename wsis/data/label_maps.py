"""Class maps as label PNGs."""

import colorsys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wsis.core.errors import DataError
from wsis.core.files import atomic
from wsis.core.types import IGNORE
from wsis.data.transforms import resize_masks

UNKNOWN = -1
_HUES = [(0.55 + 0.618034 * i, (0.58, 0.44, 0.72)[i % 3]) for i in range(1, IGNORE)]  # by the golden angle
_COLORS = [(0.12, 0.13, 0.16), *(colorsys.hls_to_rgb(h, l, 0.62) for h, l in _HUES), (0.88, 0.88, 0.86)]
PALETTE = [round(255 * channel) for color in _COLORS for channel in color]
"""768 numbers, RGB for 0..255: background dark, ignore light gray."""


def value_table(values: Mapping[int, int], others: int = UNKNOWN) -> Tensor:
    """Tabulate what the values 0..255 of a label PNG or a class map mean: int16 [256], `others` for those that mean nothing."""
    table = torch.full((256,), others, dtype=torch.int16)
    table[list(values)] = torch.tensor(list(values.values()), dtype=torch.int16)
    return table


def read_values(path: Path, size: tuple[int, int] | None, table: Tensor, remedy: str, longest: int = 0) -> Tensor:
    """Read a label PNG as a class map uint8 [H, W] by a `value_table`. size: (height, width) of the image; None is not checked.
    longest: a longer map is shrunk to so many pixels first, as its image was; 0 shrinks none. Raises DataError also for another
    size, or a value that means nothing: "value 3 is `remedy`".
    """
    values = read_label_map(path)
    if longest and max(values.shape) > longest:
        values = resize_masks(values[None], longest)[0]
    if size is not None and values.shape != size:
        ours, theirs = (" x ".join(map(str, reversed(s))) for s in (values.shape, size))
        raise DataError(f"{path} is {ours}, its image {theirs}; write it again")
    class_map = table[values.long()]
    if (class_map == UNKNOWN).any():
        raise DataError(f"{path}: value {values[class_map == UNKNOWN][0]} is {remedy}")
    return class_map.to(torch.uint8)


def read_class_map(path: Path, size: tuple[int, int], classes: int, longest: int = 0) -> Tensor:
    """Read a class map of 0, 1..`classes` and 255 for an image of `size` (height, width); see `read_values`."""
    table = value_table({v: v for v in (*range(classes + 1), IGNORE)})
    return read_values(path, size, table, f"no class; class maps hold 0, 1..{classes} and {IGNORE}", longest)


def known_classes(values: Tensor, classes: int, path: Path, remedy: str) -> Tensor:
    """Return a class map of 0, 1..`classes` and 255 as uint8; raises DataError for any other value, with the `remedy`."""
    if len(wrong := values[((values < 0) | (values > classes)) & (values != IGNORE)]):
        raise DataError(f"{path}: class {wrong[0]} is none of 0..{classes}; {remedy}")
    return values.to(torch.uint8)


def write_label_map(path: Path | str, label_map: Tensor) -> None:
    """Write integers [H, W] as a PNG with colors for the eye; raises DataError beyond 0..255, DiskSpaceError on a full disk."""
    values = label_map.cpu().numpy()
    if values.size and (values.min() < 0 or values.max() > IGNORE):
        raise DataError(f"{path}: label {values.min()}..{values.max()} does not fit a label PNG; use 0..255")
    image = Image.fromarray(values.astype(np.uint8), mode="L")
    image.putpalette(PALETTE)
    with atomic(path) as temporary:
        image.save(temporary, format="PNG", compress_level=3)


def read_label_map(path: Path | str) -> Tensor:
    """Read the values of a label PNG, uint8 [H, W]; raises DataError if it is missing, unreadable or in colors."""
    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L", "1") or "L;" in str(image.tile):  # 2 or 4 bits of gray would be scaled to 8
                raise DataError(f"{path} is an image of mode {image.mode}; write class numbers as an 8-bit PNG")
            return torch.from_numpy(np.array(image, dtype=np.uint8))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; every image needs its label map") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as a label map ({error}); write it again") from error
