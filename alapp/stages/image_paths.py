"""Image files by their paths: find them, and what they are called. `images.py` is the door to this module."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from natsort import natsorted, ns

from alapp.errors import InputError
from alapp.stages.zarr_images import is_zarr

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
"""Endings of the files that can be read, in lower case."""


def discover(text: str) -> list[Path]:
    """Image files named by a folder, a glob ("images/*.tif", "**" for subfolders) or a file, in natural order.

    A folder that is an OME-Zarr counts as a file. Hidden files and other file types are left out. In a glob, the
    folders before the first * or ? are taken as they are written, if they exist: brackets are common in names. Raises
    `InputError` naming what it looked for, or what cannot be looked at.
    """
    named = text.strip().strip("\"'")
    if not named:
        raise InputError("Enter a folder, a file, or a pattern like images/*.tif.")
    try:
        return _found(named, Path(named).expanduser())
    except RuntimeError as error:
        raise InputError(f"The home folder in {named} is not known on this computer. Write the whole path.") from error
    except PermissionError as error:
        where = error.filename or named
        raise InputError(f"{where} may not be looked at with your rights on this computer.") from error
    except OSError as error:
        raise InputError(f"{named} cannot be looked for ({error.strerror or error}). Check the path.") from error


def _found(named: str, path: Path) -> list[Path]:
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise InputError(unsupported(path))
        return [path]
    if is_zarr(path):
        return [path]
    if path.is_dir():
        found = _images(path.iterdir())
        where = f"The folder {path}"
    elif glob.has_magic(named):
        found = _images(Path(match) for match in glob.glob(_pattern(path), recursive=True))
        where = f"The pattern {named}"
    else:
        raise InputError(f"There is no file or folder {named}. Check the path.")
    if not found:
        raise InputError(f"{where} matches no image. It was searched for {_known()}.")
    return found


def _pattern(path: Path) -> str:
    """A path as a glob in which the folders that exist before the first * or ? stand for themselves."""
    plain = next((i for i, part in enumerate(path.parts) if set(part) & set("*?")), len(path.parts))
    for end in range(plain, 0, -1):
        folder = Path(*path.parts[:end])
        if folder.is_dir():
            return str(Path(glob.escape(str(folder)), *path.parts[end:]))
    return str(path)


def _images(paths: Iterable[Path]) -> list[Path]:
    """The images among `paths`, sorted. Raises `PermissionError` if there are none, but some that may not be looked
    at."""
    good, closed = [], None
    for path in paths:
        try:
            if not path.name.startswith(".") and (_is_image_file(path) or is_zarr(path)):
                good.append(path)
        except PermissionError as error:
            closed = error
    if closed and not good:
        raise closed
    return natsorted(good, key=str, alg=ns.IGNORECASE)


def _is_image_file(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def stem(path: Path | str) -> str:
    """File name without its ending; ".ome.tif" and ".ome.zarr" count as one. An image inside a Zarr, as a field of a
    plate, which is called "0" in every well, is named by its path from there on: "plate_A_1_0"."""
    zarr, inner = _in_zarr(Path(path))
    name = zarr.stem
    plain = name[:-4] if name.lower().endswith(".ome") and len(name) > 4 else name
    return printable("_".join([plain, *inner]))


def title(path: Path | str) -> str:
    """What a file is called on the pages: its name, or its path from the Zarr on in which it is."""
    zarr, inner = _in_zarr(Path(path))
    return printable("/".join([zarr.name, *inner]))


def printable(text: str) -> str:
    """`text` in which bytes of a file name that are no UTF-8 are question marks: else it can neither be stored nor be
    sent to a page. `stem` and `title` are so already."""
    return text.encode(errors="replace").decode()


def _in_zarr(path: Path) -> tuple[Path, tuple[str, ...]]:
    """The Zarr in which an image is, and the folders from there to it; else the image itself and nothing."""
    if path.suffix.lower() not in (*SUFFIXES, ".zarr"):
        for folder in path.parents:
            if folder.suffix.lower() == ".zarr":
                return folder, path.relative_to(folder).parts
    return path, ()


def unsupported(path: Path) -> str:
    """What is said of a file of another kind."""
    return f"{path.name} is not an image that can be read here. Use {_known()}."


def _known() -> str:
    return f"files ending in {', '.join(SUFFIXES)}, or OME-Zarr folders"
