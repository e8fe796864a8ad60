"""The headless loop writes what the pages would show."""

from __future__ import annotations

import json
import unicodedata

import numpy as np
import pytest
import tifffile

from alapp.domain import silent
from alapp.errors import InputError
from alapp.rounds import simulate
from alapp.storage import catalogue
from tests.rounds.conftest import discs


@pytest.fixture
def folders(tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    for seed in range(4):
        pixels, truth = discs(seed)
        tifffile.imwrite(images / f"{seed}.tif", pixels[..., 0])
        tifffile.imwrite(labels / f"{seed}.tif", truth.astype(np.uint16))
    return images, labels


def test_the_result_has_every_round_and_stage(store, folders, fast, tmp_path):
    setup = simulate.Simulation(*folders, patch=64, batch=4, rounds=2, full=True, seed=3)
    result = simulate.simulate(store, setup, silent)
    assert (result["schema"], result["strategy"], result["seed"], result["patches"]) == (1, "auto", 3, 12)
    assert [row["round"] for row in result["rounds"]] == [0, 1, 2]
    assert result["ended"] is None
    assert [row["labelled"] for row in result["rounds"]] == [0, 4, 8]
    assert [row["trained_on"] for row in result["rounds"]] == [0, 3, 6]
    assert [round(row["fraction"], 3) for row in result["rounds"]] == [0, 0.333, 0.667]
    for row in result["rounds"]:
        assert set(row["seconds"]) == set(simulate.STAGES)
        assert set(row["test"]) == {"f1_50", "ap_50", "ap_75", "pq", "dice", "n_true", "n_pred"}
        assert row["test"]["f1_50"] > 0.9
    assert result["full"]["n_true"] == result["rounds"][0]["test"]["n_true"]
    simulate.write_json(tmp_path / "out" / "result.json", result)
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == result


def test_it_ends_when_no_patch_is_left_to_label(store, folders, fast):
    trainer, _ = fast
    setup = simulate.Simulation(*folders, patch=64, batch=8, rounds=4, full=True)
    result = simulate.simulate(store, setup, silent)
    assert [row["labelled"] for row in result["rounds"]] == [0, 8, 12]
    assert result["ended"] == "No patch was left to label after 2 of 4 rounds."
    # as long as the rounds that there were together
    assert [each["iterations"] for each in trainer.seen] == [4, 6, 6, 12]


def test_a_simulation_takes_the_next_free_name(store, folders):
    setup = simulate.Simulation(*folders, patch=64)
    first, second = (simulate._fill(store, setup, silent) for _ in range(2))
    catalogue.delete_project(store, first.id)
    third = simulate._fill(store, setup, silent)
    assert third.name == second.name.replace("Simulation 2", "Simulation 3")
    catalogue.delete_project(store, third.id)
    fourth = simulate._fill(store, setup, silent)
    assert fourth.name not in {second.name, third.name}
    catalogue.restore_project(store, third.id)  # whose name nobody took


def test_the_same_seed_gives_the_same_rounds(store, folders, fast, tmp_path):
    from alapp.storage.db import Store

    setup = simulate.Simulation(*folders, patch=64, batch=4, rounds=1, pseudo="none")
    first = simulate.simulate(store, setup, silent)
    again = simulate.simulate(Store(tmp_path / "other"), setup, silent)
    assert [row["test"] for row in first["rounds"]] == [row["test"] for row in again["rounds"]]


def test_an_image_without_labels_is_named(store, folders):
    images, labels = folders
    (labels / "2.tif").unlink()
    with pytest.raises(InputError, match="no labels for 1 image, 2 among them"):
        simulate.simulate(store, simulate.Simulation(images, labels), silent)


def test_a_name_may_be_written_in_two_ways(folders):
    images, labels = folders
    image, answer = (unicodedata.normalize(form, "Zellkörper") for form in ("NFD", "NFC"))
    (images / "2.tif").rename(images / f"{image}.tif")
    (labels / "2.tif").rename(labels / f"{answer}.tif")
    matched = simulate.pairs(images, labels)
    assert (images / f"{image}.tif", labels / f"{answer}.tif") in matched
    assert len(matched) == 4


def test_a_colour_image_is_not_a_label_file(folders):
    _, labels = folders
    tifffile.imwrite(labels / "2.tif", np.zeros((64, 64, 3), np.uint8), photometric="rgb")
    with pytest.raises(InputError, match="3 channels"):
        simulate.read_reference(labels / "2.tif")


@pytest.mark.parametrize(
    ("wrong", "words"), [({"strategy": "magic"}, "strategy"), ({"pseudo": "magic"}, "pseudo-label")]
)
def test_a_wrong_name_is_told_before_anything_is_done(store, folders, wrong, words):
    with pytest.raises(InputError, match=words):
        simulate.simulate(store, simulate.Simulation(*folders, **wrong), silent)
    assert store.rows("SELECT * FROM project") == []


def test_a_single_image_is_too_few_and_leaves_no_project(store, folders):
    images, labels = folders
    with pytest.raises(InputError, match="at least two images"):
        simulate.simulate(store, simulate.Simulation(images / "0.tif", labels), silent)
    assert catalogue.projects(store) == []
