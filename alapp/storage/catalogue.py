"""Projects, images and patches: rows and the pixels behind them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from alapp.domain import Box, ImageRole, Modality, Preset, VoxelSize
from alapp.errors import InputError
from alapp.storage.db import Store, insert, now, required, to_json


@dataclass(frozen=True)
class Project:
    """A row of `project`; see the schema for the columns."""

    id: int
    name: str
    created: str
    modality: Modality
    target: str
    patch_size: int
    patch_depth: int
    patch_overlap: int
    validation_share: float
    seed: int
    preset: Preset
    strategy: str
    click_method: str
    pseudo_method: str | None
    pseudo_params: dict[str, float]
    classes: tuple[str, ...]
    sample: str | None
    visitor: str | None
    expires: str | None
    deleted: str | None
    control_share: float
    repeat_share: float
    lane_share: float
    check_pretraining: bool
    keep_checkpoints: int
    embedder: str


@dataclass(frozen=True)
class Image:
    """A row of `image`. `shape` is (Z, Y, X, C) of the stored array, Z = 1 for 2D."""

    id: int
    project_id: int
    name: str
    role: ImageRole
    source: str
    source_sha256: str
    path: str
    sha256: str
    shape: tuple[int, int, int, int]
    is_3d: bool
    dtype: str
    axes: str
    axes_source: str
    voxel_size: VoxelSize
    warnings: tuple[str, ...]
    created: str
    deleted: str | None


@dataclass(frozen=True)
class Patch:
    """A row of `patch`, with what is needed to read it."""

    id: int
    image_id: int
    box: Box
    image_name: str
    image_path: str
    is_3d: bool
    voxel_size: VoxelSize
    project_id: int

    @property
    def name(self) -> str:
        """How the pages call it, e.g. "cell_03 y256 x512"."""
        z = f" z{self.box.z}" if self.is_3d and self.box.z else ""
        return f"{self.image_name}{z} y{self.box.y} x{self.box.x}"


def create_project(store: Store, name: str, **settings: Any) -> Project:
    """Add a project. Raises `InputError` when the name is empty or taken."""
    name = name.strip()
    if not name:
        raise InputError("Give the project a name.")
    values: dict[str, Any] = {
        "modality": Modality.LIGHT,
        "target": "objects",
        "patch_size": 256,
        "patch_depth": 16,
        "patch_overlap": 0,
        "validation_share": 0.2,
        "seed": 0,
        "preset": Preset.QUICK,
        "strategy": "auto",
        "click_method": "auto",
        "pseudo_method": None,
        "pseudo_params": {},
        "classes": (),
        "sample": None,
        "visitor": None,
        "expires": None,
    } | settings
    taken = store.row(
        "SELECT id FROM project WHERE name = ? AND coalesce(visitor, '') = ? AND deleted IS NULL",
        (name, values["visitor"] or ""),
    )
    if taken:
        raise InputError(f"There is already a project called {name!r}. Choose another name.")
    values |= {name: to_json(values[name]) for name in ("pseudo_params", "classes")}
    if values["visitor"]:
        values["id"] = 2**40 + secrets.randbelow(2**52)  # a demo visitor's pages prove with it that they may ask
    return project(store, store.insert("project", {"name": name, "created": now(), **values}))


def project(store: Store, project_id: int) -> Project:
    """The project with this id. Raises `NotReadyError` if there is none."""
    return _project(required(store.row("SELECT * FROM project WHERE id = ?", (project_id,)), "This project"))


def project_called(store: Store, name: str) -> Project:
    """The project with this name, else with this number. Raises `InputError` if there is none."""
    known = projects(store)
    found = {str(item.id): item for item in known} | {item.name: item for item in known}
    if name not in found:
        names = ", ".join(repr(item.name) for item in known) or "none"
        raise InputError(f"There is no project called {name!r} in {store.root}. It has: {names}.")
    return found[name]


def projects(store: Store, visitor: str | None = None, deleted: bool = False) -> list[Project]:
    """Projects, newest first; with `deleted` those that are hidden, the one that was deleted last first. Only those of
    `visitor` on a public demo."""
    rows = store.rows(
        """SELECT * FROM project WHERE (deleted IS NOT NULL) = ? AND coalesce(visitor, '') = ?
           ORDER BY deleted DESC, id DESC""",
        (deleted, visitor or ""),
    )
    return [_project(row) for row in rows]


def update_project(store: Store, project_id: int, **settings: Any) -> Project:
    """Change settings of a project; returns it. Column names only, values as in `Project`."""
    settings |= {name: to_json(settings[name]) for name in ("pseudo_params", "classes") if name in settings}
    known = set(Project.__dataclass_fields__) - {"id", "created"}
    if unknown := set(settings) - known:
        raise InputError(f"A project has no setting called {sorted(unknown)[0]!r}.")
    marks = ", ".join(f"{name} = :{name}" for name in settings)
    store.execute(f"UPDATE project SET {marks} WHERE id = :id", {**settings, "id": project_id})
    return project(store, project_id)


def delete_project(store: Store, project_id: int) -> None:
    """Hide a project; `restore_project` brings it back."""
    store.execute("UPDATE project SET deleted = ? WHERE id = ?", (now(), project_id))


def restore_project(store: Store, project_id: int) -> Project:
    """Undo `delete_project`. Raises `InputError` when its name was taken in the meantime."""
    hidden = project(store, project_id)
    if any(other.name == hidden.name for other in projects(store, hidden.visitor)):
        raise InputError(f"There is now another project called {hidden.name!r}. Rename that one first.")
    return update_project(store, project_id, deleted=None)


def expired(store: Store, now_iso: str) -> list[int]:
    """Ids of demo visitors' projects whose time is over, or that were deleted."""
    rows = store.rows(
        "SELECT id FROM project WHERE visitor IS NOT NULL AND (deleted IS NOT NULL OR expires < ?)", (now_iso,)
    )
    return [row["id"] for row in rows]


