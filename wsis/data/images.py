"""Pictures of any 8-bit kind as tensors, and a plain folder of them."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wsis.core.errors import DataError
from wsis.core.types import Sample

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


def read_image(path: Path | str) -> Tensor:
    """A picture of any 8-bit mode as RGB, uint8 [3, H, W].

    Raises:
        DataError: missing, truncated, not a picture, or more than 8 bits per channel.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode not in EIGHT_BIT:
                raise DataError(f"{path} has mode {picture.mode}; save it with 8 bits per channel")
            pixels = np.array(picture.convert("RGB"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; put the picture there or remove its entry") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as a picture ({error}); it may be truncated: copy it again") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


class ImageFolder:
    """Pictures of one folder in the order of their names, without labels; `image_id` counts from 1.

    Raises:
        DataError: no picture in the folder; on reading, a picture that is unreadable.
    """

    classes: tuple[str, ...] = ()

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError(f"{self.folder} is not a folder; give the folder that holds the pictures")
        self.paths = sorted(p for p in self.folder.iterdir() if p.suffix.lower() in PICTURES and p.name[0] != ".")
        if not self.paths:
            raise DataError(f"{self.folder} holds no picture; known endings are {', '.join(PICTURES)}")

    def stems(self) -> list[str]:
        """Names without their endings.

        Raises:
            DataError: two pictures have the same.
        """
        found = [path.stem for path in self.paths]
        if len(set(found)) < len(found):
            raise DataError(f"{self.folder}: two pictures share a name but for the ending; rename one")
        return found

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        path = self.paths[index]
        return Sample(image=read_image(path), image_id=range(len(self))[index] + 1, file_name=path.name)
