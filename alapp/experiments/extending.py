"""Which runs an experiment can take up: what is averaged or compared must have been trained alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from alapp.errors import InputError
from alapp.experiments import wording
from alapp.experiments.study import ALL, CHAIN, Run, Study
from alapp.wording import counted

REMEDY = "Repeat its budgets (larger ones may follow), or define another experiment."
Listed = Sequence[Mapping[str, Any]]
"""Runs as `storage.experiments.add` takes them: `key`, `after`, `run`."""


@dataclass(frozen=True)
class _Training:
    """What runs have in common that differ by their seeds only: a training of so many `rounds`, with `chain` (round
    after round) the budgets up to their own."""

    start: str
    schedule: str
    strategy: str
    budget: float | None
    rounds: int
    chain: tuple[float, ...]


def check(study: Study, known: Listed, more: Study, added: Listed) -> None:
    """Raises `InputError` where runs that `more` lists would be averaged or compared with `known` ones of `study` that
    are trained after other budgets, or for another number of rounds.

    Training on every patch that is there stays as long as it is, whatever budgets come.
    """
    keys = {each["key"] for each in known}
    new = [each for each in added if each["run"]["strategy"] != ALL or each["key"] not in keys]
    for here, there in product(_trainings(known, study), _trainings(new, more)):
        _refuse_mixed(here, there, more)


def _trainings(listed: Listed, study: Study) -> list[_Training]:
    """Of each condition once, long chains first, as they tell most."""
    chains: dict[str, tuple[float, ...]] = {}
    found = {}
    for each in listed:  # a run stands after the one that it starts from
        run = Run(**each["run"])
        chain = (*chains.get(each["after"], ()), run.budget) if run.schedule == CHAIN else ()
        chains[run.key] = chain
        rounds = len(chain) or run.round_in(study)
        found[_Training(run.start, run.schedule, run.strategy, run.budget, rounds, chain)] = None
    return sorted(found, key=lambda training: -len(training.chain))


def _refuse_mixed(here: _Training, there: _Training, more: Study) -> None:
    if ALL in (here.strategy, there.strategy):
        if here.strategy == there.strategy and here.start == there.start and here.rounds != there.rounds:
            raise InputError(
                f"Training on every patch takes as long as {counted(here.rounds, 'round')} in this experiment, and as "
                f"long as {there.rounds} with the budgets {_budgets(more.budgets)}, so that repetitions of both could "
                "not be averaged. Add them without it (--no-full), or define another experiment."
            )
        return
    same_budget = here.budget == there.budget
    same_way = (here.start, here.schedule, here.strategy) == (there.start, there.schedule, there.strategy)
    if here.chain and there.chain and (same_budget or same_way):
        if any(one != other for one, other in zip(here.chain, there.chain, strict=False)):
            raise InputError(
                f"Round after round, this experiment trains with the budgets {_budgets(here.chain)}; with "
                f"{_budgets(more.budgets)} the rounds would be others, which could not be compared. {REMEDY}"
            )
    elif same_budget and here.rounds != there.rounds:
        raise InputError(
            f"The budget {wording.budget(here.budget)} is trained as long as {counted(here.rounds, 'round')} in this "
            f"experiment, and as long as {there.rounds} with the budgets {_budgets(more.budgets)}, which could not be "
            f"compared. {REMEDY}"
        )


def _budgets(values: Iterable[float]) -> str:
    return ", ".join(map(wording.budget, values))
