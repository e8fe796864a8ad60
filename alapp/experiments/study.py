"""What an experiment compares: every run of it, in the order in which they are worth doing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from alapp.domain import Modality, Preset
from alapp.errors import InputError
from alapp.experiments.corruption import check_start
from alapp.stages.embed.base import EMBEDDERS, NEED_NETWORK
from alapp.stages.instances import Decoding
from alapp.stages.sample import SAMPLES
from alapp.stages.select.base import SELECTORS

ALL = "all"
"""The strategy of a run on every patch."""
NONE = "none"
"""The start of a network that is not pre-trained."""
CHAIN, SINGLE = "chain", "single"
SCHEDULES = {
    CHAIN: "each budget is trained from the model of the smaller one, as rounds are",
    SINGLE: "each budget is trained at once, from the pre-trained model, for as many iterations",
}


@dataclass(frozen=True)
class Source:
    """Labelled images: a sample of `stages.sample`, folders of images and of instance maps with the same stems, or the
    images of the `project` with this id that have reference masks (its test images, if it has any, are for testing).

    Without test folders, the last `test_share` of the images are for testing. `patch` in pixels, `depth` in slices;
    `voxel_size` (z, y, x) in micrometres. `frames` of a sample: how many of its sequence are taken, evenly; None as in
    the sample project.
    """

    sample: str | None = None
    images: str | None = None
    labels: str | None = None
    test_images: str | None = None
    test_labels: str | None = None
    test_share: float = 0.25
    modality: Modality = Modality.LIGHT
    patch: int = 256
    depth: int = 1
    voxel_size: tuple[float | None, float | None, float | None] = (None, None, None)
    frames: int | None = None
    project: int | None = None

    def __post_init__(self) -> None:
        folders = self.images is not None and self.labels is not None
        if (self.sample is not None) + folders + (self.project is not None) != 1:
            raise InputError("An experiment needs a sample, or a folder of images and one of their labels.")
        if self.sample is not None and self.sample not in SAMPLES:
            raise InputError(f"There is no sample called {self.sample!r}. Choose one of: {', '.join(SAMPLES)}.")
        if (self.test_images is None) != (self.test_labels is None):
            raise InputError("Give the folders of test images and of their labels together, or neither.")
        if not 0 < self.test_share < 1:
            raise InputError(f"The share of test images must be between 0 and 1; it is {self.test_share:g}.")


MAY_MOVE = ("images", "labels", "test_images", "test_labels")
"""What of a source says where its files are, not what they show."""
COMPARED = ("budgets", "strategies", "starts", "schedules", "seeds")
"""What the runs of a study differ by."""


@dataclass(frozen=True)
class Study:
    """What is compared. `budgets` ascend; below 1 they are shares of all patches, else numbers of patches. `starts`:
    the pseudo-labels that the network is pre-trained on, see `corruption`. `iterations` of a round, by default the
    plan's. `embedder` names what patches are compared by. `decoding`: parameters of `instances.Decoding` other than the
    defaults, by name, with which objects are read from what the network tells of the test images. `replan`: the
    network is planned anew where the first labels show objects of another size than the pseudo-labels, as it is in a
    project."""

    source: Source
    budgets: tuple[float, ...] = (0.0625, 0.125, 0.25)
    strategies: tuple[str, ...] = ("auto", "coreset", "random")
    starts: tuple[str, ...] = ("auto",)
    schedules: tuple[str, ...] = (CHAIN,)
    seeds: tuple[int, ...] = (0, 1, 2)
    full: bool = True
    preset: Preset = Preset.QUICK
    iterations: int | None = None
    embedder: str = "mae"
    decoding: Mapping[str, float] = field(default_factory=dict)
    replan: bool = True

    def __post_init__(self) -> None:
        for name in COMPARED:
            if not getattr(self, name):
                raise InputError(f"An experiment needs at least one of its {name}.")
        for strategy in self.strategies:
            SELECTORS.load(strategy)
        EMBEDDERS.load(self.embedder)
        if self.embedder in NEED_NETWORK:
            usable = ", ".join(name for name in EMBEDDERS if name not in NEED_NETWORK)
            raise InputError(
                f"An experiment compares patches before a network is trained, so not by {self.embedder!r}. "
                f"Choose one of: {usable}."
            )
        for start in self.starts:
            check_start(start)
        for schedule in self.schedules:
            if schedule not in SCHEDULES:
                raise InputError(f"There is no schedule called {schedule!r}. Choose one of: {', '.join(SCHEDULES)}.")
        if min(self.budgets) <= 0 or list(self.budgets) != sorted(set(self.budgets)):
            raise InputError(f"Budgets must be positive and ascend; they are {', '.join(map(str, self.budgets))}.")
        if unknown := self.decoding.keys() - {each.name for each in fields(Decoding)}:
            raise InputError(f"Objects are not read by {', '.join(sorted(unknown))}; that is no parameter of decoding.")
        if self.iterations is not None and self.iterations < 1:
            raise InputError(f"A round needs at least one iteration; it has {self.iterations}.")

    def as_json(self) -> dict[str, Any]:
        """The inverse of `of`."""
        return asdict(self)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Study:
        """A study from JSON."""
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()}
        values.setdefault("replan", False)  # begun by a version that did not
        source = dict(values.pop("source"))
        source |= {"modality": Modality(source["modality"]), "voxel_size": tuple(source["voxel_size"])}
        return cls(**{**values, "source": Source(**source), "preset": Preset(values["preset"])})

    def extended(self, more: Study) -> Study:
        """This study with what `more` compares besides. The images may have moved. Raises `InputError` where something
        else differs that all runs share: what was measured one way cannot be compared with another."""
        there = more._shared
        for name, here in self._shared.items():
            if here != there[name]:
                raise InputError(
                    f"All runs of an experiment have the same {name.replace('_', ' ')}: this one has {here}, not "
                    f"{there[name]}. Define another experiment."
                )
        compared = {name: tuple(dict.fromkeys((*getattr(self, name), *getattr(more, name)))) for name in COMPARED}
        compared["budgets"] = tuple(sorted(compared["budgets"]))
        return replace(self, source=more.source, full=self.full or more.full, **compared)

    @property
    def _shared(self) -> dict[str, Any]:
        """What all runs have in common, by name."""
        shared = vars(self.source) | {
            name: getattr(self, name) for name in ("preset", "iterations", "embedder", "decoding")
        }
        there = {name: "a folder" for name in MAY_MOVE if shared[name] is not None}
        return {name: "none given" if value is None else value for name, value in (shared | there).items()}


@dataclass(frozen=True)
class Run:
    """One training and its test. `budget` as in the study: 0 for the pre-trained network alone, with strategy "" and
    schedule ""; None for every patch. `round`: as many budgets of its study come up to its own, and all for every
    patch; a training at once has the iterations of as many rounds. None in runs of older versions, see `round_in`."""

    start: str
    seed: int
    strategy: str = ""
    schedule: str = ""
    budget: float | None = 0
    round: int | None = field(default=None, compare=False)

    @property
    def key(self) -> str:
        """Unique in the study; readable."""
        budget = "all" if self.budget is None else f"{self.budget:g}"
        return "/".join(part or "-" for part in (self.start, self.schedule, self.strategy, budget, str(self.seed)))

    def round_in(self, study: Study) -> int:
        """`round`; of a run that was listed without it, what it is in the study today."""
        if self.round is not None:
            return self.round
        if self.budget == 0:
            return 0
        return len(study.budgets) if self.budget is None else study.budgets.index(self.budget) + 1

    def after(self, study: Study) -> Run | None:
        """The run whose model this one starts from; None for one that starts from scratch."""
        before = Run(self.start, self.seed)
        if self == before:
            return None
        if self.schedule == CHAIN and study.budgets.index(self.budget) > 0:
            smaller = study.budgets[study.budgets.index(self.budget) - 1]
            return Run(self.start, self.seed, self.strategy, CHAIN, smaller)
        return before


def runs(study: Study) -> Iterator[Run]:
    """Every run, seed by seed, so that whatever is finished first can be compared; a run follows the one it needs."""
    for seed, start in itertools.product(study.seeds, study.starts):
        yield Run(start, seed, round=0)
        rounds = tuple(enumerate(study.budgets, 1))
        for schedule, strategy, (number, budget) in itertools.product(study.schedules, study.strategies, rounds):
            yield Run(start, seed, strategy, schedule, budget, number)
        if study.full:
            yield Run(start, seed, ALL, SINGLE, None, len(study.budgets))
