"""The user's own checkpoints: what is taken, what is refused, and that nothing of a file runs."""

from __future__ import annotations

import collections
import json
import os
import pickle
from pathlib import Path

import pytest
import torch

from alapp.domain import Modality
from alapp.errors import Cancelled, DiskFullError, InputError, StorageError
from alapp.stages.foundation import folders, own, reading
from tests.stages.foundation.checkpoints import saved, use_small_models, weights


@pytest.fixture(autouse=True)
def _small(monkeypatch) -> None:
    use_small_models(monkeypatch)


def nothing_is_left() -> bool:
    return not own.folder().exists() or list(own.folder().iterdir()) == []


def test_a_plain_checkpoint_is_kept_and_can_be_loaded(tmp_path) -> None:
    given = weights()
    steps = []
    made = own.import_file(
        saved(tmp_path / "my mitos.pth", given), modality=Modality.EM, report=lambda *step: steps.append(step)
    )
    assert (made.name, made.architecture, made.modality, made.decoder) == ("my mitos", "vit_b", Modality.EM, None)
    assert made.source == "my mitos.pth"
    assert made.size == made.weights.stat().st_size
    kept = torch.load(made.weights, weights_only=True)
    assert all(torch.equal(kept[name], value) for name, value in given.items())
    assert own.checkpoints() == [made]
    assert own.checkpoint("my mitos") == made
    assert [step[:2] for step in steps] == [(0, 3), (1, 3), (2, 3), (2, 3), (3, 3)]


def test_what_micro_sam_trained_is_kept_with_its_decoder(tmp_path) -> None:
    content = {
        "model_state": collections.OrderedDict((f"sam.{name}", value.half()) for name, value in weights().items()),
        "decoder_state": collections.OrderedDict(out=torch.ones(2)),
        "epoch": 3,
    }
    made = own.import_file(saved(tmp_path / "best.pt", content))
    assert torch.load(made.decoder, weights_only=True)["out"].tolist() == [1, 1]
    kept = torch.load(made.weights, weights_only=True)
    assert set(kept) == set(weights())
    assert {value.dtype for value in kept.values()} == {torch.float32}
    assert own.checkpoints(decoder=True) == [made]


def test_the_newest_that_fits_comes_first(tmp_path, monkeypatch) -> None:
    for number, modality in enumerate((Modality.EM, Modality.LIGHT, None)):
        made = own.import_file(saved(tmp_path / f"{number}.pt", weights(seed=number)), modality=modality)
        about = json.loads((made.folder / own.ABOUT).read_text())
        (made.folder / own.ABOUT).write_text(json.dumps({**about, "added": f"2026-01-0{number + 1}"}))
    assert [one.name for one in own.checkpoints()] == ["2", "1", "0"]
    assert [one.name for one in own.checkpoints(Modality.EM)] == ["2", "0"]
    assert own.checkpoints(decoder=True) == []


def test_names_are_unique_and_safe(tmp_path) -> None:
    names = [
        own.import_file(saved(tmp_path / f"{seed}.pt", weights(seed=seed)), name=name).name
        for seed, name in enumerate(["cells", "cells", "../../etc/x", "vit_b_lm", "CON", "a" * 200])
    ]
    assert names == ["cells", "cells-2", "etc_x", "vit_b_lm (own)", "CON (own)", "a" * own.LONGEST_NAME]
    assert {path.name for path in own.folder().iterdir()} == set(names)
    with pytest.raises(InputError, match="cannot be the name"):
        own.checked_name(" ../ ")
    with pytest.raises(InputError, match="no model of your own called 'x'"):
        own.checkpoint("x")


def test_the_same_weights_are_kept_once(tmp_path) -> None:
    path = saved(tmp_path / "cells.pt", weights())
    own.import_file(path)
    with pytest.raises(InputError, match="here already, as 'cells'"):
        own.import_file(path, name="others")
    assert [one.name for one in own.checkpoints()] == ["cells"]
    assert len(list(own.folder().iterdir())) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({**weights(), "extra.part": torch.ones(1)}, "1 parts that vit_b has not, such as extra.part"),
        ({"image_encoder.patch_embed.proj.weight": torch.ones(768, 1, 1, 1)}, r"lacks 1 parts, such as mask_decoder"),
        ({**weights(), "mask_decoder.bias": torch.ones(5)}, r"mask_decoder.bias has the shape \(5,\)"),
        ({**weights(), "mask_decoder.bias": torch.full((4,), torch.nan)}, "values that are not numbers"),
        ({**weights(), "mask_decoder.bias": [1, 2]}, "'mask_decoder.bias' is no tensor"),
        ({"image_encoder.patch_embed.proj.weight": torch.ones(384, 1, 1, 1)}, "384 wide"),
        ({"network_weights": {"a": torch.ones(1)}}, "is no tensor"),
        ({"a": torch.ones(1)}, "no image encoder"),
        ({"model_state": 3}, "model_state holds no weights"),
        ({"model_state": weights(), "decoder_state": [1]}, "decoder_state holds no weights"),
        (torch.ones(3), "no dictionary"),
    ],
)
def test_another_model_is_refused_with_the_reason(tmp_path, content, words) -> None:
    with pytest.raises(InputError, match=words) as caught:
        own.import_file(saved(tmp_path / "other.pt", content))
    assert str(caught.value).startswith("other.pt is not a model")
    assert nothing_is_left()


