"""`python -m alapp models`: the foundation models on this computer."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from alapp.errors import InputError

models = typer.Typer(help="Foundation models: what is on this computer, licences and weights.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="Name of the model; `models list` shows them.")]


@models.command("list")
def list_models(
    thorough: Annotated[bool, typer.Option("--check", help="Read every file and compare its hash.")] = False,
) -> None:
    """Every model with its state, size and licence."""
    from alapp.stages.foundation import states
    from alapp.stages.foundation.catalogue import MODELS

    for model in MODELS.values():
        status = states.status(model, thorough=thorough)
        print(f"{model.name:22} {status.state:20} {states.size_text(model.size):>7}  {model.title}. {model.suits}")
        print(f"{'':22} {model.licence}")
        if not status.ready:
            print(f"{'':22} {status.detail} {status.remedy}")


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