def erase_project(store: Store, project_id: int) -> None:
    """Remove a project, its rows and its files for good. The caller makes sure that no job of it runs."""
    store.execute("DELETE FROM project WHERE id = ?", (project_id,))
    store.files.remove_project(project_id)


def add_image(store: Store, values: Mapping[str, Any], boxes: Iterable[Box]) -> int:
    """Add an image row and its patches in one transaction; returns the image's id."""
    with store.atomic() as db:
        image_id = insert(db, "image", {"created": now(), **values})
        insert_patches(db, image_id, boxes)
    return image_id


def insert_patches(db: Any, image_id: int, boxes: Iterable[Box]) -> None:
    """Add the patches of an image on an open connection."""
    for box in boxes:
        row = {"z": box.z, "y": box.y, "x": box.x, "depth": box.depth, "height": box.height, "width": box.width}
        insert(db, "patch", {"image_id": image_id, **row})


def regrid(store: Store, project_id: int, settings: Mapping[str, int], grids: Mapping[int, Iterable[Box]]) -> Project:
    """Change the patch settings and cut the images (by id) anew, all or nothing; returns the project. The caller
    makes sure that no patch was selected."""
    marks = ", ".join(f"{name} = :{name}" for name in settings)
    with store.atomic() as db:
        db.conn.execute(f"UPDATE project SET {marks} WHERE id = :id", {**settings, "id": project_id})
        for image_id, boxes in grids.items():
            db.conn.execute("DELETE FROM patch WHERE image_id = ?", (image_id,))
            insert_patches(db, image_id, boxes)
    return project(store, project_id)


def images(store: Store, project_id: int, role: ImageRole | None = None) -> list[Image]:
    """Images of a project in the order of import."""
    sql = "SELECT * FROM image WHERE project_id = ? AND deleted IS NULL"
    params: list[Any] = [project_id]
    if role:
        sql += " AND role = ?"
        params.append(role)
    return [_image(row) for row in store.rows(sql + " ORDER BY id", params)]


def image(store: Store, image_id: int) -> Image:
    """The image with this id. Raises `NotReadyError` if there is none."""
    return _image(required(store.row("SELECT * FROM image WHERE id = ?", (image_id,)), "This image"))


def sources_since(store: Store, project_id: int, since: str) -> set[tuple[str, str]]:
    """(name, source) of the images that were added at `since` (as `db.now` tells it) or later; removed ones, too."""
    rows = store.rows("SELECT name, source FROM image WHERE project_id = ? AND created >= ?", (project_id, since))
    return {(row["name"], row["source"]) for row in rows}


def set_image_deleted(store: Store, image_id: int, deleted: bool) -> None:
    """Hide an image, or bring it back as it was."""
    store.execute("UPDATE image SET deleted = ? WHERE id = ?", (now() if deleted else None, image_id))


def set_voxel_size(store: Store, image_ids: Collection[int], size: VoxelSize) -> None:
    """Change the voxel size of images, of all or of none."""
    sql = "UPDATE image SET voxel_size = ? WHERE id IN (SELECT value FROM json_each(?))"
    store.execute(sql, (to_json(asdict(size)), json.dumps(list(image_ids))))


_PATCH = """
    SELECT patch.*, image.name AS image_name, image.path AS image_path, image.is_3d, image.voxel_size,
           image.project_id
    FROM patch JOIN image ON image.id = patch.image_id
"""
_SELECTABLE = """ image.project_id = :project AND image.deleted IS NULL AND image.role = 'train'
    AND patch.repeats IS NULL """


