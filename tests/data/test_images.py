"""Pictures of any kind become RGB, and broken ones are named."""

import numpy as np
import pytest
import torch
from PIL import Image

from wsis.core.errors import DataError
from wsis.data.images import ImageFolder, read_image


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_pictures_of_any_mode_become_rgb(tmp_path, mode):
    picture = Image.new("RGB", (5, 4), (255, 255, 255)).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    picture.save(path)
    assert torch.equal(read_image(path), torch.full((3, 4, 5), 255, dtype=torch.uint8))


def test_exif_orientation_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by a quarter to see it upright"
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (3, 4, 8)


def test_sixteen_bits_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="a.png has mode I;16; save it with 8 bits"):
        read_image(tmp_path / "a.png")


def test_image_folder_is_sorted_and_takes_pictures_only(tmp_path):
    for name in ("b.JPG", "a.png", "c.jpeg"):
        Image.new("RGB", (5, 4)).save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    data = ImageFolder(tmp_path)
    assert [s.file_name for s in data] == ["a.png", "b.JPG", "c.jpeg"]
    assert [s.image_id for s in data] == [1, 2, 3]
    assert data[0].truth is data[0].points is data[0].tags is None


def test_image_folder_names_the_broken_picture(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match="a.jpg cannot be read as an image"):
        ImageFolder(tmp_path)[0]


def test_image_folder_without_pictures(tmp_path):
    with pytest.raises(DataError, match="holds no image; known suffixes are .jpg"):
        ImageFolder(tmp_path)
    with pytest.raises(DataError, match="nowhere is not a folder"):
        ImageFolder(tmp_path / "nowhere")
