"""`python -m alapp models`."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from alapp.cli import app
from alapp.errors import InputError
from alapp.stages.foundation import access
from alapp.stages.foundation.catalogue import MODELS

SECRET = "s3cret-Token.of_a-user"


def run(*arguments: str, given: str = "") -> str:
    done = CliRunner().invoke(app, ["models", *arguments], input=given)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_every_model_is_listed_with_state_and_licence() -> None:
    output = run("list")
    for model in MODELS.values():
        assert model.name in output
        assert model.licence in output


def test_a_licence_is_accepted_only_on_a_yes() -> None:
    with pytest.raises(InputError, match="nothing was changed"):
        run("accept", "cellsam_v1.2", given="n\n")
    assert not access.accepted("cellsam_v1.2")
    assert "academic" in run("accept", "cellsam_v1.2", given="y\n")
    assert access.accepted("cellsam_v1.2")
    assert "needs no consent" in run("accept", "vit_b_lm")


def test_the_token_is_stored_and_forgotten_without_being_shown() -> None:
    output = run("token", given=f"{SECRET}\n")
    assert access.token() == SECRET
    assert SECRET not in output
    run("token", "--forget")
    assert not access.has_token()
    with pytest.raises(InputError, match=r"users\.deepcell\.org"):
        run("token", given="\n")
