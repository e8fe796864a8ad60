"""What a study will take, before it starts: is the data as it must be, how many runs, about how long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from alapp.domain import ImageRole, Machine
from alapp.environment import machine
from alapp.errors import InputError, NotReadyError
from alapp.experiments import sources
from alapp.experiments.runs import Result, count
from alapp.experiments.study import CHAIN, NONE, Run, Source, Study, runs
from alapp.rounds.simulate import pairs
from alapp.stages import images as image_files
from alapp.stages import sample
from alapp.stages.train.plan_time import TARGET_SECONDS, USUAL
from alapp.storage import experiments as rows
from alapp.storage.db import Store
from alapp.storage.experiments import RunState
from alapp.wording import counted

MEMORY_GB = 6.0
"""Memory that is set aside for each training."""


@dataclass(frozen=True)
class Survey:
    """What a source has: images to train on and to test on, patches that can be selected; `is_3d` for stacks."""

    train: int
    test: int
    patches: int
    is_3d: bool


@dataclass(frozen=True)
class Outlook:
    """`study` as it will be carried out, `survey` of its images, `iterations` of all its `runs` together, `seconds` of
    training (None where nothing is known), whether that was `measured` here, and `left_out`: what was changed, in
    words."""

    study: Study
    survey: Survey
    runs: int
    iterations: int
    seconds: float | None
    measured: bool
    left_out: str = ""

    @property
    def told(self) -> str:
        """All of it in words."""
        seen = self.survey
        images = f"{counted(seen.train, 'image')} with {counted(seen.patches, 'patch', 'patches')} to choose from"
        runs = f"{counted(self.runs, 'run')} on {images}, tested on {counted(seen.test, 'image')}."
        return " ".join(part for part in (runs, self.left_out, self._time()) if part)

    def _time(self) -> str:
        if self.seconds is None:
            return "How long it takes is known after the first run."
        minutes = self.seconds / 60
        spell = counted(max(1, round(minutes)), "minute") if minutes < 90 else f"{minutes / 60:.1f} hours"
        if self.measured:
            return f"About {spell} of training, as fast as the last runs on this computer; testing comes on top."
        return f"Roughly {spell} of training, guessed from what is usual; after the first run it is known better."


def look_ahead(store: Store, study: Study) -> Outlook:
    """Check the images of a study by what their files say, without reading pixels, and reckon what it takes.

    Budgets of as many patches as there are, or more, are left out, for every patch is trained on anyway. Raises
    `InputError` where images and labels do not match or no budget is left.
    """
    seen = survey(store, study.source)
    kept = fitting(study.budgets, seen.patches)
    gone = [each for each in study.budgets if each not in kept]
    if not kept:
        raise InputError(
            f"The images give only {counted(seen.patches, 'patch', 'patches')} to choose from, so a budget of "
            f"{study.budgets[0]:g} leaves no choice. Choose smaller budgets or smaller patches."
        )
    left_out = ""
    if gone:
        names = ", ".join(f"{each:g}" for each in gone)
        left_out = f"Left out: {names}, because it is no more than another budget or all {seen.patches} patches."
    study = replace(study, budgets=kept)
    listed = list(runs(study))
    iterations = sum(_iterations(study, each, machine()) for each in listed)
    per, measured = pace(store, study, seen.is_3d)
    return Outlook(study, seen, len(listed), iterations, None if per is None else per * iterations, measured, left_out)


def fitting(budgets: tuple[float, ...], patches: int) -> tuple[float, ...]:
    """The budgets that leave a choice among `patches` and differ from each other."""
    numbers = {}
    for each in budgets:
        numbers.setdefault(count(each, patches), each)
    return tuple(each for number, each in numbers.items() if number < patches)


def survey(store: Store, source: Source) -> Survey:
    """What a source has. Raises `InputError` where images and labels do not match."""
    test: list[tuple[int, ...]] = []
    if source.sample is not None:
        known = list(_shapes_of_sample(source))
    elif source.project is not None:
        known, test = (
            [image.shape[:3] if image.is_3d else image.shape[1:3] for image in
             sources.labelled_images(store, source.project, role)]
            for role in (ImageRole.TRAIN, ImageRole.TEST)
        )  # fmt: skip
        if not known:
            raise NotReadyError("The project has no images with reference masks. Choose other images.")
    else:
        known = list(_shapes(Path(source.images), Path(source.labels)))
    if source.test_images is not None and source.test_labels is not None:
        test = list(_shapes(Path(source.test_images), Path(source.test_labels)))
    train, test = sources.divide(source, known, test)
    patches = sum(len(sources.boxes(source, shape)) for shape in train)
    return Survey(len(train), len(test), patches, any(len(shape) == 3 for shape in train))


def pace(store: Store, study: Study, is_3d: bool) -> tuple[float | None, bool]:
    """(seconds of an iteration, whether they were measured): as in the newest runs like these on this computer, else
    what is usual on a CPU, else None."""
    for item in reversed(rows.every(store)):
        known = Study.of(item.study)
        if known.preset is not study.preset or (known.source.depth > 1) is not (study.source.depth > 1 and is_3d):
            continue
        found = [
            result.seconds / result.iterations
            for run in rows.runs(store, item.id)
            if run.state is RunState.DONE and run.result is not None
            and (result := Result.of(run.result)).iterations and not result.elsewhere
        ]  # fmt: skip
        if found:
            return float(np.median(found)), True
    if machine().device != "cpu":
        return None, False
    return TARGET_SECONDS[study.preset]["round"] / USUAL["cpu", study.preset]["round"], False


def processes() -> int:
    """How many runs this computer can carry out at the same time: one a GPU, else one for two cores and as memory
    allows."""
    here = machine()
    return 1 if here.device != "cpu" else max(1, min(here.cores // 2, int(here.ram_gb // MEMORY_GB)))


def _iterations(study: Study, run: Run, here: Machine) -> int:
    usual = USUAL[here.device, study.preset]
    if run.budget == 0:
        return 0 if run.start == NONE else study.iterations or usual["pretrain"]
    each = study.iterations or usual["round"]
    return each if run.schedule == CHAIN else each * run.round_in(study)


def _shapes_of_sample(source: Source) -> Iterator[tuple[int, ...]]:
    info = sample.SAMPLES[source.sample]
    number = min(source.frames, sample.frames_of(source.sample)) if source.frames else len(info.frames)
    # The frames of a sequence are of one size.
    _, _, reference, _ = next(sample.load_frames(source.sample, info.frames[:1]))
    return (reference.shape for _ in range(number))


def _shapes(images: Path, labels: Path) -> Iterator[tuple[int, ...]]:
    """Sizes (Y, X) or (Z, Y, X). Raises `InputError` where an image and its labels have different ones."""
    for folder, what in ((images, "images"), (labels, "labels")):
        if not folder.is_dir():
            raise InputError(f"There is no folder {folder} with {what} on this computer. Check the path.")
    for path, answer in pairs(images, labels):
        size, other = _size(path), _size(answer)
        if size != other:
            raise InputError(f"{path.name} and its labels have different sizes: {size}, {other}.")
        yield size


def _size(path: Path) -> tuple[int, ...]:
    info = image_files.inspect(path)
    sizes = {axis: n for axis, n in zip(info.axes, info.shape, strict=True) if axis not in "CS"}
    plane = (sizes.pop("Y"), sizes.pop("X"))
    deep = int(np.prod(list(sizes.values()), dtype=np.int64)) if sizes else 1
    return (deep, *plane) if deep > 1 else plane
