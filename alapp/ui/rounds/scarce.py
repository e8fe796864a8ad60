"""What the Rounds tab says where few patches are left to choose from."""

from __future__ import annotations

from alapp.stages.patches import MIN_SIZE
from alapp.storage import catalogue
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Project
from alapp.storage.db import Store
from alapp.ui.parts import tables
from alapp.wording import counted


def n_unpicked(store: Store, project_id: int) -> int:
    """How many patches the next batch can have at most: those that no round has and nobody vetoed."""
    gone = len(round_rows.selected_in_project(store, project_id)) + len(round_rows.vetoed(store, project_id))
    return max(0, catalogue.count_patches(store, project_id) - gone)


def warning(store: Store, project: Project, n_free: int, wanted: int) -> str:
    """That a batch of the size that is `wanted` takes all `n_free` patches that are left, as HTML, and, as long as the
    images can be cut anew, how to get more; "" where there is a choice."""
    if not 0 < n_free <= wanted:
        return ""
    if round_rows.latest(store, project.id) is not None:
        left = f"Only {counted(n_free, 'patch', 'patches')} {'is' if n_free == 1 else 'are'} left"
        return tables.note(f"{left}: the batch takes {'it' if n_free == 1 else 'them all'}.")
    text = f"Only {counted(n_free, 'patch', 'patches')}: too few to choose from."
    smaller = _smaller(store, project)
    more = f"On the Project tab, cut smaller, e.g. {smaller}, or import more images." if smaller else (
        "Import more images."
    )  # fmt: skip
    return f'{tables.STYLE}<div class="al-say warn">{text} {more}</div>'


def _smaller(store: Store, project: Project) -> str:
    """A size of patches that makes several out of one, in words; "" where patches are small already."""
    first = catalogue.patches(store, project.id)[0]
    side = min(max(first.box.height, first.box.width), project.patch_size) // 2
    side = max(MIN_SIZE, side // 16 * 16)
    depth = -(-min(first.box.depth, project.patch_depth) // 2)
    if side >= max(first.box.height, first.box.width) and depth >= first.box.depth:
        return ""
    return f"{side} px × {counted(depth, 'slice')}" if first.is_3d else f"{side} px"
