"""`python -m alapp experiment`: strategies, starts and budgets compared on images whose labels are known."""

from __future__ import annotations

import string
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from alapp.cli_state import ExistingStateOption, StateOption
from alapp.console import printer
from alapp.domain import Modality, Preset
from alapp.errors import InputError, NotReadyError
from alapp.wording import counted, is_or_are

experiment = typer.Typer(
    help="Compare strategies, starts and budgets on images whose labels are known.", no_args_is_help=True
)

NameArgument = Annotated[str, typer.Argument(help="Name of the experiment.")]


@experiment.command()
def create(
    name: NameArgument,
    sample: Annotated[str | None, typer.Option(help="hela, bacteria or cho, instead of folders.")] = None,
    project: Annotated[str | None, typer.Option(help="Name or number of a project with reference masks.")] = None,
    frames: Annotated[
        int | None, typer.Option(min=2, help="Images of the sample; by default as in its project.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of images.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Folder of instance maps with the same file stems.")] = None,
    test_images: Annotated[Path | None, typer.Option(help="Folder of test images; by default the last ones.")] = None,
    test_labels: Annotated[Path | None, typer.Option(help="Folder of their instance maps.")] = None,
    test_share: Annotated[float, typer.Option(help="Share of the images to test on, without test folders.")] = 0.25,
    modality: Annotated[Modality, typer.Option(help="How the images were made.")] = Modality.LIGHT,
    patch: Annotated[int, typer.Option(help="Patch size in pixels, of folders.")] = 256,
    depth: Annotated[int, typer.Option(min=1, help="Patch depth in slices, for stacks in folders.")] = 1,
    budgets: Annotated[
        str, typer.Option(help="Patches to label: numbers, or shares like 6.25%; separated by commas.")
    ] = "16,32,64,128",
    strategies: Annotated[str, typer.Option(help="Strategies, separated by commas.")] = "auto,coreset,random",
    starts: Annotated[
        str,
        typer.Option(
            help="Labels to pre-train on, separated by commas: auto, a method, reference, none; corrupted by "
            ":drop=SHARE, :merge=SHARE, :wrong=SHARE or :shift=DIAMETERS."
        ),
    ] = "auto",
    schedules: Annotated[
        str, typer.Option(help="chain (round after round) or single (all at once), or both.")
    ] = "chain",
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds.")] = 3,
    full: Annotated[bool, typer.Option("--full/--no-full", help="Also train on every patch.")] = True,
    preset: Annotated[Preset, typer.Option(help="How long a round trains.")] = Preset.QUICK,
    iterations: Annotated[int | None, typer.Option(min=1, help="Iterations of a round instead of the plan's.")] = None,
    embedder: Annotated[str, typer.Option(help="What patches are compared by.")] = "mae",
    add: Annotated[bool, typer.Option("--add", help="Add to the experiment of this name what it lacks.")] = False,
    state: StateOption = None,
) -> None:
    """Define an experiment; `run` carries it out."""
    from alapp.experiments import control, sources, wording
    from alapp.experiments.study import Source, Study
    from alapp.storage import catalogue
    from alapp.storage.db import Store

    folders = any(folder is not None for folder in (images, labels, test_images, test_labels))
    if (sample is not None) + (project is not None) + folders > 1:
        raise InputError("Give a sample, a project or folders, not several of them: what is compared must be plain.")
    store = Store(state)
    if sample is not None:
        source = replace(sources.of_sample(sample, frames), test_share=test_share)
    elif project is not None:
        found = catalogue.project_called(store, project).id
        source = replace(sources.of_project(store, found), test_share=test_share)
    else:
        source = Source(
            images=_text(images), labels=_text(labels), test_images=_text(test_images),
            test_labels=_text(test_labels), test_share=test_share, modality=modality, patch=patch, depth=depth,
        )  # fmt: skip
    study = Study(
        source=source, budgets=wording.budgets_of(budgets), strategies=_parts(strategies),
        starts=_parts(starts), schedules=_parts(schedules), seeds=tuple(range(seeds)), full=full, preset=preset,
        iterations=iterations, embedder=embedder,
    )  # fmt: skip
    if add:
        count, ahead = control.extend(store, name, study)
        print(f"{counted(count, 'run')} {'was' if count == 1 else 'were'} added to {name!r}. {ahead.left_out}".rstrip())
    else:
        made, ahead = control.define(store, name, study)
        print(f"{made.name!r} has {ahead.told} Carry it out with: experiment run {_argument(made.name)}")


