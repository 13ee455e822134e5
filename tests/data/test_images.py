"""Pictures of any kind become RGB, and broken ones are named."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from wsis.core.errors import DataError
from wsis.data.images import ImageFolder, map_names, read_image
from wsis.data.label_maps import read_label_map


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_pictures_of_any_mode_become_rgb(tmp_path, mode):
    picture = Image.new("RGB", (5, 4), (255, 255, 255)).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    picture.save(path)
    assert torch.equal(read_image(path), torch.full((3, 4, 5), 255, dtype=torch.uint8))


@pytest.mark.parametrize("orientation", range(2, 9))
def test_pictures_are_turned_upright_by_their_exif_orientation(tmp_path, capsys, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        upright = np.array(ImageOps.exif_transpose(image))
    assert np.array_equal(read_image(tmp_path / "a.png").permute(1, 2, 0), upright)
    read_image(tmp_path / "a.png")
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1 and "EXIF orientation" in said[0] and "exiftool -Orientation=" in said[0]


@pytest.mark.parametrize(("size", "shape"), [((4, 8), (4, 8)), ((8, 4), (8, 4)), ((5, 5), (8, 4))])
def test_the_size_of_the_annotations_decides_between_stored_and_upright(tmp_path, size, shape):
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by a quarter to see it upright"
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg", size).shape == (3, *shape)


def test_pages_of_one_file_are_not_skipped(tmp_path):
    pages = [Image.new("RGB", (5, 4), color) for color in ("red", "blue")]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="a.tif holds 2 images; save each"):
        read_image(tmp_path / "a.tif")
    pages[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=pages[1:])
    assert read_image(tmp_path / "a.jpg").shape == (3, 4, 5)


@pytest.mark.parametrize("length", [0, 400])
def test_a_cut_picture_is_named(tmp_path, length):
    path = tmp_path / "a.jpg"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match="a.jpg cannot be read as an image"):
        read_image(path)


def test_sixteen_bits_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(png(16, 2, bytes(1 + 4 * 6) * 4))
    for name in ("a.png", "b.png"):
        with pytest.raises(DataError, match=f"{name} has mode .* of more than 8 bits; save it with 8 bits"):
            read_image(tmp_path / name)


def test_two_bits_of_gray_are_no_label_map(tmp_path):
    (tmp_path / "a.png").write_bytes(png(2, 0, b"\0\xff" * 4))
    with pytest.raises(DataError, match="write class numbers as an 8-bit PNG"):
        read_label_map(tmp_path / "a.png")


def png(bits, color, rows):
    """A PNG of 4 x 4 pixels, which Pillow cannot write with so many bits."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 4, 4, bits, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_image_folder_is_sorted_and_takes_pictures_only(tmp_path):
    for name in ("b.JPG", "a.png", "c.jpeg"):
        Image.new("RGB", (5, 4)).save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    data = ImageFolder(tmp_path)
    assert [s.file_name for s in data] == ["a.png", "b.JPG", "c.jpeg"]
    assert [s.image_id for s in data] == [1, 2, 3]
    assert data[0].truth is data[0].points is data[0].tags is None


def test_pictures_are_known_by_what_they_are_and_the_rest_is_reported(tmp_path, capsys):
    for name, kind in (("a.jfif", "JPEG"), ("b", "PNG"), ("c.gif", "GIF")):
        Image.new("RGB", (5, 4)).save(tmp_path / name, format=kind)
    (tmp_path / "d.heic").write_bytes(b"what cannot be read")
    (tmp_path / ".hidden.jpg").touch()
    (tmp_path / "a.json").write_text("{}")  # what an annotation tool puts there is no surprise
    assert [s.file_name for s in ImageFolder(tmp_path)] == ["a.jfif", "b", "c.gif"]
    assert f"left out of {tmp_path}: d.heic, no images that can be read" in capsys.readouterr().out


def test_pictures_of_subfolders_have_their_path_as_name(tmp_path):
    for name in ("left/a.png", "right/a.png", "b.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 4)).save(tmp_path / "photos" / name)
    (tmp_path / "more").mkdir()
    Image.new("RGB", (5, 4)).save(tmp_path / "more/c.png")
    (tmp_path / "photos/linked").symlink_to(tmp_path / "more")
    (tmp_path / "photos/endless").symlink_to(tmp_path / "photos")
    assert ImageFolder(tmp_path / "photos").names == ["b.png", "left/a.png", "linked/c.png", "right/a.png"]


def test_maps_of_images_keep_their_folders_and_stay_in_theirs():
    names = ["left/a.jpg", "right/a.jpg", "/home/b.v2.jpg", "../c.jpg"]
    maps = ["left/a.png", "right/a.png", "home/b.v2.png", "c.png"]
    assert map_names(names, Path("x")) == dict(zip(names, maps, strict=True))
    with pytest.raises(DataError, match=r"x: two images share a name but for the suffix, a.jpg and a.png; rename one"):
        map_names(["a.jpg", "a.png"], Path("x"))


def test_image_folder_names_the_broken_picture(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match="a.jpg cannot be read as an image"):
        ImageFolder(tmp_path)[0]


def test_image_folder_without_pictures(tmp_path):
    with pytest.raises(DataError, match="holds no image; put images there as JPEG or PNG"):
        ImageFolder(tmp_path)
    for name in ("a.heic", "b.heic"):
        (tmp_path / name).write_bytes(b"none that Pillow knows")
    with pytest.raises(DataError, match="holds no image but a.heic and 1 more; save images there as JPEG or PNG"):
        ImageFolder(tmp_path)
    with pytest.raises(DataError, match="nowhere is not a folder"):
        ImageFolder(tmp_path / "nowhere")