def patches(
    store: Store, project_id: int, image_id: int | None = None, ids: Collection[int] | None = None
) -> list[Patch]:
    """The patches that can be selected, ordered by id: all, those of an image, or those with these `ids`. Patches that
    repeat another one are not among them."""
    sql = _PATCH + "WHERE" + _SELECTABLE
    params: dict[str, Any] = {"project": project_id}
    if image_id is not None:
        sql, params = sql + "AND patch.image_id = :image ", params | {"image": image_id}
    if ids is not None:
        sql = sql + "AND patch.id IN (SELECT value FROM json_each(:ids)) "
        params |= {"ids": json.dumps(list(ids))}
    return [_patch(row) for row in store.rows(sql + "ORDER BY patch.id", params)]


def count_patches(store: Store, project_id: int) -> int:
    """How many patches can be selected."""
    sql = "SELECT count(*) AS n FROM patch JOIN image ON image.id = patch.image_id WHERE" + _SELECTABLE
    return int(store.rows(sql, {"project": project_id})[0]["n"])


def patch_counts(store: Store, project_id: int) -> dict[int, int]:
    """Number of patches by image id, repeats left out."""
    rows = store.rows(
        """SELECT image_id, count(*) AS n FROM patch JOIN image ON image.id = patch.image_id
           WHERE project_id = ? AND deleted IS NULL AND repeats IS NULL GROUP BY image_id""",
        (project_id,),
    )
    return {row["image_id"]: row["n"] for row in rows}


def any_patch(store: Store, project_id: int, unpicked: bool = False) -> bool:
    """Whether there is a patch that can be selected; with `unpicked`, one that never was (skipped ones were) and that
    nobody vetoed."""
    picked = "patch.vetoed IS NOT NULL OR EXISTS (SELECT 1 FROM selection WHERE selection.patch_id = patch.id)"
    sql = f"""SELECT 1 FROM patch JOIN image ON image.id = patch.image_id WHERE {_SELECTABLE}
        AND NOT (:unpicked AND ({picked})) LIMIT 1"""
    return store.row(sql, {"project": project_id, "unpicked": unpicked}) is not None


def patch(store: Store, patch_id: int) -> Patch:
    """The patch with this id. Raises `NotReadyError` if there is none."""
    return _patch(required(store.row(_PATCH + " WHERE patch.id = ?", (patch_id,)), "This patch"))


def read_image(store: Store, item: Image) -> np.ndarray:
    """Pixels of an image: (Y, X, C), or (Z, Y, X, C) if it is 3D; memory-mapped."""
    array = store.files.read_array(item.path)
    return array if item.is_3d else array[0]


def read_patch(store: Store, item: Patch) -> np.ndarray:
    """Pixels of a patch, copied: (Y, X, C), or (Z, Y, X, C) if the image is 3D."""
    array = np.array(store.files.read_array(item.image_path)[item.box.slices])
    return array if item.is_3d else array[0]


def crop(labels: np.ndarray, item: Patch) -> np.ndarray:
    """A patch's part of a label map (or any array) of its whole image (Y, X) or (Z, Y, X)."""
    window = item.box.slices
    return np.array(labels[window if item.is_3d else window[1:]])


class PatchPixels(Sequence[np.ndarray]):
    """Lazy sequence of raw patches, for the embedders: `source[i]` reads one from disk."""

    def __init__(self, store: Store, items: Sequence[Patch]):
        self._store = store
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> np.ndarray:
        return read_patch(self._store, self._items[index])


def _project(row: dict[str, Any]) -> Project:
    return Project(
        **row
        | {
            "modality": Modality(row["modality"]),
            "preset": Preset(row["preset"]),
            "pseudo_params": json.loads(row["pseudo_params"]),
            "classes": tuple(json.loads(row["classes"])),
            "check_pretraining": bool(row["check_pretraining"]),
        }
    )


def _image(row: dict[str, Any]) -> Image:
    return Image(
        **row
        | {
            "role": ImageRole(row["role"]),
            "shape": tuple(json.loads(row["shape"])),
            "is_3d": bool(row["is_3d"]),
            "voxel_size": VoxelSize(**json.loads(row["voxel_size"])),
            "warnings": tuple(json.loads(row["warnings"])),
        }
    )


def _patch(row: dict[str, Any]) -> Patch:
    return Patch(
        id=row["id"],
        image_id=row["image_id"],
        box=Box(row["z"], row["y"], row["x"], row["depth"], row["height"], row["width"]),
        image_name=row["image_name"],
        image_path=row["image_path"],
        is_3d=bool(row["is_3d"]),
        voxel_size=VoxelSize(**json.loads(row["voxel_size"])),
        project_id=row["project_id"],
    )
