"""What all benchmarks share: their arguments, the settings of the machine and the file they write."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def parser(description: str) -> argparse.ArgumentParser:
    """Arguments `--json OUT` and `--quick`, to which a benchmark may add its own."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--json", type=Path, metavar="OUT", help="write the figures to this file")
    arguments.add_argument("--quick", action="store_true", help="a smaller run, to see that it works")
    return arguments


def machine(*packages: str) -> dict[str, object]:
    """Cores this process may use, platform, Python and the versions of `packages`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "cores": cores,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
    }


def write(out: Path | None, figures: Mapping[str, float], settings: Mapping[str, object]) -> None:
    """Print the figures, and write `{"figures": ..., "settings": ...}` to `out` where it is given."""
    for name, value in figures.items():
        print(f"{name:32} {value:g}")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({"figures": dict(figures), "settings": dict(settings)}, indent=2) + "\n")
