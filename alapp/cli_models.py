"""`python -m alapp models`: the foundation models on this computer, their weights and licences."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from alapp.console import printer
from alapp.domain import Modality
from alapp.errors import InputError

models = typer.Typer(help="Foundation models: what is on this computer, licences and weights.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="Name of the model; `models list` shows them.")]


@models.command("list")
def list_models(
    thorough: Annotated[bool, typer.Option("--check", help="Read every file and compare its hash.")] = False,
) -> None:
    """Every model with its state, size and licence."""
    from alapp.stages.foundation import own, speeds, states
    from alapp.stages.foundation.catalogue import MODELS

    for mine in own.checkpoints():
        print(f"{mine.name:22} {'your own':20} {states.size_text(mine.size):>7}  {mine.architecture}, {mine.source}")
    for model in MODELS.values():
        status = states.status(model, thorough=thorough)
        print(f"{model.name:22} {status.state:20} {states.size_text(model.size):>7}  {model.title}. {model.suits}")
        print(f"{'':22} {model.licence}")
        if not status.ready:
            print(f"{'':22} {status.detail} {status.remedy}")
        if speed := speeds.measured(model.name):
            print(f"{'':22} Measured here: {speed.text()}.")


@models.command()
def download(name: NameArgument) -> None:
    """Fetch the weights of a published model, check them and put them in place. Ctrl+C cancels."""
    from alapp.stages.foundation import catalogue
    from alapp.stages.foundation import download as fetching

    model = catalogue.model(name)
    print(f"{model.title}: {model.licence}", file=sys.stderr)
    fetching.fetch(model, printer())
    print(f"{name} is in {model.folder}.")


@models.command("import")
def import_own(
    file: Annotated[Path, typer.Argument(help="A checkpoint of Segment Anything, or one that micro_sam trained.")],
    name: Annotated[str | None, typer.Option(help="Its name; by default that of the file.")] = None,
    modality: Annotated[Modality | None, typer.Option(help="The images it is for; by default any.")] = None,
) -> None:
    """Import a micro_sam checkpoint of your own. No code that the file may hold is run."""
    from alapp.stages.foundation import own

    made = own.import_file(file, name, modality, printer())
    print(f"{file.name} is a model of type {made.architecture}; it is here now as {made.name!r}.")


@models.command()
def add(
    files: Annotated[list[Path], typer.Argument(help="Published weights, copied from another computer.")],
) -> None:
    """Put published weights that you bring from another computer in their place; they are known by their hash."""
    from alapp.stages.foundation import adopt

    for file in files:
        model, _ = adopt.adopt(file, printer())
        print(f"{file.name} belongs to {model.title} ({model.name}); it is in {model.folder} now.")


@models.command()
def remove(
    name: NameArgument,
    undo: Annotated[bool, typer.Option("--undo", help="Bring back what was removed.")] = False,
) -> None:
    """Remove the weights of a model. Until the app starts anew, --undo brings them back."""
    from alapp.rounds.pseudolabel import foundation

    print(foundation.undo_removal(name) if undo else foundation.remove(name))


@models.command()
def accept(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Accept the licence of a model that asks for it."""
    from alapp.stages.foundation import access, catalogue

    model = catalogue.model(name)
    if not model.terms:
        print(f"{name} needs no consent. {model.licence}")
        return
    print(model.licence)
    if not yes and not typer.confirm("Is your use academic and non-commercial, and do you accept the licence?"):
        raise InputError(f"The licence of {name} was not accepted; nothing was changed.")
    access.accept(name)
    print(f"The licence of {name} is accepted on this computer.")


@models.command()
def token(
    forget: Annotated[bool, typer.Option("--forget", help="Remove the stored token.")] = False,
) -> None:
    """Store DeepCell's access token, which CellSAM's download needs; asked for, or read from standard input."""
    from alapp.stages.foundation import access

    if forget:
        access.store_token("")
        print("The token is removed from this computer.")
        return
    # Never an argument of the command: those are seen by everybody on this computer, and kept in the shell's history.
    text = typer.prompt("Token", hide_input=True) if sys.stdin.isatty() else sys.stdin.readline()
    if not text.strip():
        raise InputError("No token was given. Get one at https://users.deepcell.org.")
    access.store_token(text)
    print("The token is stored; only you can read it.")