@experiment.command()
def run(
    name: NameArgument,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the cores.")] = 1,
    retry: Annotated[bool, typer.Option("--retry", help="Also what failed before.")] = False,
    state: ExistingStateOption = None,
) -> None:
    """Carry out what is not done yet. May be interrupted and started again at any time."""
    from alapp.experiments import runner
    from alapp.storage import experiments
    from alapp.storage.db import Store

    store = Store(state)
    found = experiments.by_name(store, name)
    if retry:
        experiments.retry(store, found.id)
    made = runner.run(store, found.id, printer(), workers)
    failed = f", {made['failed']} failed" if made["failed"] else ""
    print(f"{counted(made['done'], 'run')} {is_or_are(made['done'])} done{failed}.")
    for item in experiments.runs(store, found.id):
        if item.error:
            print(f"{item.key}: {item.error}")
    if made["failed"]:
        raise typer.Exit(1)


@experiment.command()
def report(name: NameArgument, state: ExistingStateOption = None) -> None:
    """Print what the finished runs show: a table, and in words what differs."""
    from alapp.experiments import curves, findings
    from alapp.storage import experiments
    from alapp.storage.db import Store

    store = Store(state)
    known = experiments.runs(store, experiments.by_name(store, name).id)
    lines = findings.lines(known)
    if not lines:
        raise NotReadyError(f"No run of {name!r} is done yet. Carry it out with: experiment run {_argument(name)}")
    print(findings.as_text(lines))
    for each in curves.contrasts(lines):
        print(each.told)


@experiment.command()
def export(
    name: NameArgument,
    what: Annotated[str, typer.Argument(help="csv, json or png.")] = "csv",
    out: Annotated[Path | None, typer.Option(help="The file; by default in the experiment's folder.")] = None,
    state: ExistingStateOption = None,
) -> None:
    """Write the table (csv), everything (json) or the figure (png) of what is finished."""
    from alapp.experiments import export as exporting
    from alapp.storage import experiments
    from alapp.storage.db import Store

    store = Store(state)
    print(exporting.export(store, experiments.by_name(store, name), what, out))


@experiment.command()
def remove(name: NameArgument, state: ExistingStateOption = None) -> None:
    """Delete an experiment with its results and models; `undo` brings back the one that was deleted last."""
    from alapp.experiments import control
    from alapp.storage import experiments
    from alapp.storage.db import Store

    store = Store(state)
    control.remove(store, experiments.by_name(store, name).id)
    print(f"{name!r} was deleted. Bring it back with: experiment undo")


@experiment.command()
def undo(state: ExistingStateOption = None) -> None:
    """Bring back the experiment that was deleted last."""
    from alapp.experiments import control
    from alapp.storage.db import Store

    print(f"{control.undo_removal(Store(state)).name!r} is back.")


@experiment.command("list")
def list_experiments(state: ExistingStateOption = None) -> None:
    """Every experiment, and how much of it is done."""
    from alapp.storage import experiments
    from alapp.storage.db import Store
    from alapp.storage.experiments import RunState

    store = Store(state)
    for item in experiments.every(store):
        known = experiments.runs(store, item.id)
        done = sum(run.state is RunState.DONE for run in known)
        print(f"{item.name}: {done} of {counted(len(known), 'run')} {is_or_are(len(known))} done")


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.expanduser().resolve())


def _parts(text: str) -> tuple[str, ...]:
    """What commas separate, each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _argument(name: str) -> str:
    """A name as it is typed on any system's command line."""
    return f'"{name}"' if set(name) - set(string.ascii_letters + string.digits + "._-") else name
