"""The process's environment and the machine it runs on.

`prepare()` must run before torch is imported. `import alapp` calls it, so every process that imports
anything of this package first is prepared; processes that multiprocessing spawns are too, because they
inherit `os.environ` and re-import the main module, which imports `alapp`.

The remedy for torchvision: beside a CPU-only torch, PyPI's torchvision is the CUDA build, whose compiled
operators cannot load, and `import torchvision` (so timm, lightly, micro_sam, segment_anything) fails with
"operator torchvision::nms does not exist". An import hook waits for the module in which torchvision loads
its operators and, only if that failed, defines the two that the import needs. Nothing is imported early,
and a working torchvision is left alone.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036  (the first module that is imported: the next ones need a newer Python)
    sys.stderr.write(f"This app needs Python 3.11 or newer; this is {sys.version.split()[0]}. ")
    sys.stderr.write("Start it with the Python of its own environment, as the README says.\n")
    sys.exit(2)

import contextlib
import importlib.abc
import importlib.machinery
import os
import shutil
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from alapp.domain import Machine

if TYPE_CHECKING:
    import torch

_PLACEHOLDER = Path(tempfile.gettempdir()) / "alapp-nnunet"

DEFAULTS = {
    # Spinning OpenMP threads slow every other process down, several times over on a small machine.
    "OMP_WAIT_POLICY": "PASSIVE",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "MPLBACKEND": "Agg",
    "nnUNet_compile": "f",
    "nnUNet_def_n_proc": "2",
    # Augmentation processes outlive a killed trainer; with 0 there are none.
    "nnUNet_n_proc_DA": "0",
    # nnunetv2 warns when these are missing; the app passes its own folders and never uses them.
    "nnUNet_raw": str(_PLACEHOLDER / "raw"),
    "nnUNet_preprocessed": str(_PLACEHOLDER / "preprocessed"),
    "nnUNet_results": str(_PLACEHOLDER / "results"),
}
OWN_NAMES = ("localhost", "127.0.0.1", "::1")
"""Names of this computer that are never asked of a proxy."""


def prepare() -> None:
    """Set the defaults of `DEFAULTS` that the user did not set, and install the torchvision remedy.

    Idempotent, takes well under a millisecond, imports neither torch nor torchvision.
    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    fix_torchvision()


def bypass_proxy(*hosts: str) -> None:
    """Let this process reach itself, under `OWN_NAMES` and `hosts`, past the proxy of the network, if there is one.

    What Gradio asks its own page with knows no exceptions but those of the variable NO_PROXY, and cannot even be
    imported with a proxy that does not speak HTTP (`socks5://`): such a one is taken out of this process, and stays in
    `inherited`. All else goes through the proxy as before. Before Gradio is imported.
    """
    from urllib.request import getproxies

    for name in list(os.environ):
        if name.lower().endswith("_proxy") and name.lower() != "no_proxy" and not _speaks_http(os.environ[name]):
            _set_aside[name] = os.environ.pop(name)
    proxies = getproxies()
    known = [name.strip() for name in proxies.pop("no", "").split(",") if name.strip()]
    if not proxies or "*" in known:
        return
    for scheme, address in proxies.items():  # the system's own settings count only while no variable is set
        if _speaks_http(address):
            os.environ.setdefault(f"{scheme}_proxy", address)
        else:
            _set_aside.setdefault(f"{scheme}_proxy", address)
    direct = ",".join(dict.fromkeys([*known, *OWN_NAMES, *hosts]))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = direct


_set_aside: dict[str, str] = {}


def inherited() -> dict[str, str]:
    """The environment for a process that downloads: with the proxies that `bypass_proxy` took out of this one."""
    return {**os.environ, **_set_aside}


def _speaks_http(proxy: str) -> bool:
    """Whether a proxy's address is one of HTTP, or empty, which switches it off. Without a scheme it is."""
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        return not proxy or (parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0)
    except ValueError:
        return False


