"""Images of any 8-bit kind as tensors, a plain folder of them, and the records that a data set has of them."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from wsis.core.config import fingerprint
from wsis.core.errors import DataError
from wsis.core.files import Entry
from wsis.core.report import report, report_once
from wsis.core.types import Sample

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")  # others are opened to see what they are
NOTES = (".csv", ".json", ".md", ".txt", ".xml", ".yaml", ".yml")  # what annotation tools put beside images
EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
_T = Image.Transpose
TURNS: dict[object, _T] = {2: _T.FLIP_LEFT_RIGHT, 3: _T.ROTATE_180, 4: _T.FLIP_TOP_BOTTOM, 5: _T.TRANSPOSE}
TURNS |= {6: _T.ROTATE_270, 7: _T.TRANSVERSE, 8: _T.ROTATE_90}
"""What turns an image upright, by its EXIF orientation. Pillow's own function also writes all other tags anew, and may fail."""


def read_image(path: Path | str, size: tuple[int, int] | None = None) -> Tensor:
    """Read an image as RGB, uint8 [3, H, W], turned upright by its EXIF orientation, as viewers and labeling tools show it.

    size: (height, width) that its annotations were made for; where only the pixels as stored have it, they are not turned.
    Raises DataError if the image is missing, unreadable, above 8 bits per channel, or one of several in its file.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in EIGHT_BIT or ";16" in str(image.tile):  # Pillow opens 16 bits of color as 8
                raise DataError(f"{path} has mode {image.mode} of more than 8 bits; save it with 8 bits per channel")
            # an MPO is a JPEG of a camera with a preview
            if image.format != "MPO" and (pages := getattr(image, "n_frames", 1)) > 1:
                raise DataError(f"{path} holds {pages} images; save each as a file of its own")
            rgb = image.convert("RGB")
            turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
            if turn is not None:
                upright = rgb.transpose(turn)
                if size is None or rgb.size != size[::-1] or upright.size == rgb.size:
                    what = f"images in {Path(path).parent} have an EXIF orientation and are turned upright"
                    remedy = "if they were annotated as stored, remove the tag (exiftool -Orientation= FILES)"
                    report_once(f"{what}; {remedy}")
                    rgb = upright
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; put the image there or remove its entry") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"{path} is too large to be opened ({error}); cut it into tiles") from error
    except (OSError, SyntaxError, ValueError) as error:
        remedy = "copy it again if it is truncated, or else save it as JPEG or PNG"
        raise DataError(f"{path} cannot be read as an image ({error}); {remedy}") from error
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1).contiguous()


def map_names(names: Iterable[str], where: Path) -> dict[str, str]:
    """Return the label PNG of each image, both as paths within their folders: left/a.jpg has left/a.png. Raises DataError
    if two images would share one.
    """
    maps: dict[str, str] = {}
    for name in names:
        key = map_name(name)
        if key in maps:
            difference = "the suffix" if Path(name).suffix != Path(maps[key]).suffix else "how its accents are encoded"
            problem = f"two images share a name but for {difference}, {maps[key]} and {name}; rename one"
            twice = f"two entries are of the image {name}; keep one of them"
            raise DataError(f"{where}: {twice if maps[key] == name else problem}")
        maps[key] = name
    return {name: key for key, name in maps.items()}


def map_name(name: str) -> str:
    """Return the path of an image's label PNG within the folder of label PNGs; it has the subfolders of the image's path."""
    path = Path(composed(name))
    return Path(*[part for part in path.parts if part not in (path.anchor, "..")]).with_suffix(".png").as_posix()


def composed(name: str) -> str:
    """Return the form in which names are compared: an accented letter is one character on most systems, and two on macOS."""
    return unicodedata.normalize("NFC", name)


def find_files(names: Iterable[str], folder: Path) -> dict[str, str]:
    """Return the file of each name that has one, as a path within the folder; accents may be encoded in another way there.
    Raises DataError if a name fits two files.
    """
    spellings, found = defaultdict(list), {}
    for file in list_files(folder):
        spellings[composed(file)].append(file)
    for name in names:
        path = Path(name).as_posix()
        fitting = spellings.get(composed(path), [path])
        if len(fitting) > 1 and path not in fitting:
            both = " and ".join(map(ascii, fitting))
            raise DataError(f"{name} fits two files of {folder}, {both}; rename one of them")
        file = path if path in fitting else fitting[0]
        if (folder / file).is_file():
            found[name] = file
    return found


class ImageFolder:
    """The images of a folder and its subfolders by name, which is `file_name`; `image_id` counts from 1.

    `records`, by name, are those of a data set, which then say the file name, the id and the size. Files that are no images are
    reported. Raises DataError for no images or, on reading, for an unreadable one.
    """

    classes: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()

    def __init__(self, folder: Path | str):
        self.folder, self.records = Path(folder), dict[str, Entry]()
        if not self.folder.is_dir():
            raise DataError(f"{self.folder} is not a folder; give the folder that holds the images")
        files = list_files(self.folder)
        self.names = [name for name in files if _is_image(self.folder / name)]
        if not self.names:
            others = f" but {first_of(files)}; save" if files else "; put"
            raise DataError(f"{self.folder} holds no image{others} images there as JPEG or PNG")
        others = sorted(set(files) - set(self.names))
        if others := [name for name in others if Path(name).suffix.lower() not in NOTES]:
            remedy = "save images as JPEG or PNG"
            report(f"left out of {self.folder}: {first_of(others)}, no images that can be read; {remedy}")

    def __len__(self) -> int:
        return len(self.names)

    def state(self, index: int) -> str:
        """Letters and digits that change with the name, the size, the time of change and the record of an image."""
        name = self.names[index]
        file = (self.folder / name).stat()
        return fingerprint(name, file.st_size, file.st_mtime_ns, self.records.get(name))

    def image_id(self, index: int) -> int:
        return self.records.get(self.names[index], {}).get("id", range(len(self))[index] + 1)

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        record = self.records.get(name, {})
        image = read_image(self.folder / name, (record["height"], record["width"]) if record else None)
        return Sample(image=image, image_id=self.image_id(index), file_name=record.get("file_name", name))


def first_of(names: Sequence[object]) -> str:
    """Name the first, and count the others."""
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else str(names[0])


def list_files(folder: Path) -> list[str]:
    """List the files of a folder and its subfolders, also linked ones, by their paths within it; hidden ones are left out."""
    names = []
    for place, folders, files in os.walk(folder, followlinks=True):
        here = Path(place).resolve()
        # a link to a folder above would never end
        folders[:] = [d for d in folders if d[0] != "." and not here.is_relative_to((Path(place) / d).resolve())]
        names += [Path(place, f).relative_to(folder).as_posix() for f in files if f[0] != "."]
    return sorted(names)


def _is_image(path: Path) -> bool:
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with Image.open(path):
            return True
    except Exception:  # whatever a decoder says of a file that is none of its own
        return False