@pytest.mark.parametrize("content", [b"garbage", b"PK\x03\x04 broken zip", b"\x80\x02}q\x00.", pickle.dumps({"a": 1})])
def test_garbage_is_refused(tmp_path, content) -> None:
    (tmp_path / "notes.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"notes\.pt"):
        own.import_file(tmp_path / "notes.pt")
    assert nothing_is_left()


def test_a_missing_and_an_empty_file_are_sentences(tmp_path) -> None:
    with pytest.raises(InputError, match=r"There is no file .*gone\.pt"):
        own.import_file(tmp_path / "gone.pt")
    (tmp_path / "empty.pt").touch()
    with pytest.raises(InputError, match=r"empty\.pt is empty"):
        own.import_file(tmp_path / "empty.pt")


class Bomb:
    """Makes a folder when it is unpickled as usual."""

    def __init__(self, path: Path, call: str):
        self.path, self.call = str(path), call

    def __reduce__(self):
        return (os.mkdir, (self.path,)) if self.call == "os" else (exec, (f"import os; os.mkdir({self.path!r})",))


@pytest.mark.parametrize(
    ("call", "old_format", "taken"), [("os", False, False), ("exec", True, False), ("exec", False, True)]
)
def test_no_code_of_a_file_runs(tmp_path, call, old_format, taken) -> None:
    """Whether the file is refused, or the bomb in it replaced by something that does nothing."""
    struck = tmp_path / "struck"
    content = {"model_state": weights(), "init": Bomb(struck, call)}
    path = saved(tmp_path / "bomb.pt", content, _use_new_zipfile_serialization=not old_format)
    torch.load(path, weights_only=False)
    assert struck.is_dir()  # the bomb is a real one
    struck.rmdir()
    if taken:
        assert own.import_file(path).name == "bomb"
    else:
        with pytest.raises(InputError, match="cannot be read"):
            own.import_file(path)
        assert nothing_is_left()
    assert not struck.exists()
    assert not any(type(entry) is tuple for entry in torch.serialization.get_safe_globals())


class Loader:
    """A class of a training script, which is not there when the checkpoint is imported."""


def test_a_checkpoint_with_objects_of_the_training_is_read(tmp_path) -> None:
    content = {"model_state": weights(), "init": {"loader": Loader(), "path": Path("data")}, "epoch": 3}
    assert own.import_file(saved(tmp_path / "best.pt", content)).architecture == "vit_b"


def test_nothing_is_left_of_what_was_cancelled(tmp_path) -> None:
    def report(done: float, total: float, message: str = "") -> None:
        if done == 2:
            raise Cancelled("The work was cancelled.")

    with pytest.raises(Cancelled):
        own.import_file(saved(tmp_path / "cells.pt", weights()), report=report)
    assert nothing_is_left()


def test_a_full_disk_is_noticed_before_writing(tmp_path, monkeypatch) -> None:
    usage = own.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(own.shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(DiskFullError, match="Free some space"):
        own.import_file(saved(tmp_path / "cells.pt", weights()))
    assert nothing_is_left()


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(folders.MODELS_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(StorageError, match=folders.MODELS_VARIABLE):
        own.import_file(saved(tmp_path / "cells.pt", weights()))


def test_a_spoilt_or_unfinished_entry_is_not_listed(tmp_path) -> None:
    good = own.import_file(saved(tmp_path / "good.pt", weights()))
    for name, content in (("spoilt", "{"), (".tmp-1", (good.folder / own.ABOUT).read_text()), ("odd", "[]")):
        (own.folder() / name).mkdir()
        (own.folder() / name / own.ABOUT).write_text(content)
    (own.folder() / "odd" / own.WEIGHTS).touch()
    assert own.checkpoints() == [good]


class TestRealArchitectures:
    """Against the real networks; `vit_b` is compared without giving it memory."""

    @pytest.fixture(autouse=True)
    def _real(self, monkeypatch) -> None:
        monkeypatch.undo()

    @pytest.mark.slow
    def test_vit_t_and_its_decoder(self, tmp_path, monkeypatch) -> None:
        from alapp.environment import prepare

        prepare()
        monkeypatch.setenv(folders.MODELS_VARIABLE, str(tmp_path / "models"))
        from micro_sam.instance_segmentation import get_unetr
        from mobile_sam import sam_model_registry

        sam = sam_model_registry["vit_t"]()
        unetr = get_unetr(sam.image_encoder, None, device="cpu").state_dict()
        decoder = {name: value for name, value in unetr.items() if not name.startswith("encoder")}
        content = {"model_state": {f"sam.{k}": v for k, v in sam.state_dict().items()}, "decoder_state": decoder}
        made = own.import_file(saved(tmp_path / "tuned.pt", content))
        assert (made.architecture, made.decoder is not None) == ("vit_t", True)
        decoder.pop(next(iter(decoder)))
        with pytest.raises(InputError, match="its decoder does not fit micro_sam"):
            own.import_file(saved(tmp_path / "half.pt", content), name="half")

    @pytest.mark.slow
    def test_vit_b_is_told_from_its_parts(self) -> None:
        parts = reading._expected("vit_b")
        assert parts["image_encoder.patch_embed.proj.weight"] == (768, 3, 16, 16)
        meta = {name: torch.empty(shape, device="meta") for name, shape in parts.items()}
        assert reading.architecture_of(Path("x.pt"), meta) == "vit_b"
        reading._compare(Path("x.pt"), meta, parts, "vit_b")
