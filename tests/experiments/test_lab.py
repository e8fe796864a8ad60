"""What the runs of an experiment share."""

from __future__ import annotations

import pytest

from alapp.experiments import lab as labs
from alapp.experiments.lab import Lab
from alapp.experiments.study import Study
from alapp.stages.pseudolabel.base import choose_automatically

pytestmark = pytest.mark.usefixtures("fast")


def test_automatic_is_settled_once(tmp_path, source, monkeypatch):
    study = Study(source)
    first = Lab(tmp_path / "lab", study).method("auto")
    assert first == choose_automatically(source.modality)[0]
    # As after a download of weights, half-way through.
    monkeypatch.setattr(labs, "choose_automatically", lambda modality: ("micro_sam", "its weights are there"))
    assert Lab(tmp_path / "lab", study).method("auto") == first
    assert Lab(tmp_path / "another", study).method("auto") == "micro_sam"
    assert Lab(tmp_path / "lab", study).method("reference:drop=0.5") == "reference"