def fix_torchvision() -> None:
    """Make `import torchvision` work where only its compiled operators are broken. Idempotent, lazy.

    Must run before timm, lightly, micro_sam or segment_anything is imported. It also mends a process in
    which the import of torchvision has failed already: the next import works.
    """
    if not any(isinstance(finder, _TorchvisionFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TorchvisionFinder())
    for name, patch in _PATCHES.items():
        if name in sys.modules:
            patch(sys.modules[name])


def torchvision_remedied() -> bool:
    """Whether this process runs with the replaced operators (False before torchvision is imported)."""
    return bool(_libraries)


_libraries: list[torch.library.Library] = []  # a Library that is collected takes its operators with it


def _define_operators(extension: ModuleType) -> None:
    """Runs when `torchvision.extension` is loaded: defines what `import torchvision` looks up."""
    import torch

    if extension._has_ops() or hasattr(torch.ops.torchvision, "nms"):
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        for device in ("CPU", "CUDA"):
            library.impl(name, nms, device)
    _libraries.append(library)


def _allow_nms(boxes: ModuleType) -> None:
    """Runs when `torchvision.ops.boxes` is loaded: `nms` there first asks for the compiled operators."""
    if _libraries:
        boxes._assert_has_ops = lambda: None


_PATCHES = {"torchvision.extension": _define_operators, "torchvision.ops.boxes": _allow_nms}


def nms(dets: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Non-maximum suppression with the meaning of `torchvision.ops.nms`.

    `dets` (N, 4) boxes as (x1, y1, x2, y2), `scores` (N,). Goes through the boxes by falling score and
    drops every later one whose IoU with a kept box is above `iou_threshold`. Returns the int64 indices of
    the kept boxes, by falling score; ties keep their order. Raises `ValueError` for other shapes.
    """
    import torch

    if dets.dim() != 2 or dets.size(1) != 4 or scores.shape != dets.shape[:1]:
        raise ValueError(f"nms needs boxes (N, 4) and scores (N,), got {tuple(dets.shape)} and {tuple(scores.shape)}")
    order = scores.argsort(descending=True, stable=True)
    boxes = dets[order] if dets.is_floating_point() else dets[order].float()
    x1, y1, x2, y2 = boxes.unbind(1)
    area = (x2 - x1) * (y2 - y1)
    alive = torch.ones(len(order), dtype=torch.bool, device=dets.device)
    for i in range(len(order)):
        if not alive[i]:
            continue
        later = slice(i + 1, None)
        width = (torch.minimum(x2[i], x2[later]) - torch.maximum(x1[i], x1[later])).clamp(min=0)
        height = (torch.minimum(y2[i], y2[later]) - torch.maximum(y1[i], y1[later])).clamp(min=0)
        overlap = width * height
        alive[later] &= ~(overlap / (area[i] + area[later] - overlap) > iou_threshold)
    return order[alive]


class _TorchvisionFinder(importlib.abc.MetaPathFinder):
    """Finds the two modules of torchvision that are patched after loading, as Python itself would."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _PATCHES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _PatchingLoader(spec.loader)
        return spec


class _PatchingLoader(importlib.abc.Loader):
    """Another loader, and a patch once the module is loaded."""

    def __init__(self, loader: Any):
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _PATCHES[module.__name__](module)


@lru_cache(maxsize=1)
def machine() -> Machine:
    """What this computer has for the app: usable cores, memory, GPU. Found once per process.

    Cores and memory respect affinity and the limits of a container. torch is imported only where a driver
    of NVIDIA is installed, because only torch knows whether it can use the GPU.
    """
    import psutil

    ram = min(filter(None, (psutil.virtual_memory().total, _memory_limit())))
    name, gpu_gb = _gpu() if shutil.which("nvidia-smi") else ("", None)
    return Machine(cores=usable_cores(), ram_gb=round(ram / 2**30, 1), gpu_gb=gpu_gb, gpu_name=name)


def usable_cores() -> int:
    """Cores that this process may use: the smallest of the machine's, its affinity and its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _cgroup("cpu.max").partition(" ")
    if not quota:
        quota, period = _cgroup("cpu/cpu.cfs_quota_us"), _cgroup("cpu/cpu.cfs_period_us")
    with contextlib.suppress(ValueError):  # "max", or -1, or no such file: no quota
        if int(quota) > 0:
            cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def _memory_limit() -> int | None:
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(ValueError):
            return int(_cgroup(name))
    return None


def _cgroup(name: str) -> str:
    try:
        return Path("/sys/fs/cgroup", name).read_text().strip()
    except OSError:
        return ""


def _gpu() -> tuple[str, float | None]:
    try:
        import torch

        if not torch.cuda.is_available():
            return "", None
        properties = torch.cuda.get_device_properties(0)
    except (ImportError, OSError, RuntimeError):  # a broken torch finds no GPU; the doctor says what is wrong with it
        return "", None
    return properties.name, round(properties.total_memory / 2**30, 1)


def home_relative(path: Path) -> str:
    """A path for a sentence to the user, with "~" for the home folder."""
    try:
        return f"~/{path.relative_to(Path.home()).as_posix()}"
    except ValueError:
        return str(path)
