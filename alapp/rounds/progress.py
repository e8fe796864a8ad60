"""Where the project stands and what comes next: a query over what exists, never a flag."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from alapp.domain import ImageRole, LabelKind
from alapp.rounds.annotate import annotation
from alapp.rounds.pseudolabel import pseudo
from alapp.storage import catalogue, labels, models, verdicts
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Project
from alapp.storage.db import Store
from alapp.storage.rounds import Round

IMPORT = "Import your images"
"""The words of the first step, which goes to a place on its tab."""


class StepState(StrEnum):
    """State of a step on the rail."""

    DONE = "done"
    CURRENT = "current"
    AHEAD = "ahead"
    OFF = "off"


@dataclass(frozen=True)
class Step:
    """One step on the rail, e.g. ("Images", done, "24")."""

    title: str
    state: StepState
    detail: str = ""


@dataclass(frozen=True)
class NextStep:
    """What the user should do now: the words on the button, the tab it goes to, and the job it starts there
    (a kind of `jobs.KINDS`), if any."""

    text: str
    tab: str
    job: str | None = None
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """Progress of the newest round."""

    round: Round
    total: int
    closed: int
    trained: bool

    @property
    def left(self) -> int:
        """How many patches are neither done nor skipped."""
        return self.total - self.closed


@dataclass(frozen=True)
class Progress:
    """The project's state, for the header of every page."""

    project: Project
    steps: tuple[Step, ...]
    next: NextStep
    batch: Batch | None


def progress(store: Store, project_id: int) -> Progress:
    """The state of a project. Cheap enough to ask once a second."""
    project = catalogue.project(store, project_id)
    images = catalogue.images(store, project_id, ImageRole.TRAIN)
    labelled = labels.latest_by_image(store, project_id, LabelKind.PSEUDO) if images else {}
    # A training that was stopped before its model was scored and judged is not finished.
    judged = verdicts.judged(store, project_id)
    checkpoints = [item for item in models.checkpoints(store, project_id) if item.id in judged]
    batch = current_batch(store, project_id, {item.round_id for item in checkpoints})
    pseudo_left = len(images) - len([image for image in images if image.id in labelled])
    facts = _Facts(
        project=project,
        n_images=len(images),
        pseudo_left=pseudo_left,
        pretrained=any(item.round_id is None for item in checkpoints),
        trained=bool(checkpoints),
        batch=batch,
        unpicked=catalogue.any_patch(store, project_id, unpicked=True),
    )
    return Progress(project, facts.steps(), facts.next(), batch)


def current_batch(store: Store, project_id: int, trained_rounds: set[int | None]) -> Batch | None:
    """Progress of the newest round, or None before the first."""
    latest = round_rows.latest(store, project_id)
    if latest is None:
        return None
    picks = [item.patch_id for item in round_rows.selected(store, latest.id)]
    states = annotation.patch_states(store, picks)
    closed = sum(states.get(patch_id) in (annotation.DONE, annotation.SKIPPED) for patch_id in picks)
    return Batch(latest, len(picks), closed, latest.id in trained_rounds)


@dataclass(frozen=True)
class _Facts:
    project: Project
    n_images: int
    pseudo_left: int
    pretrained: bool
    trained: bool
    batch: Batch | None
    unpicked: bool

    @property
    def pseudo_off(self) -> bool:
        return self.project.pseudo_method == pseudo.NONE

    @property
    def _pseudo_done(self) -> bool:
        """Once a network has learned, images that came later may still lack theirs."""
        chosen = self.n_images > 0 and self.project.pseudo_method is not None
        return chosen and (self.trained or self.pseudo_left == 0)

    @property
    def _open_batch(self) -> bool:
        return self.batch is not None and self.batch.left > 0

    def next(self) -> NextStep:
        """The first thing that is missing."""
        if self.n_images == 0:
            if self.project.sample:
                return NextStep("Copy the sample images", "project", "sample", {"sample": self.project.sample})
            return NextStep(IMPORT, "project")
        if self._open_batch:  # first of all, as no other batch can be selected before it is finished
            return NextStep(f"Annotate the next patch ({self.batch.left} left)", "annotate")
        if self.project.pseudo_method is None:
            return NextStep("Choose the pseudo-labels", "pseudo")
        if not self.pseudo_off and not self.trained:
            return NextStep("Pre-train on the pseudo-labels", "train", "pretrain")
        if self.batch is None:
            return NextStep("Select the first batch", "rounds")
        if not self.batch.trained and self.batch.total:  # none are left when their images were removed
            this = self.batch.round
            return NextStep(f"Train round {this.number}", "train", "train", {"round_id": this.id})
        if not self.unpicked:
            return NextStep("No patch is left: see the results", "results")
        return NextStep(f"Select the batch of round {self.batch.round.number + 1}", "rounds")

    def steps(self) -> tuple[Step, ...]:
        """The rail. The current step is the round whose batch is open, else the first one that is neither done nor
        off."""
        rail = [
            ("Images", self.n_images > 0, str(self.n_images) if self.n_images else ""),
            ("Pseudo-labels", self._pseudo_done, self._pseudo_detail()),
            ("Pre-trained", self.pretrained, "off" if self.pseudo_off else ""),
        ]
        batch = self.batch
        if batch is None:
            rail += [("Round 1", False, ""), ("Train", False, ""), ("Results", self.trained, "")]
        else:
            annotated = f"{batch.closed}/{batch.total} annotated"
            rail += [
                (f"Round {batch.round.number}", batch.left == 0, annotated),
                ("Train", batch.trained, ""),
                ("Results", batch.trained, ""),
            ]
        return tuple(self._mark(rail))

    def _mark(self, rail: list[tuple[str, bool, str]]) -> list[Step]:
        missing = [title for title, done, detail in rail if not done and detail != "off"]
        current = f"Round {self.batch.round.number}" if self._open_batch else next(iter(missing), None)
        steps = []
        for title, done, detail in rail:
            if detail == "off":
                state = StepState.OFF
            elif done:
                state = StepState.DONE
            else:
                state = StepState.CURRENT if title == current else StepState.AHEAD
            steps.append(Step(title, state, detail))
        return steps

    def _pseudo_detail(self) -> str:
        if self.n_images == 0 or self.project.pseudo_method is None:
            return ""
        if self.pseudo_off:
            return "off"
        return f"{self.n_images - self.pseudo_left}/{self.n_images}" if self.pseudo_left else ""
