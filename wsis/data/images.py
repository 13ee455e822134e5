"""Images of any 8-bit kind as tensors, and a plain folder of them."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wsis.core.errors import DataError
from wsis.core.types import Sample

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


def read_image(path: Path | str) -> Tensor:
    """Read an image as RGB, uint8 [3, H, W]; raises DataError if it is missing, unreadable, or above 8 bits per channel."""
    try:
        with Image.open(path) as image:
            if image.mode not in EIGHT_BIT:
                raise DataError(f"{path} has mode {image.mode}; save it with 8 bits per channel")
            pixels = np.array(image.convert("RGB"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; put the image there or remove its entry") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image ({error}); it may be truncated: copy it again") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


class ImageFolder:
    """The images of a folder by name; `image_id` counts from 1. Raises DataError for none or, on reading, an unreadable one."""

    classes: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError(f"{self.folder} is not a folder; give the folder that holds the images")
        self.paths = sorted(p for p in self.folder.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
        if not self.paths:
            raise DataError(f"{self.folder} holds no image; known suffixes are {', '.join(SUFFIXES)}")

    def stems(self) -> list[str]:
        """Return the names without their suffixes; a DataError says if two images share one."""
        stems = [path.stem for path in self.paths]
        if len(set(stems)) < len(stems):
            raise DataError(f"{self.folder}: two images share a name but for the suffix; rename one")
        return stems

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        path = self.paths[index]
        return Sample(image=read_image(path), image_id=range(len(self))[index] + 1, file_name=path.name)
