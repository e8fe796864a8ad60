"""Foundation models as the pages see them, and the jobs on them."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from alapp import jobs
from alapp.domain import LabelKind, Modality
from alapp.errors import ConflictError, InputError, LicenceError
from alapp.jobs import JobState
from alapp.rounds.pseudolabel import foundation, foundation_jobs
from alapp.rounds.pseudolabel.foundation import Action
from alapp.running import run_inline
from alapp.stages.annotate.base import CLICK_SEGMENTERS
from alapp.stages.foundation import access, adopt, catalogue, download, folders, landing, own, speeds, states
from alapp.stages.foundation.catalogue import MODELS
from alapp.stages.foundation.states import ModelState
from alapp.stages.pseudolabel.base import PSEUDO_LABELLERS
from alapp.storage import jobs as job_rows
from alapp.storage import labels, processes
from tests.stages.foundation.checkpoints import saved, use_small_models, weights
from tests.stages.foundation.server import Behaviour, serving
from tests.stages.foundation.test_download import CONTENT, model_of


@pytest.fixture(autouse=True)
def _installed(monkeypatch) -> None:
    monkeypatch.setattr(states, "_installed", lambda module: True)
    monkeypatch.setattr(download, "MARGIN", 0)
    monkeypatch.setattr(download, "PAUSES", ())
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    use_small_models(monkeypatch)


@pytest.fixture
def server(monkeypatch):
    """Serves vit_b_lm, which is one small file here."""
    with serving(Behaviour(CONTENT)) as running:
        monkeypatch.setitem(catalogue.MODELS, "vit_b_lm", model_of(running.url))
        yield running


def at(store, name: str) -> foundation.Entry:
    return foundation.entry(store, name)


def test_a_model_from_missing_to_ready_to_removed_and_back(store, server) -> None:
    assert at(store, "vit_b_lm").state is ModelState.WEIGHTS_MISSING
    assert at(store, "vit_b_lm").actions == (Action.DOWNLOAD,)
    job = foundation.start_download(store, "vit_b_lm")
    waiting = at(store, "vit_b_lm")
    assert (waiting.state, waiting.progress, waiting.actions) == (ModelState.DOWNLOADING, 0.0, (Action.CANCEL,))
    assert waiting.message == "Starting."
    assert Action.DOWNLOAD not in at(store, "vit_t_lm").actions  # one at a time
    done = run_inline(store, job)
    assert (done.state, done.result) == (
        JobState.DONE,
        {"name": "vit_b_lm", "title": "micro_sam for light microscopy, base"},
    )
    assert at(store, "vit_b_lm").state is ModelState.READY
    assert at(store, "vit_b_lm").actions == (Action.TRY, Action.REMOVE)
    assert "can be undone" in foundation.remove("vit_b_lm")
    assert at(store, "vit_b_lm").actions == (Action.DOWNLOAD, Action.UNDO)
    foundation.undo_removal("vit_b_lm")
    assert at(store, "vit_b_lm").state is ModelState.READY
    foundation.remove("vit_b_lm")
    foundation.start_of_app()
    assert at(store, "vit_b_lm").actions == (Action.DOWNLOAD,)
    with pytest.raises(InputError, match="cannot be brought back"):
        foundation.undo_removal("vit_b_lm")


def test_a_failed_download_tells_why_until_it_works(store, server) -> None:
    server.code = 404
    done = run_inline(store, foundation.start_download(store, "vit_b_lm"))
    assert done.state is JobState.FAILED
    found = at(store, "vit_b_lm")
    assert found.state is ModelState.WEIGHTS_MISSING
    assert found.problem == done.error
    assert "no longer has it" in found.problem
    server.code = 200
    run_inline(store, foundation.start_download(store, "vit_b_lm"))
    assert at(store, "vit_b_lm").problem == ""


def test_cancelled_while_it_waits(store, server) -> None:
    job = foundation.start_download(store, "vit_b_lm")
    with pytest.raises(ConflictError, match="vit_b_lm is being downloaded"):
        foundation.start_download(store, "vit_t_lm")
    assert foundation.start_download(store, "vit_b_lm") == job
    foundation.cancel_download(store, "vit_t_lm")
    assert at(store, "vit_b_lm").state is ModelState.DOWNLOADING
    foundation.cancel_download(store, "vit_b_lm")
    assert jobs.get(store, job.id).state is JobState.CANCELLED
    assert at(store, "vit_b_lm").actions == (Action.DOWNLOAD,)
    assert at(store, "vit_b_lm").problem == ""


def test_cancelled_in_the_middle(store, server, monkeypatch) -> None:
    server.pause = 0.001
    job = foundation.start_download(store, "vit_b_lm")
    fetch = download.fetch

    def cancelling(model, report) -> None:
        def told(done: float, total: float, message: str = "") -> None:
            if done > total / 2:
                foundation.cancel_download(store, "vit_b_lm")
                report.write()  # as the heartbeat does: it learns of the wish
            report(done, total, message)

        fetch(model, told)

    monkeypatch.setattr(download, "fetch", cancelling)
    assert run_inline(store, job).state is JobState.CANCELLED
    assert list(MODELS["vit_b_lm"].folder.iterdir()) == []


def test_another_model_can_be_asked_for_while_a_download_is_being_cancelled(store, server) -> None:
    ending = job_rows.claim(store, processes.worker_name("t"), foundation.start_download(store, "vit_b_lm").id)
    foundation.cancel_download(store, "vit_b_lm")
    job = foundation.start_download(store, "vit_t_lm")
    assert job.id != ending.id
    assert foundation.active_download(store) == job
    foundation.cancel_download(store, "vit_t_lm")
    assert jobs.get(store, job.id).state is JobState.CANCELLED


def test_cellsam_asks_for_the_licence_then_for_the_token(store) -> None:
    found = at(store, "cellsam_v1.2")
    assert (found.state, found.actions, found.terms, found.accepted) == (
        ModelState.LICENCE, (Action.ACCEPT,), True, False,
    )  # fmt: skip
    with pytest.raises(LicenceError, match="non-commercial"):
        foundation.start_download(store, "cellsam_v1.2")
    foundation.accept_licence("cellsam_v1.2")
    assert at(store, "cellsam_v1.2").actions == (Action.TOKEN,)
    access.store_token("s3cret-Token.of_a-user")
    assert at(store, "cellsam_v1.2").actions == (Action.DOWNLOAD,)
    foundation.withdraw_licence("cellsam_v1.2")
    assert at(store, "cellsam_v1.2").state is ModelState.LICENCE


def test_what_fits_the_project_comes_first(store) -> None:
    names = [entry.name for entry in foundation.entries(store, Modality.EM)]
    assert names[0] == "vit_t_em_organelles"
    assert names.index("vit_t_lm") > names.index("vit_b_medical_imaging")
    assert set(names) == set(MODELS)
    with pytest.raises(InputError, match="no model called 'x'"):
        at(store, "x")


def test_a_file_of_the_users_own(store, tmp_path) -> None:
    name, sentence = foundation.take_file(saved(tmp_path / "mitos.pt", weights()), None, Modality.EM)
    assert sentence == "mitos.pt is a model of type vit_b; it is here now as 'mitos', for clicks."
    found = at(store, name)
    assert (found.own, found.state, found.modalities) == (True, ModelState.READY, {Modality.EM})
    assert found.suits == "For electron microscopy; vit_b, from mitos.pt."
    assert foundation.entries(store)[0] == found
    foundation.remove(name)
    assert at(store, name).actions == (Action.UNDO,)
    foundation.undo_removal(name)
    assert at(store, name) == found
    foundation.remove(name)
    landing.tidy()
    for act in (foundation.remove, foundation.undo_removal):
        with pytest.raises(InputError):
            act(name)


def test_a_published_file_goes_to_its_place(store, tmp_path, server) -> None:
    (tmp_path / "copy").write_bytes(CONTENT)
    name, sentence = foundation.take_file(tmp_path / "copy")
    assert name == "vit_b_lm"
    assert sentence == "copy belongs to micro_sam for light microscopy, base (vit_b_lm); it is in its place now."
    assert at(store, "vit_b_lm").state is ModelState.READY
    assert own.checkpoints() == []
    with pytest.raises(InputError, match="There is no file"):
        foundation.take_file(tmp_path / "gone")


@pytest.mark.parametrize("place", [adopt, states], ids=["first look", "checksum"])
def test_a_file_that_cannot_be_read_is_told(store, tmp_path, server, monkeypatch, place) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "copy").write_bytes(CONTENT)
    monkeypatch.setattr(place, "open", refused, raising=False)
    with pytest.raises(InputError, match=r"copy cannot be read \(Permission denied\)\. Check its permissions"):
        foundation.take_file(tmp_path / "copy")


def test_own_models_without_their_package(store, tmp_path, monkeypatch) -> None:
    foundation.take_file(saved(tmp_path / "mine.pt", weights()))
    monkeypatch.setattr(states, "_installed", lambda module: module != "micro_sam")
    found = at(store, "mine")
    assert (found.state, found.actions) == (ModelState.NOT_INSTALLED, (Action.REMOVE,))
    with pytest.raises(InputError, match="mine cannot be tested: The package micro_sam"):
        foundation.start_try(store, 1, "mine")


class Clicks:
    """A click method that answers a square around the click, and keeps what it was made with."""

    made: list

    def __init__(self, modality=None, checkpoint=None, model_type=None):
        self.made.append((modality, checkpoint, model_type))
        self.images = {}

    def prepare(self, key, image, prior=None):
        self.images[key] = image

    def segment(self, key, positive, negative, box=None, previous=None, tuning=None):
        mask = np.zeros(self.images[key].shape[:2], bool)
        y, x = map(int, positive[0])
        mask[y - 2 : y + 3, x - 2 : x + 3] = True
        return mask


class Labels:
    """A labeller that finds two objects with the model that it is given."""

    asked: list

    def __init__(self, modality=None):
        pass

    @classmethod
    def models(cls, modality=None):
        return ["vit_b_lm"]

    def label(self, image, params, report=None):
        self.asked.append(dict(params))
        found = np.zeros(image.shape[:2], np.int32)
        found[0, 0], found[5, 5] = 1, 2
        return found


@pytest.fixture
def fakes(monkeypatch):
    monkeypatch.setattr(Clicks, "made", [], raising=False)
    monkeypatch.setattr(Labels, "asked", [], raising=False)
    monkeypatch.setitem(CLICK_SEGMENTERS._targets, "micro_sam", "tests.rounds.pseudolabel.test_foundation:Clicks")
    for name in ("micro_sam", "cellsam"):
        monkeypatch.setitem(PSEUDO_LABELLERS._targets, name, "tests.rounds.pseudolabel.test_foundation:Labels")


def test_a_click_model_is_tested_on_a_patch(store, project, fakes, tmp_path) -> None:
    foundation.take_file(saved(tmp_path / "mine.pt", weights()))
    job = run_inline(store, foundation.start_try(store, project.id, "mine"))
    assert job.state is JobState.DONE, job.error
    assert job.result["click"] == [31.5, 31.5]
    assert job.result["objects"] == 1
    kept = labels.of_ids(store, [job.result["label_map"]])[0]
    assert (kept.kind, kept.patch_id) == (LabelKind.PSEUDO, job.result["patch"])
    assert np.argwhere(labels.read(store, kept)).min(axis=0).tolist() == [29, 29]
    assert Clicks.made == [(Modality.LIGHT, own.checkpoint("mine").weights, "vit_b")]
    assert "a click" in at(store, "mine").speed
    assert foundation.last_try(store, project.id, "mine").id == job.id
    assert foundation.last_try(store, project.id, "vit_b_lm") is None


def test_a_model_with_a_decoder_labels_a_patch(store, project, fakes) -> None:
    folder = folders.microsam()
    folder.mkdir(parents=True)
    for name in ("vit_b_lm", "vit_b_lm_decoder"):
        (folder / name).write_bytes(b"x")
    done = foundation_jobs.run_try(store, project.id, lambda *_: None, "vit_b_lm")
    assert (done["objects"], done["click"]) == (2, None)
    assert Labels.asked == [{"model": "vit_b_lm"}] * 2  # the second time tells the speed
    assert speeds.measured("vit_b_lm").label is not None


def test_what_goes_wrong_in_a_test_is_a_sentence(store, project, fakes) -> None:
    job = run_inline(store, jobs.enqueue(store, "try_model", project.id, {"name": "vit_b_lm"}))
    assert (job.state, job.error) == (
        JobState.FAILED, "The weights of vit_b_lm are not on this computer. Download or import them first.",
    )  # fmt: skip
    with pytest.raises(InputError, match="vit_b_lm cannot be tested: No weights"):
        foundation.start_try(store, project.id, "vit_b_lm")


def test_without_images_there_is_nothing_to_test_on(store, fakes) -> None:
    from alapp.storage import catalogue as rows

    made = rows.create_project(store, "empty")
    job = run_inline(store, jobs.enqueue(store, "try_model", made.id, {"name": "vit_b_lm"}))
    assert job.error.startswith("Import images first")
