"""Weights taken away and brought back, and weights brought from another computer."""

from __future__ import annotations

import os
import random
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import xxhash

from alapp.errors import Cancelled, DiskFullError, InputError, StorageError
from alapp.stages.foundation import adopt, catalogue, download, landing, own
from alapp.stages.foundation.catalogue import MODELS, Model, WeightsFile
from tests.stages.foundation.checkpoints import saved, use_small_models, weights
from tests.stages.foundation.test_download import archive, cellsam_of, silent

CONTENT = random.Random(1).randbytes(3_000_000)


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(path.name.encode())


class TestRemoval:
    def test_both_files_go_and_come_back(self) -> None:
        model = MODELS["vit_b_lm"]
        put(*model.paths, MODELS["vit_t_lm"].paths[0])
        landing.remove(model.name, landing.places_of(model))
        assert not any(path.exists() for path in model.paths)
        assert MODELS["vit_t_lm"].paths[0].exists()
        assert landing.can_undo(landing.places_of(model))
        landing.undo(model.name, landing.places_of(model))
        assert [path.read_bytes() for path in model.paths] == [b"vit_b_lm", b"vit_b_lm_decoder"]
        assert not landing.can_undo(landing.places_of(model))
        with pytest.raises(InputError, match="cannot be brought back"):
            landing.undo(model.name, landing.places_of(model))

    def test_a_version_folder_of_cellsam_goes_as_a_whole(self) -> None:
        model = MODELS["cellsam_v1.2"]
        put(model.paths[0], model.paths[0].parent / "cellsam_extra.pt")
        landing.remove(model.name, landing.places_of(model))
        assert list(model.folder.glob("cellsam_v*/*.pt")) == []
        landing.undo(model.name, landing.places_of(model))
        assert len(list(model.folder.glob("cellsam_v*/*.pt"))) == 2

    def test_a_model_of_the_users_own(self, tmp_path, monkeypatch) -> None:
        use_small_models(monkeypatch)
        made = own.import_file(saved(tmp_path / "cells.pt", weights()))
        landing.remove(made.name, landing.places_of(made))
        assert own.checkpoints() == []
        landing.undo(made.name, landing.places_of(made))
        assert own.checkpoints() == [made]

    def test_removing_twice_keeps_the_later_one(self) -> None:
        model = MODELS["vit_b"]
        put(*model.paths)
        landing.remove(model.name, model.paths)
        with pytest.raises(InputError, match="nothing to remove"):
            landing.remove(model.name, model.paths)
        model.paths[0].write_bytes(b"newer")
        assert not landing.can_undo(model.paths)
        landing.remove(model.name, model.paths)
        landing.undo(model.name, model.paths)
        assert model.paths[0].read_bytes() == b"newer"

    def test_when_one_of_two_cannot_be_moved_none_is(self, monkeypatch) -> None:
        model = MODELS["vit_b_lm"]
        put(*model.paths)
        rename = os.rename

        def fail(source, target) -> None:
            if Path(source).name.endswith("_decoder"):
                raise PermissionError(13, "in use")
            rename(source, target)

        monkeypatch.setattr(landing.os, "rename", fail)
        with pytest.raises(StorageError, match="Close what uses it"):
            landing.remove(model.name, model.paths)
        assert all(path.exists() for path in model.paths)

    def test_the_next_start_deletes_for_good(self) -> None:
        model = MODELS["vit_b"]
        put(*model.paths, model.folder / ".part-vit_l", model.folder / ".tmp-1" / "x", model.folder / "vit_l")
        landing.remove(model.name, model.paths)
        landing.tidy()
        assert not landing.can_undo(model.paths)
        assert sorted(path.name for path in model.folder.iterdir()) == [".part-vit_l", ".tmp-1", "vit_l"]
        landing.tidy(time.time() + 2 * landing.OLD_SECONDS)  # of a download that was killed long ago
        assert sorted(path.name for path in model.folder.iterdir()) == ["vit_l"]


