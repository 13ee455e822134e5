"""Files are whole or absent, and what is wrong with one is told with its name."""

import errno
import os

import pytest
import torch
from safetensors.torch import save_file

from wsis.core.errors import DataError, DiskSpaceError
from wsis.core.files import atomic, read_json, refuse_to_replace, write_json, writing


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_json_round_trip(tmp_path):
    value = {"a": [1, 2.5, None], "é": "ü"}
    write_json(tmp_path / "new" / "x.json", value, indent=1)
    assert read_json(tmp_path / "new" / "x.json") == value
    assert names(tmp_path / "new") == ["x.json"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_while_writing_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(error), atomic(path) as temporary:
        temporary.write_text("new")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x.txt"]


def test_the_new_file_appears_at_the_end_only(tmp_path):
    path = tmp_path / "x.npz"
    with atomic(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.suffix == ".npz"
        assert temporary.parent == tmp_path
    assert path.read_text() == "new"


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "maps"
    for content in ("first", "second"):
        with atomic(path) as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
    assert names(path) == ["second"]
    assert names(tmp_path) == ["maps"]


def test_what_a_killed_process_of_the_same_number_left_is_no_hindrance(tmp_path):
    (tmp_path / f".{os.getpid()}.maps").mkdir()
    with atomic(tmp_path / "maps") as temporary:
        temporary.mkdir()
    assert names(tmp_path) == ["maps"]


@pytest.mark.parametrize("letter", ["a", "é", "鳥"])
def test_a_name_may_be_as_long_as_the_system_takes(tmp_path, letter):
    name = (letter * 255).encode()[:250].decode(errors="ignore") + ".json"
    write_json(tmp_path / name, 1)
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(tmp_path, monkeypatch, code):
    path = tmp_path / "x.json"
    write_json(path, 1)

    def full(source, target):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DiskSpaceError, match="no space left"):
        write_json(path, 2)
    monkeypatch.undo()
    assert read_json(path) == 1
    assert names(tmp_path) == ["x.json"]


def test_a_full_disk_within_safetensors(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with pytest.raises(DiskSpaceError), atomic(tmp_path / "x.safetensors") as temporary:
        temporary.symlink_to("/dev/full")
        with open(temporary, "wb", buffering=0) as file:
            file.write(b"0")
        save_file({"a": torch.zeros(1)}, temporary)


def test_a_disk_that_fills_while_a_file_grows(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with (
        pytest.raises(DiskSpaceError, match="x.csv: no space left"),
        writing(tmp_path / "x.csv"),
        open("/dev/full", "a") as f,
    ):
        f.write("1,2")


def test_an_error_of_a_worker_is_one_line():
    worker = "Caught DataError in DataLoader worker process 0.\nOriginal Traceback ...\nwsis.core.errors.DataError: a.jpg: 3\n"
    assert str(DataError(worker)) == "a.jpg: 3" == str(DataError("a.jpg: 3"))


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_json(tmp_path / "file" / "x.json", 1)


@pytest.mark.parametrize(
    ("content", "message"), [(b'{"a": 1', "line 1, column 8"), (b"\x89PNG", "byte 0"), (b"", "line 1, column 1")]
)
def test_broken_json(tmp_path, content, message):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as raised:
        read_json(path)
    assert str(path) in str(raised.value)


def test_missing_json(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_json(tmp_path / "x.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_json(tmp_path)


def test_what_is_read_is_not_replaced(tmp_path):
    (tmp_path / "a.json").write_text("1")
    (tmp_path / "link.json").symlink_to(tmp_path / "a.json")
    refuse_to_replace(tmp_path / "b.json", tmp_path / "a.json", None)
    refuse_to_replace(None, tmp_path / "a.json")
    with pytest.raises(DataError, match="is read, too"):
        refuse_to_replace(tmp_path / "a.json", None, tmp_path / "link.json")
