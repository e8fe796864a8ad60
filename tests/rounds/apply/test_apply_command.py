"""`predict` on the command line."""

from __future__ import annotations

import shutil

from typer.testing import CliRunner

from alapp.cli import app


def predict(store, folder):
    done = CliRunner().invoke(app, ["predict", "discs", str(folder), "--state", str(store.root)])
    return done.exit_code, done.output


def test_a_script_hears_of_files_that_could_not_be_used(store, trained, folder):
    code, text = predict(store, folder)
    assert code == 0
    assert "a.tif: 12 objects" in text
    (folder / "broken.tif").write_bytes(b"no image")
    code, text = predict(store, folder)
    assert code == 1
    assert "b.tif" in text
    assert "broken.tif: broken.tif" in text
    alone = folder / "alone"
    alone.mkdir()
    shutil.copy(folder / "broken.tif", alone)
    assert predict(store, alone)[0] == 2