class TestPut:
    def test_a_folder_takes_the_place_of_another(self, tmp_path) -> None:
        put(tmp_path / "new" / "a", tmp_path / "old" / "b")
        landing.put(tmp_path / "new", tmp_path / "old")
        assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["old", "old/a"]

    def test_when_that_fails_the_old_one_stays(self, tmp_path) -> None:
        put(tmp_path / "old" / "b")
        with pytest.raises(StorageError, match="could not be put in place"):
            landing.put(tmp_path / "gone", tmp_path / "old")
        assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["old", "old/b"]


class TestAdoption:
    @pytest.fixture(autouse=True)
    def model(self, monkeypatch) -> Model:
        digest = xxhash.xxh128(CONTENT).hexdigest()
        file = WeightsFile("vit_b_lm_decoder", "https://x", f"xxh128:{digest}", len(CONTENT))
        model = replace(MODELS["vit_b_lm"], files=(MODELS["vit_b_lm"].files[0], file))
        monkeypatch.setitem(catalogue.MODELS, "vit_b_lm", model)
        monkeypatch.setattr(download, "MARGIN", 0)
        return model

    def test_a_file_is_known_by_its_content(self, tmp_path, model) -> None:
        (tmp_path / "my copy.bin").write_bytes(CONTENT)
        steps = []
        assert adopt.adopt(tmp_path / "my copy.bin", lambda *step: steps.append(step))[1].name == "vit_b_lm_decoder"
        assert model.paths[1].read_bytes() == CONTENT
        assert (tmp_path / "my copy.bin").exists()
        assert [path.name for path in model.folder.iterdir()] == ["vit_b_lm_decoder"]
        assert {step[2] for step in steps} == {"Checking my copy.bin", "Copying my copy.bin"}
        adopt.adopt(model.paths[1])  # from its own place
        assert model.paths[1].read_bytes() == CONTENT

    @pytest.mark.parametrize("content", [CONTENT[:-1] + b"?", CONTENT[:-9], b"", b"x"])
    def test_anything_else_is_refused(self, tmp_path, model, content) -> None:
        (tmp_path / "vit_b_lm_decoder").write_bytes(content)
        with pytest.raises(InputError, match="none of the published files"):
            adopt.adopt(tmp_path / "vit_b_lm_decoder")
        assert not model.folder.exists()
        with pytest.raises(InputError, match="There is no file"):
            adopt.adopt(tmp_path)

    def test_cancelled_or_without_room_nothing_is_left(self, tmp_path, model, monkeypatch) -> None:
        (tmp_path / "copy").write_bytes(CONTENT)

        def report(done: float, total: float, message: str = "") -> None:
            if message.startswith("Copying") and done > 0.75 * total:
                raise Cancelled("The work was cancelled.")

        with pytest.raises(Cancelled):
            adopt.adopt(tmp_path / "copy", report)
        assert list(model.folder.iterdir()) == []
        usage = download.shutil.disk_usage(tmp_path)
        monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage._replace(free=100))
        with pytest.raises(DiskFullError):
            adopt.adopt(tmp_path / "copy")
        assert list(model.folder.iterdir()) == []

    def test_the_archive_of_cellsam_is_unpacked(self, tmp_path, monkeypatch) -> None:
        content = archive({"cellsam_v1.2/cellsam_general.pt": b"weights"})
        model = cellsam_of(content)
        monkeypatch.setitem(catalogue.MODELS, "cellsam_v1.2", model)
        (tmp_path / "archive").write_bytes(content)
        assert adopt.adopt(tmp_path / "archive", silent)[0] == model
        assert model.paths[0].read_bytes() == b"weights"
        assert [path.name for path in model.folder.iterdir()] == ["cellsam_v1.2"]
        assert (tmp_path / "archive").exists()

    def test_what_the_archive_of_cellsam_holds_is_known_by_its_parts(self, tmp_path) -> None:
        content = {"cellfinder.a": torch.ones(1), "model.b": torch.ones(1)}
        path = saved(tmp_path / "from the other computer.pt", content)
        assert adopt.adopt(path)[0].name == "cellsam_v1.2"
        place = MODELS["cellsam_v1.2"].paths[0]
        assert set(torch.load(place, weights_only=True)) == set(content)
        assert [file.name for file in place.parent.iterdir()] == ["cellsam_general.pt"]
        for other in ({"model.b": torch.ones(1)}, [1], weights()):
            assert not adopt.is_cellsam(saved(tmp_path / "other.pt", other))
