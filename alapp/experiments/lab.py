"""What the runs of an experiment share: pseudo-labels, the network's plan, embeddings.

Everything is a file in the experiment's folder that is made once, by whichever process needs it first.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from filelock import FileLock

from alapp.disk import patiently
from alapp.domain import Report
from alapp.environment import machine
from alapp.errors import NotReadyError
from alapp.experiments import corruption, manifest
from alapp.experiments.sources import Images
from alapp.experiments.study import NONE, Run, Study
from alapp.rounds.timing import content_hash
from alapp.rounds.train import plan_in_use
from alapp.stages.embed.base import EMBEDDERS
from alapp.stages.pseudolabel.base import PSEUDO_LABELLERS, choose_automatically
from alapp.stages.train.base import NETWORK, TRAINERS, Case
from alapp.stages.train.workspace import Layout
from alapp.storage.db import Store


def plan_of(model: Path) -> Path:
    """Where the plan of a model lies that was kept."""
    return model.with_suffix(".json")


def _name(run: Run) -> str:
    return content_hash(run.key)[:16]


class Lab:
    """The shared files of one study, in `folder`. `store` has the project whose images it is about, if any."""

    def __init__(self, folder: Path, study: Study, store: Store | None = None):
        self.folder = folder
        self.store = store
        self.study = study
        # Not timed: how busy the computer is must not decide how long one study trains and not another.
        self.network = TRAINERS.create(NETWORK, timing=None)
        # For what strategies ask about every patch, where flips would cost four times the time.
        self.scout = TRAINERS.create(NETWORK, mirroring=False, timing=None, overlap=0.0)
        folder.mkdir(parents=True, exist_ok=True)

    @cached_property
    def images(self) -> Images:
        """The labelled images. Raises `InputError` where they are not those that the experiment began with."""
        return manifest.settled(self.folder, self.study.source, self.store)

    def pseudo(self, start: str, seed: int, report: Report) -> list[np.ndarray]:
        """Instance maps of the training images to pre-train on, int32 (Y, X) or (Z, Y, X). Corruption differs by
        seed."""
        method, name, strength = corruption.parse(start)
        known = self._labels_by(method, report)
        if name is None:
            return known
        rngs = (np.random.default_rng([seed, 70, number]) for number in range(len(known)))
        return [corruption.CORRUPTIONS[name](labels, strength, rng) for labels, rng in zip(known, rngs, strict=True)]

    def method(self, start: str) -> str:
        """The pseudo-label method behind a start. What `auto` stands for is settled when it is first needed: weights
        that are downloaded later must not change what half of the runs start from."""
        name = corruption.parse(start)[0]
        if name != "auto":
            return name

        def choose(path: Path) -> None:
            path.write_text(choose_automatically(self.study.source.modality)[0], encoding="utf-8")

        return self._made("auto.txt", choose).read_text(encoding="utf-8")

    def _labels_by(self, method: str, report: Report) -> list[np.ndarray]:
        images = self.images.train
        if method == corruption.REFERENCE:
            return [image.labels for image in images]
        name = self.method(method)

        def make(path: Path) -> None:
            backend = PSEUDO_LABELLERS.create(name, modality=self.study.source.modality)
            made = {}
            for number, image in enumerate(images):
                report(number, len(images), f"Pseudo-labels of {image.name}")
                made[str(number)] = backend.label(image.pixels, {})
            with open(path, "wb") as handle:
                np.savez_compressed(handle, **made)

        with np.load(self._made(f"pseudo-{name}.npz", make)) as stored:
            return [stored[str(number)] for number in range(len(images))]

    def embeddings(self, seed: int, report: Report) -> np.ndarray:
        """float32 (N, D): one row a patch."""

        def make(path: Path) -> None:
            embedder = EMBEDDERS.create(self.study.embedder, seed=seed)
            pixels = [self.images.pixels(patch) for patch in self.images.patches]
            embedder.fit(pixels, report)
            with open(path, "wb") as handle:
                np.save(handle, embedder.embed(pixels, report))

        return np.load(self._made(f"embeddings-{self.study.embedder}-{seed}.npy", make))

    def workspace(self, run: Run, start: Path | None, report: Report) -> Path:
        """A folder for the network of one run, planned as the model `start` was that it goes on from. All others are
        planned on the pseudo-labels that `auto` makes, as a project is, or on those of the first start where they show
        nothing."""

        def make(path: Path) -> None:
            for start in ("auto", *self.study.starts, corruption.REFERENCE):
                if start != NONE and (cases := self.cases(self.pseudo(start, 0, report), "pl")):
                    self.network.plan(path, cases, self.study.preset, machine(), report)
                    return
            raise NotReadyError("The labels have no object at all, so there is nothing to learn.")

        planned = self._made("plan", make)
        own = self.folder / "runs" / _name(run)
        if not own.exists():
            # A workspace of its own: runs in several processes would preprocess the same cases at the same time.
            partial = own.with_name(f".tmp-{own.name}-{os.getpid()}")
            shutil.copytree(planned, partial, dirs_exist_ok=True)
            if start is not None and plan_of(start).is_file():
                shutil.copyfile(plan_of(start), Layout(partial).plan)
            patiently(os.replace, partial, own)
        return own

    def fitted(self, workspace: Path, cases: Sequence[Case], before: Sequence[Case], report: Report) -> Path:
        """`workspace`, or another one where the objects of `cases` ask for another plan, once; `before` are those of
        the smaller budget. See `rounds.train.plan_in_use`."""
        first, here = (Layout(folder).plan for folder in (self.folder / "plan", workspace))
        made_anew = first.is_file() and first.read_bytes() != here.read_bytes()
        if not (self.study.replan and cases) or made_anew:
            return workspace
        if not plan_in_use.ask_for_another(workspace, cases, before):
            return workspace
        anew = workspace.with_name(f"{workspace.name}-anew")
        self.network.plan(anew, cases, self.study.preset, machine(), report)
        return anew

    def keep(self, run: Run, workspace: Path, checkpoint: Path) -> Path:
        """The model and its plan, copied out of the run's workspaces; see `clear`."""
        folder = self.folder / "models"
        folder.mkdir(exist_ok=True)
        kept = folder / f"{_name(run)}.pth"
        for source, target in ((Layout(workspace).plan, plan_of(kept)), (checkpoint, kept)):
            if source.is_file():
                shutil.copyfile(source, target.with_suffix(".partial"))
                target.with_suffix(".partial").replace(target)
        return kept

    def clear(self, run: Run) -> None:
        """Remove the run's workspaces: preprocessed patches would fill the disk."""
        for left in self.folder.glob(f"runs/{_name(run)}*"):
            shutil.rmtree(left, ignore_errors=True)

    @property
    def iterations(self) -> tuple[int, int]:
        """Of pre-training and of a round; the workspace must be planned."""
        if self.study.iterations:
            return self.study.iterations, self.study.iterations
        summary = self.network.plan(self.folder / "plan", (), self.study.preset, machine(), lambda *_: None)
        return summary.iterations["pretrain"], summary.iterations["round"]

    def cases(self, labels: Iterable[np.ndarray], prefix: str, rows: Iterable[int] | None = None) -> list[Case]:
        """Training cases of the patches in `rows` (all) with instance maps of the images; none without an object.
        `prefix` with the maps must name the labels uniquely in a workspace."""
        maps = list(labels)
        patches = self.images.patches
        chosen = range(len(patches)) if rows is None else rows
        found = []
        for row in chosen:
            patch = patches[row]
            found.append(
                Case(
                    f"{prefix}_{row}", "1", lambda p=patch: (self.images.pixels(p), p.of(maps[p.image])),
                    self.images.voxel_size,
                )
            )  # fmt: skip
        return found if any(patches[row].of(maps[patches[row].image]).any() for row in chosen) else []

    def _made(self, name: str, make: Callable[[Path], None]) -> Path:
        """The file or folder `name`, made by `make(path)` under a temporary name unless it is there."""
        path = self.folder / name
        with FileLock(self.folder / f".{name}.lock"):
            if not path.exists():
                partial = self.folder / f".tmp-{name}"
                shutil.rmtree(partial, ignore_errors=True)
                make(partial)
                patiently(os.replace, partial, path)
        return path
