"""The pseudo-labels that a project has, of every method that made some: none is made twice."""

from __future__ import annotations

from collections.abc import Iterable

from alapp.domain import LabelKind
from alapp.errors import CorruptFileError
from alapp.storage import labels
from alapp.storage.db import Store
from alapp.storage.labels import LabelMap


class StoredMaps:
    """Maps of whole images, as they are when this is made."""

    def __init__(self, store: Store, project_id: int):
        self._store = store
        every = labels.of_images(store, project_id, LabelKind.PSEUDO)
        self._known = {(item.image_id, item.input_hash): item for item in every}
        self._newest = {item.image_id: item.id for item in every}

    def find(self, image_id: int, key: str) -> LabelMap | None:
        """The newest map of an image with the input hash `key`. None also where its file is damaged, if it would have
        to be stored again: see `make_newest`."""
        item = self._known.get((image_id, key))
        return item if item is not None and (self._is_newest(item) or self._intact(item)) else None

    def make_newest(self, maps: Iterable[LabelMap]) -> None:
        """Make `maps` the newest of their images, which are the ones that are shown and trained on. What another method
        followed is stored again."""
        for item in maps:
            if self._known.get((item.image_id, item.input_hash)) == item and not self._is_newest(item):
                labels.add(
                    self._store,
                    LabelKind.PSEUDO,
                    labels.read(self._store, item),
                    project_id=item.project_id,
                    image_id=item.image_id,
                    backend=item.backend,
                    params=item.params,
                    input_hash=item.input_hash,
                )

    def _is_newest(self, item: LabelMap) -> bool:
        return self._newest[item.image_id] == item.id

    def _intact(self, item: LabelMap) -> bool:
        try:
            self._store.files.verify(item.path, item.sha256)
        except CorruptFileError:
            return False
        return True
