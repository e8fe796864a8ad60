"""Every state of a model, found without torch and without the network."""

from __future__ import annotations

import importlib.machinery
import os
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest
import xxhash

from alapp.domain import BackendState
from alapp.stages.foundation import access, states
from alapp.stages.foundation.catalogue import MODELS, Model
from alapp.stages.foundation.states import ModelState, state, status

CONTENT = b"weights" * 10


@pytest.fixture
def small() -> Model:
    """A published model of seventy bytes for each of two files."""
    digest = xxhash.xxh128(CONTENT).hexdigest()
    first, second = MODELS["vit_b_lm"].files
    files = (
        replace(first, checksum=f"xxh128:{digest}", size=70, exact=True),
        replace(second, checksum=f"xxh128:{digest}", size=100),
    )
    return replace(MODELS["vit_b_lm"], files=files, needs=("json",))


def put(path: Path, content: bytes = CONTENT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_missing_half_and_ready(small) -> None:
    weights, decoder = small.paths
    assert state(small) is ModelState.WEIGHTS_MISSING
    assert "1 MB" in status(small).remedy
    put(decoder)
    assert "the weights (vit_b_lm) is not in" in status(small).detail
    put(weights)
    decoder.unlink()
    assert status(small).state is BackendState.WEIGHTS_MISSING
    assert "the decoder (vit_b_lm_decoder)" in status(small).detail
    put(decoder)
    assert status(small).ready
    assert state(small, thorough=True) is ModelState.READY


@pytest.mark.parametrize("content", [b"", b"x" * 69, b"x" * 71], ids=["empty", "short", "long"])
def test_a_file_of_the_wrong_size_is_broken(small, content) -> None:
    weights, decoder = small.paths
    put(decoder)
    put(weights, content)
    assert state(small) is ModelState.BROKEN
    assert "is not the published file" in status(small).detail
    assert "Download vit_b_lm again" in status(small).remedy


def test_other_content_is_found_by_a_thorough_look_only(small) -> None:
    weights, decoder = small.paths
    put(decoder)
    put(weights, b"x" * 70)
    assert state(small) is ModelState.READY
    assert state(small, thorough=True) is ModelState.BROKEN
    put(weights)  # a changed file is read again
    os.utime(weights, ns=(1, 1))
    assert state(small, thorough=True) is ModelState.READY


def test_every_needed_module_has_its_remedy() -> None:
    assert {module for model in MODELS.values() for module in model.needs} == set(states.HOW_TO_INSTALL)


def test_two_missing_packages_are_named(small, monkeypatch) -> None:
    monkeypatch.setattr(states, "_installed", lambda module: False)
    found = status(MODELS["vit_t_lm"])
    assert found.detail == "The packages micro_sam and mobile_sam are not installed."
    monkeypatch.setattr(states, "_installed", lambda module: module != "mobile_sam")
    assert status(MODELS["vit_t_lm"]).remedy == "Run: pip install mobilesam-mirror"


def test_cellsam_from_the_licence_to_its_broken_folder(monkeypatch) -> None:
    model = MODELS["cellsam_v1.2"]
    monkeypatch.setattr(states, "_installed", lambda module: True)
    assert state(model) is ModelState.LICENCE
    assert "models accept cellsam_v1.2" in status(model).remedy
    access.accept("cellsam_v1.2")
    assert state(model) is ModelState.WEIGHTS_MISSING
    model.paths[0].parent.mkdir(parents=True)
    assert state(model) is ModelState.BROKEN
    assert "broke off" in status(model).detail
    put(model.paths[0])
    assert state(model) is ModelState.READY
    access.withdraw("cellsam_v1.2")
    assert state(model) is ModelState.LICENCE


def test_a_package_that_cannot_be_looked_up_is_not_installed(monkeypatch) -> None:
    module = types.ModuleType("odd")
    module.__spec__ = None  # find_spec raises ValueError then
    monkeypatch.setitem(sys.modules, "odd", module)
    assert states.absent(("odd", "json")) == ["odd"]
    module.__spec__ = importlib.machinery.ModuleSpec("odd", None)
    assert states.absent(("odd",)) == []


def test_every_state_is_found_without_torch() -> None:
    code = (
        "import sys\nfrom alapp.stages.foundation import states, catalogue\n"
        "print(sorted({str(states.state(m)) for m in catalogue.MODELS.values()}))\n"
        "print([m for m in ('torch', 'micro_sam', 'requests') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("size", "text"), [(400, "1 MB"), (41e6, "41 MB"), (999.6e6, "1.0 GB"), (1.25e9, "1.2 GB")])
def test_sizes_are_readable(size, text) -> None:
    assert states.size_text(size) == text
