"""`predict` on the command line."""

from __future__ import annotations

import shutil

import pytest
from typer.testing import CliRunner

from alapp.cli import app
from alapp.errors import InputError


def predict(store, folder, *options):
    command = ["predict", "discs", str(folder), "--state", str(store.root), *options]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
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


def test_the_size_of_a_pixel_can_be_told(store, trained, folder):
    code, text = predict(store, folder, "--pixel-size", "0,5")
    assert code == 0
    assert "a.tif: 12 objects (pixel size as entered: 0.5 µm)" in text
    with pytest.raises(InputError, match="--pixel-size: the voxel size in x must be above 0; it is -1"):
        predict(store, folder, "--pixel-size", "-1")
