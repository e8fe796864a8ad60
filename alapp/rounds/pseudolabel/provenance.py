"""Which method makes pseudo-labels, with which weights and why; told with every label map that it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from alapp import __version__
from alapp.domain import Modality
from alapp.errors import BackendError, OutOfMemoryError
from alapp.rounds.timing import content_hash
from alapp.stages.pseudolabel.base import (
    PSEUDO_LABELLERS,
    HasModels,
    Provenance,
    PseudoLabeller,
    Revised,
    automatic_order,
)
from alapp.storage.labels import LabelMap

Params = dict[str, float | str]
T = TypeVar("T")


@dataclass(frozen=True)
class Recipe:
    """How labels are made: the same recipe gives the same labels for the same image. `failed` has the keys of those
    that were to be used before it, with the sentence that each failed with."""

    method: str
    params: Params
    reason: str
    origin: Provenance
    backend: PseudoLabeller
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """A hash of the method, its parameters and its weights; labels with one key are made alike."""
        return _key(self.method, self.params, self.origin.mode, self.origin.weights, *self._revision)

    def hash_of(self, image_hash: str) -> str:
        """Names the labels of an image. Methods without weights keep the names they had before weights were told."""
        weights = [self.origin.mode, self.origin.weights] if self.origin.weights else []
        return content_hash("pseudo", self.method, self.params, image_hash, *weights, *self._revision)

    @property
    def _revision(self) -> list[int]:
        """Nothing for the first one: labels keep the names they had before revisions were told."""
        return [self.origin.revision] if self.origin.revision > 1 else []

    def record(self) -> dict[str, Any]:
        """What is kept with a label map: parameters, "method", "mode", "model", "weights", "package", "revision",
        "reason", "recipe" (its key), and "failed" where another one did."""
        told = {**self.params, "method": self.method, **asdict(self.origin), "reason": self.reason, "recipe": self.key}
        return told | ({"failed": dict(self.failed)} if self.failed else {})


def recipe(
    method: str, reason: str, modality: Modality, params: Params, failed: Mapping[str, str] | None = None
) -> Recipe:
    """What the method called `method` would do. Raises `BackendError` where it cannot be used."""
    backend = PSEUDO_LABELLERS.create(method, modality=modality)
    revision = backend.revision if isinstance(backend, Revised) else 1
    own = Provenance(package=f"alapp {__version__}", revision=revision)
    origin = backend.provenance(params) if isinstance(backend, HasModels) else own
    return Recipe(method, params, reason, origin, backend, failed or {})


def with_automatic(
    modality: Modality, work: Callable[[Recipe], T], given_up: Mapping[str, str] | None = None
) -> tuple[Recipe, T]:
    """`work` with the method that `auto` chooses, and the one that did it.

    A method that fails is left out altogether and the next one does all of the work, so that no labels of two methods
    are mixed; the reason then says what failed. `given_up`: `Recipe.failed` of earlier work; these are left out without
    being tried. Raises the error of the last method.
    """
    order = automatic_order(modality)
    failed: dict[str, str] = {}
    for name, reason in order:
        title, key = PSEUDO_LABELLERS.load(name).title, name
        why = f"{' '.join(failed.values())} So {title} is used for all images alike." if failed else reason
        is_last = name == order[-1][0]
        try:
            this = recipe(name, why, modality, {}, dict(failed))
            key = this.key
            if is_last or key not in (given_up or {}):
                return this, work(this)
            failed[key] = given_up[key]
        except (BackendError, OutOfMemoryError) as error:
            if is_last:
                raise
            failed[key] = str(error)
    raise AssertionError("there is always a built-in method")


def made_by(item: LabelMap) -> str:
    """The key of the recipe of a pseudo-label map; maps of before recipes were kept were made without weights."""
    params = {name: value for name, value in item.params.items() if name != "reason"}
    return item.params.get("recipe") or _key(item.backend, params, "", "")


def sentence(backend: str, params: Mapping[str, Any]) -> str:
    """The provenance of a label map in plain words, from its backend and params: "Made by micro_sam with the model
    vit_t_lm (AIS), weights 3f2a91c0…, micro_sam 1.8.14. You chose it." """
    title = PSEUDO_LABELLERS.load(backend).title if backend in PSEUDO_LABELLERS else backend
    model = f" with the model {params['model']}" if params.get("model") else ""
    mode = f" ({params['mode']})" if params.get("mode") else ""
    weights = f", weights {params['weights'][:8]}…" if params.get("weights") else ""
    package = f", {params['package']}" if params.get("package") else ""
    return f"Made by {title}{model}{mode}{weights}{package}. {params.get('reason', '')}".strip()


def _key(method: str, params: Mapping[str, Any], mode: str, weights: str, *revision: int) -> str:
    return content_hash("recipe", method, dict(params), mode, weights, *revision)
