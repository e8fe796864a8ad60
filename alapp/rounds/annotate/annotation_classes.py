"""Classes of objects: their names in a project, and the class of an object. Most projects have one class only.

`project.classes` holds the names; the class of an object is the place of its name, from 1, so that a name can change
and every object keeps its class. "" is the place of a class that was removed. Without any name there is one class,
which is called what the user segments. Networks find objects of all classes together: predictions and suggestions
are of class 1.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from alapp.errors import InputError
from alapp.rounds.annotate.annotation_journal import Change, state, write
from alapp.stages.annotate.journal import State
from alapp.storage import annotations, catalogue
from alapp.storage.catalogue import Project
from alapp.storage.db import Store
from alapp.storage.labels import LabelMap

MOST = 9  # one for each of the keys 1 to 9
LONGEST = 40  # characters of a name


def names(project: Project) -> dict[int, str]:
    """The name of each class of a project, by class, in order; there is always a class 1."""
    return {number: name for number, name in enumerate(project.classes, 1) if name} or {1: project.target or "objects"}


def several(project: Project) -> bool:
    """Whether objects of the project can be of different classes."""
    return len(names(project)) > 1


def set_names(store: Store, project_id: int, text: str) -> Project:
    """Name the classes of a project: `text` has the names, separated by commas or line breaks; empty is one class.

    A name that stays keeps its class, wherever it stands; a new name in the place of one that went renames it.
    Raises `InputError` for names that cannot be used, and when a class that objects have would be removed.
    """
    project = catalogue.project(store, project_id)
    typed = parse(text) or [project.target or "objects"]
    made = renumbered(names(project), typed, annotations.used_classes(store, project_id))
    stored = [made.get(number, "") for number in range(1, max(made) + 1)]
    return catalogue.update_project(store, project_id, classes=[] if stored == [project.target] else stored)


def parse(text: str) -> list[str]:
    """The names in a text, separated by commas or line breaks. Raises `InputError` for too many, too long or equal
    ones."""
    found = [name for part in re.split(r"[,\n]", text) if (name := " ".join(part.split()))]
    if len(found) > MOST:
        raise InputError(f"There can be at most {MOST} kinds of objects, and you named {len(found)}. Leave some out.")
    for place, name in enumerate(found):
        if len(name) > LONGEST:
            raise InputError(f"The name “{name}” is longer than {LONGEST} characters. Choose a shorter one.")
        if name.casefold() in (other.casefold() for other in found[:place]):
            raise InputError(f"There are two kinds called “{name}”. Give each a name of its own.")
    return found


def renumbered(known: Mapping[int, str], typed: Sequence[str], used: Collection[int]) -> dict[int, str]:
    """The classes after somebody turned the names `known` (by class) into `typed`; objects have the classes `used`.

    Raises `InputError` when a used class would be removed, or class 1 once there are objects.
    """
    if not used:
        return dict(enumerate(typed, 1))
    wanted = {name.casefold() for name in typed}
    by_name = {name.casefold(): number for number, name in known.items()}
    order = sorted(known)
    made: dict[int, str] = {}
    added = []
    for place, name in enumerate(typed):
        number = by_name.get(name.casefold())
        if number is None and place < len(order) and known[order[place]].casefold() not in wanted:
            number = order[place]
        if number is None:
            added.append(name)
        else:
            made[number] = name
    for number in order:
        if number not in made and (number in used or number == 1):
            raise InputError(
                f"The kind “{known[number]}” cannot be removed, because objects have it or had it (undo could bring "
                "them back). You can rename it: type the new name in its place."
            )
    free = (number for number in range(1, MOST + 1) if number not in made)
    return dict(sorted((made | dict(zip(free, added, strict=False))).items()))


def check(store: Store, patch_id: int, kind: int) -> None:
    """Raises `InputError` unless the patch's project has the class `kind`."""
    if kind not in names(catalogue.project(store, catalogue.patch(store, patch_id).project_id)):
        raise InputError("This kind of object was removed in the settings of the project. Reload the page.")


def classify(
    store: Store,
    patch_id: int,
    session: str,
    object_ids: Sequence[int],
    kind: int,
    *,
    revision: int | None = None,
    token: str | None = None,
) -> Change:
    """Give objects or suggestions the class `kind`, in one step of undo. Raises `InputError` when nothing would
    change."""
    check(store, patch_id, kind)
    now = state(store, patch_id)
    known = {**now.suggestions, **now.objects}
    chosen = [key for key in dict.fromkeys(object_ids) if key in known]
    if not chosen:
        raise InputError("That object is gone. Select it anew.")
    if all(known[key].kind == kind for key in chosen):
        raise InputError("The selected objects are of this kind already.")
    payload = {"objects": chosen, "class": kind, "token": token}
    return write(store, patch_id, session, "classify", payload, revision=revision)


def recorded(store: Store, project_id: int, now: State) -> dict[str, Any]:
    """What a label map of the objects in `now` says about their classes: `classes`, the class by id; nothing in a
    project of one class."""
    if not several(catalogue.project(store, project_id)):
        return {}
    return {"classes": {str(key): item.kind for key, item in now.objects.items()}}


def of_objects(item: LabelMap) -> dict[int, int]:
    """The class of each object in a label map, by id. Objects that are missing are of class 1."""
    return {int(key): int(kind) for key, kind in item.params.get("classes", {}).items()}
