"""HTML of the Project tab: cards and tables. User text is always escaped."""

from __future__ import annotations

import base64
import functools
import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image as Picture

from alapp.domain import ImageRole, VoxelSize
from alapp.errors import CorruptFileError
from alapp.rounds import references
from alapp.rounds.references import State
from alapp.stages.display import thumbnail
from alapp.stages.sample import SAMPLES, load
from alapp.storage import catalogue
from alapp.storage.catalogue import Image, Project
from alapp.storage.db import Store
from alapp.storage.files import Files
from alapp.ui.parts.overlay import NEUTRAL
from alapp.wording import counted

MAX_ROWS = 200
SIDE = 44
"""Pixels of the small pictures in the table."""
STEPS = (
    ("Images", "you", "Drop them here: TIFF, OME-TIFF, OME-Zarr, PNG or JPEG, 2D or 3D. They are cut into patches."),
    (
        "Pseudo-labels",
        "the computer",
        "A foundation model or a built-in method outlines what it takes for objects. You look at ten patches and "
        "decide.",
    ),
    (
        "Pre-training",
        "the computer",
        "nnU-Net configures itself on your images and learns a first, rough idea of them.",
    ),
    (
        "A round",
        "you",
        "The app picks the few patches from which it learns most. You correct the outlines by clicking.",
    ),
    ("Training", "the computer", "The network learns from your labels and finds the objects in all images."),
    (
        "Results",
        "both",
        "How good it is on patches that it never learned from, whether another round is worth it, and masks and tables "
        "to take with you.",
    ),
)
"""(title, who works, what happens) of what a project goes through."""


def no_project() -> str:
    """What stands in the place of a project's images when none is open: how it goes from images to masks."""
    steps = "".join(
        f'<li><b>{html.escape(title)}</b> <span class="chip plain">{html.escape(who)}</span>'
        f"<div>{html.escape(text)}</div></li>"
        for title, who, text in STEPS
    )
    return (
        '<div class="empty"><h3>No project is open</h3>Create a sample with one click, or a project of your own, on '
        "the left. This is how it goes from images without labels to masks:</div>"
        f'<ol class="steps">{steps}</ol>'
    )


def data_uri(picture: np.ndarray) -> str:
    """A uint8 picture (Y, X, 3) as a PNG inside a URL."""
    buffer = io.BytesIO()
    Picture.fromarray(picture).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@functools.cache
def sample_card(name: str) -> str:
    """Picture and description of a sample data set."""
    info = SAMPLES[name]
    _, image, _, _ = next(iter(load(name)))
    return (
        f'<div class="info"><img alt="" src="{data_uri(thumbnail(image, 84))}">'
        f"<div><strong>{html.escape(info.title)}</strong><br><span>{html.escape(info.description)}</span></div></div>"
    )


def images(store: Store, project: Project, rows: Sequence[Image]) -> str:
    """The table of a project's images."""
    if not rows:
        what = (
            "The sample images are being copied." if project.sample else "Open “Add images” below and drop them there."
        )
        return f'<div class="empty"><h3>{html.escape(project.name)} has no images yet</h3>{what}</div>'
    counts, masks = catalogue.patch_counts(store, project.id), references.states(store, project.id)
    body = "".join(_row(store, image, counts.get(image.id, 0), masks.get(image.id)) for image in rows[:MAX_ROWS])
    total = sum(counts.values())
    more = f" The first {MAX_ROWS} are listed." if len(rows) > MAX_ROWS else ""
    held = f"{counted(len(rows), 'image')}, {counted(total, 'patch', 'patches')}"
    return (
        f"<h3>{html.escape(project.name)}: {held}</h3>"
        '<div class="sheet-frame"><table class="sheet"><thead><tr><th></th><th>Name</th>'
        '<th class="n">Size (pixels)</th><th>Axes</th><th class="n">Voxel size (µm)</th><th>Type</th>'
        '<th class="n">Patches</th><th>Warnings</th></tr>'
        f"</thead><tbody>{body}</tbody></table></div>{more}"
    )


def voxel_text(size: VoxelSize) -> str:
    """Voxel size in micrometres, z first, or "unknown"."""
    known = [value for value in (size.z, size.y, size.x) if value is not None]
    return " × ".join(f"{value:.3g}" for value in known) if size.known else "unknown"


def _row(store: Store, image: Image, patches: int, masks: State | None) -> str:
    z, y, x, channels = image.shape
    size = " × ".join(str(side) for side in ((z, y, x) if image.is_3d else (y, x)))
    kind = f"{image.dtype}, {counted(channels, 'channel')}"
    role = "" if image.role is ImageRole.TRAIN else " (test)"
    picture, problem = _preview(store, image)
    missing = masks.sentence if masks and masks.missing else ""
    if masks and not masks.missing:
        role += f"<br><small>{html.escape(masks.sentence)}</small>"
    warnings = html.escape(" ".join(text for text in (problem, missing, *image.warnings) if text))
    return (
        f'<tr><td style="min-width:{SIDE + 16}px"><img alt="" src="{picture}"></td>'
        f"<td>{html.escape(image.name)}{role}</td><td class='n'>{size}</td>"
        f"<td>{html.escape(image.axes)} <small>({html.escape(image.axes_source)})</small></td>"
        f"<td class='n'>{voxel_text(image.voxel_size)}</td><td>{kind}</td><td class='n'>{patches or '–'}</td>"
        f"<td class='warn'>{warnings}</td></tr>"
    )


def _preview(store: Store, image: Image) -> tuple[str, str]:
    """The small picture of an image and what is wrong with its file: the table is where such an image is removed."""
    path = store.files.resolve(image.path)
    if not path.is_file():
        return _placeholder(), "Its file is missing."
    try:
        return _thumbnail(store.files, image.path), ""
    except CorruptFileError:
        return _placeholder(), "Its file is damaged."


@functools.lru_cache(maxsize=1000)
def _thumbnail(files: Files, path: str) -> str:
    pixels = files.read_array(path)
    return data_uri(thumbnail(pixels[len(pixels) // 2], SIDE))


@functools.cache
def _placeholder() -> str:
    return data_uri(np.full((SIDE, SIDE, 3), NEUTRAL, np.uint8))
