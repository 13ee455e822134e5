"""Atomic writing of files and folders, and JSON, with errors that name the file and the remedy."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from wsis.core.errors import DataError, DiskSpaceError

Entry = dict[str, Any]  # of a JSON file, such as an image, an annotation or a category of a COCO data set
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
NOT_WRITABLE = (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError)


@cache
def package_digest() -> str:
    """12 hexadecimal digits that change with the source of the package: what was computed by other code has another name."""
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    return digest(sources)[:12]


def digest(paths: Iterable[Path]) -> str:
    """The sha256 of the contents of files, one after the other, in hexadecimal digits."""
    total = hashlib.sha256()
    for path in paths:
        total.update(path.read_bytes())
    return total.hexdigest()


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Raise DiskSpaceError if the disk or the quota is full, and DataError if `path` cannot be written to."""
    try:
        yield
    except Exception as error:
        # safetensors wraps the system's error in its own and keeps only the text
        if getattr(error, "errno", None) in DISK_FULL or "No space left" in str(error):
            raise DiskSpaceError(f"{path}: no space left to write it; free some or choose another folder") from error
        if isinstance(error, NOT_WRITABLE):
            raise DataError(f"{path} cannot be written ({error.strerror}); choose another place") from error
        raise


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """A temporary path for a file or a folder, which takes the place of `path` at the end, or vanishes on an error; raises
    what `writing` raises.
    """
    path = Path(path)
    # The suffix stays, since writers choose the format by it; of a name as long as a system takes, no more than its end fits.
    temporary = path.with_name(f".{os.getpid()}.{path.name[-40:]}")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if temporary.is_dir():  # of a process with the same number, which was killed
                shutil.rmtree(temporary)
            yield temporary
            if temporary.is_dir() and path.is_dir():
                shutil.rmtree(path)
            os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        elif temporary.exists():
            temporary.unlink()


def refuse_to_replace(out: Path | str | None, *read: Path | str | None) -> None:
    """Raise DataError, before the work, if `out` is one of the files that are read, which would be lost."""
    if out and os.path.exists(out) and any(p and os.path.exists(p) and os.path.samefile(out, p) for p in read):
        raise DataError(f"{out} is read, too, and would be lost; choose another --out")


def write_text(path: Path | str, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all; raises what `atomic` raises."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: object, indent: int | None = None) -> None:
    """`write_text` of a value as JSON."""
    write_text(path, json.dumps(value, indent=indent))


def read_json(path: Path | str) -> Any:
    """The content of a JSON file; raises DataError if it is missing, unreadable, or not JSON (with line and column)."""
    try:
        return json.loads(Path(path).read_bytes())  # in UTF-8, -16 or -32, with a byte order mark or without
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the folder and the split") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path and its permissions") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text file (byte {error.start}); give a JSON file in UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        remedy = "give a JSON, or write it again if it is truncated"
        raise DataError(f"{path} is not JSON ({error.msg} at {where}); {remedy}") from None
