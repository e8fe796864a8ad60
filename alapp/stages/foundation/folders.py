"""Where weights and settings of this computer's user lie. Every folder can be moved by an environment variable."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

MODELS_VARIABLE = "ALAPP_MODELS_DIR"
CONFIG_VARIABLE = "ALAPP_CONFIG_DIR"
MICROSAM_VARIABLE = "MICROSAM_CACHEDIR"
DEEPCELL_VARIABLE = "ALAPP_DEEPCELL_DIR"


def models() -> Path:
    """The app's own models folder: checkpoints of the user's own, SAM 2, and what a removal can bring back."""
    return _given(MODELS_VARIABLE) or platformdirs.user_data_path("alapp", appauthor=False) / "models"


def config() -> Path:
    """What the user accepted and entered on this computer; see `access`."""
    return _given(CONFIG_VARIABLE) or platformdirs.user_config_path("alapp", appauthor=False)


def microsam() -> Path:
    """Where micro_sam itself looks for weights: `MICROSAM_CACHEDIR`, or pooch's cache of the operating system."""
    given = _given(MICROSAM_VARIABLE)
    if given is None:
        import pooch

        given = Path(os.path.expanduser(pooch.os_cache("micro_sam")))
    return given / "models"


def deepcell() -> Path:
    """Where CellSAM itself looks for weights; they lie in a folder for each version, such as `cellsam_v1.2`."""
    return _given(DEEPCELL_VARIABLE) or Path.home() / ".deepcell" / "models"


def sam2() -> Path:
    """Where the app keeps the weights of SAM 2, whose package has no place of its own for them."""
    return models() / "sam2"


def of_backend(backend: str) -> Path:
    """The folder of the weights of `backend`: "micro_sam", "cellsam" or "sam2"."""
    return {"micro_sam": microsam, "cellsam": deepcell, "sam2": sam2}[backend]()


def _given(variable: str) -> Path | None:
    text = os.environ.get(variable, "").strip()
    return Path(text).expanduser() if text else None
