"""Reading a checkpoint that somebody brings, without running any code that the file may hold, and checking it."""

from __future__ import annotations

import importlib.util
import pickle
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alapp.environment import prepare
from alapp.errors import InputError, NotInstalledError, OutOfMemoryError

ARCHITECTURES = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
"""By the width of the encoder."""
TINY = "vit_t"
PREFIX = "sam."
"""Stands before every name in a checkpoint of micro_sam's training."""

_GLOBALS_LOCK = threading.Lock()  # torch keeps one list for the whole process

_DECODER_WIDTH = 256  # what every image encoder of SAM gives to the decoder


@dataclass(frozen=True)
class Checkpoint:
    """A micro_sam model: the weights of SAM, float tensors by name, and those of the decoder if it has one."""

    architecture: str
    weights: dict[str, Any]
    decoder: dict[str, Any] | None = None


class _Inert:
    """Stands for every class and function that a file names: calling it does nothing."""

    def __new__(cls, *_: object, **__: object) -> _Inert:
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def read(path: Path) -> Checkpoint:
    """The micro_sam model in a file: plain weights of SAM, or what micro_sam's training wrote.

    Raises `InputError` with a sentence for anything else, `NotInstalledError`, `OutOfMemoryError`.
    """
    content = _content(path)
    found = content.get("model_state", content)
    if not isinstance(found, Mapping):
        raise _not_a_model(path, "its entry model_state holds no weights")
    weights = _tensors(path, {_plain(name): value for name, value in found.items()})
    architecture = architecture_of(path, weights)
    _compare(path, weights, _expected(architecture), architecture)
    decoder = content.get("decoder_state")
    if not decoder:
        return Checkpoint(architecture, weights)
    if not isinstance(decoder, Mapping):
        raise _not_a_model(path, "its entry decoder_state holds no weights")
    return Checkpoint(architecture, weights, checked_decoder(path, _tensors(path, dict(decoder))))


def why_not(error: BaseException) -> str:
    """In few words why a file of weights could not be loaded: what torch says is long and meant for programmers."""
    if isinstance(error, pickle.UnpicklingError | EOFError):
        return "it is damaged, or no checkpoint of PyTorch"
    first = next(iter(str(error).strip().splitlines()), "")
    return first.rstrip(" .:") or type(error).__name__


def architecture_of(path: Path, weights: Mapping[str, Any]) -> str:
    """ "vit_t", "vit_b", "vit_l" or "vit_h", by the encoder's first layer. Raises `InputError`."""
    first = weights.get("image_encoder.patch_embed.proj.weight")
    if first is not None:
        width = int(first.shape[0])
        if width not in ARCHITECTURES:
            known = ", ".join(map(str, ARCHITECTURES))
            raise _not_a_model(path, f"its encoder is {width} wide, and those of micro_sam are {known}")
        return ARCHITECTURES[width]
    if "image_encoder.patch_embed.seq.0.c.weight" in weights:
        return TINY
    raise _not_a_model(path, "it holds no image encoder of Segment Anything")


def checked_decoder(path: Path, decoder: dict[str, Any]) -> dict[str, Any]:
    """`decoder` if micro_sam can build its automatic segmentation of it. Raises `InputError`, `NotInstalledError`."""
    import types

    import torch

    try:
        from micro_sam.instance_segmentation import get_unetr
    except ImportError as error:
        raise NotInstalledError(
            f"micro_sam cannot be imported: {error}. Run: pip install -r requirements.txt"
        ) from error
    encoder = torch.nn.Module()  # the decoder depends on two numbers of the encoder only
    encoder.in_chans, encoder.neck = 3, [None, None, types.SimpleNamespace(out_channels=_DECODER_WIDTH)]
    try:
        get_unetr(encoder, decoder, device="cpu")
    except (RuntimeError, KeyError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or ["unknown parts"])[-1].strip()
        raise _not_a_model(path, f"its decoder does not fit micro_sam ({reason})") from error
    return decoder


def _content(path: Path) -> dict[Any, Any]:
    """The unpickled file, a dictionary. torch builds tensors and plain values only; everything else that the file
    names, micro_sam's own training classes among it, is replaced by `_Inert` before it could be called."""
    if not path.is_file():
        raise InputError(f"There is no file {path}. Check the path.")
    if path.stat().st_size == 0:
        raise InputError(f"{path.name} is empty. Copy it again.")
    prepare()
    import torch

    try:
        try:
            named = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
        except (ValueError, RuntimeError, pickle.UnpicklingError):  # the format of torch before 1.6
            named = []
        with _GLOBALS_LOCK, torch.serialization.safe_globals([(_Inert, name) for name in named]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError as error:
        raise OutOfMemoryError(f"The memory of this computer is too small to read {path.name}.") from error
    except Exception as error:  # a damaged file can raise anything from inside of the unpickler
        raise InputError(
            f"{path.name} cannot be read as a PyTorch checkpoint. If micro_sam's training wrote it, export it with "
            "micro_sam.util.export_custom_sam_model; otherwise copy it again."
        ) from error
    if not isinstance(content, dict):
        raise _not_a_model(path, "it is no dictionary of weights")
    return content


def _tensors(path: Path, found: dict[str, Any]) -> dict[str, Any]:
    """The entries as contiguous float32 (integers as they are). Raises `InputError` for anything but finite tensors."""
    import torch

    made = {}
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise _not_a_model(path, f"its entry {str(name)[:60]!r} is no tensor")
        tensor = value.detach()
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise _not_a_model(path, f"its weights {name} hold values that are not numbers; the training failed")
        made[name] = tensor.contiguous()
    return made


def _plain(name: Any) -> Any:
    return name.removeprefix(PREFIX) if isinstance(name, str) else name


def _expected(architecture: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights of an architecture."""
    import torch

    package = "mobile_sam" if architecture == TINY else "segment_anything"
    if importlib.util.find_spec(package) is None:
        wanted = "mobilesam-mirror" if architecture == TINY else "segment-anything-py"
        raise NotInstalledError(f"A model of type {architecture} needs the package {wanted}. Run: pip install {wanted}")
    registry = importlib.import_module(package).sam_model_registry
    if architecture == TINY:  # its code computes while it builds, and cannot do so without memory
        model = registry[architecture]()
    else:
        with torch.device("meta"):
            model = registry[architecture]()
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def _compare(
    path: Path, weights: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]], architecture: str
) -> None:
    missing = [name for name in expected if name not in weights]
    if missing:
        raise _not_a_model(path, f"of {architecture} it lacks {len(missing)} parts, such as {missing[0]}")
    extra = [name for name in weights if name not in expected]
    if extra:
        raise _not_a_model(path, f"it has {len(extra)} parts that {architecture} has not, such as {extra[0][:80]}")
    for name, shape in expected.items():
        found = tuple(weights[name].shape)
        if found != shape:
            raise _not_a_model(path, f"its part {name} has the shape {found}, and that of {architecture} is {shape}")


def _not_a_model(path: Path, reason: str) -> InputError:
    return InputError(
        f"{path.name} is not a model that micro_sam can use: {reason}. Choose a checkpoint of Segment Anything "
        "(vit_t, vit_b, vit_l or vit_h), or one that micro_sam trained."
    )
