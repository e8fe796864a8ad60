"""What a study compares, and in which order."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from alapp.errors import InputError
from alapp.experiments.study import ALL, CHAIN, SINGLE, Run, Source, Study, runs

SOURCE = Source(sample="hela")


def test_every_run_follows_the_one_it_needs():
    study = Study(SOURCE, schedules=(CHAIN, SINGLE), starts=("auto", "none"))
    listed = list(runs(study))
    assert len({run.key for run in listed}) == len(listed) == 2 * 3 * (1 + 2 * 3 * 3 + 1)
    for number, run in enumerate(listed):
        before = run.after(study)
        assert before is None or before in listed[:number]


def test_a_chain_goes_on_from_the_smaller_budget_and_a_single_run_from_the_start():
    study = Study(SOURCE, budgets=(4, 8))
    assert Run("auto", 1, "random", CHAIN, 8).after(study) == Run("auto", 1, "random", CHAIN, 4)
    assert Run("auto", 1, "random", CHAIN, 4).after(study) == Run("auto", 1)
    assert Run("auto", 1, "random", SINGLE, 8).after(study) == Run("auto", 1)
    assert Run("auto", 1, ALL, SINGLE, None).after(study) == Run("auto", 1)
    assert Run("auto", 1).after(study) is None


def test_a_study_survives_json():
    study = Study(Source(images="a", labels="b", depth=5, voxel_size=(1.0, 0.2, 0.2)), budgets=(0.1, 0.5), iterations=7)
    study = replace(study, decoding={"certainty_share": 0.5})
    assert Study.of(json.loads(json.dumps(study.as_json()))) == study


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"budgets": (8, 4)}, "ascend"),
        ({"budgets": (0,)}, "positive"),
        ({"strategies": ("magic",)}, "magic"),
        ({"starts": ("magic",)}, "magic"),
        ({"schedules": ("magic",)}, "magic"),
        ({"seeds": ()}, "seeds"),
        ({"iterations": 0}, "iteration"),
        ({"decoding": {"magic": 1}}, "magic"),
        ({"embedder": "magic"}, "magic"),
        ({"embedder": "network"}, "before a network is trained"),
    ],
)
def test_what_cannot_be_studied_is_told(change, named):
    with pytest.raises(InputError, match=named):
        Study(SOURCE, **change)


@pytest.mark.parametrize("wrong", [{}, {"sample": "magic"}, {"images": "a"}, {"sample": "hela", "test_share": 1.0}])
def test_what_is_no_source_is_told(wrong):
    with pytest.raises(InputError):
        Source(**wrong)
