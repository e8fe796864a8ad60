"""What click and automatic methods cost on this computer, and what this app adds to bare micro_sam.

    python -m benchmarks.segmenters --json out.json [--quick] [--only watershed micro_sam_vit_t]

Each method runs in a process of its own, on one image of 256 x 256 with bright discs. micro_sam gets weights drawn
from a seed, made in a temporary folder: times and memory are those of real ones, masks mean nothing. Methods that
cannot run here (`settings.left_out`) are left out. Figures, for each method NAME:

- `NAME_embed_s`: seconds until a slice that was never seen is ready for clicks, the model loaded; median.
- `NAME_click_ms`: from points to mask on a slice that is ready; median.
- `NAME_label_s`: of an automatic method: seconds for the image, the model loaded.
- `NAME_peak_mb`: the process's largest memory, Python and torch included.
- `NAME_ready_s`, `NAME_kept_ready_s`: seconds from nothing loaded (only imported) to the first mask, on a slice that
  was never seen, and on one whose embedding lies on disk. `NAME_kept_peak_mb`: largest memory in the second case.
- `NAME_float16_changes`: the share of clicks whose mask changes when the embedding is kept in float16, and
  `NAME_float32_changes` in float32, as the app does it (has to be 0).
- `NAME_click_overhead`, `NAME_embed_overhead`: our median over that of the same call to bare micro_sam, turn by turn
  in one run; `wrapper_overhead_max`: the largest of them.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alapp.domain import Modality
from alapp.environment import prepare
from benchmarks import cli

SIZE = 256
ARCHITECTURES = ("vit_t", "vit_b")
KEPT = "kept"
MB = 2**20


def image(seed: int = 0) -> np.ndarray:
    """Bright discs on noise, uint8 (Y, X, 1)."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:SIZE, :SIZE]
    pixels = rng.normal(50, 8, (SIZE, SIZE))
    for y, x in rng.uniform(20, SIZE - 20, (12, 2)):
        pixels[(yy - y) ** 2 + (xx - x) ** 2 < 150] += 100
    return pixels.clip(0, 255).astype(np.uint8)[..., None]


def points(n: int) -> list[tuple[float, float]]:
    """`n` places of the image (y, x)."""
    return [tuple(place) for place in np.random.default_rng(1).uniform(5, SIZE - 5, (n, 2))]


def make_weights(folder: Path, architecture: str) -> None:
    """Weights of micro_sam drawn from a seed, with the name of those for light microscopy."""
    import torch
    from mobile_sam import sam_model_registry

    torch.manual_seed(0)
    (folder / "models").mkdir(exist_ok=True)
    torch.save(sam_model_registry[architecture]().state_dict(), folder / "models" / f"{architecture}_lm")


def seconds(act: Callable[[], object]) -> float:
    """How long `act` takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def peak_mb() -> float:
    """The largest memory of this process so far."""
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / MB
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MB if sys.platform == "darwin" else peak / 1024


def of_clicks(name: str, n: int) -> dict[str, float]:
    """Figures of a click method with weights that are here, or without any."""
    from alapp.stages.annotate.base import CLICK_SEGMENTERS

    method = CLICK_SEGMENTERS.create(name, modality=Modality.LIGHT)
    ready = seconds(lambda: (method.prepare("0", image(0)), method.segment("0", points(1), [])))
    embed = [seconds(lambda seed=seed: method.prepare(str(seed), image(seed))) for seed in range(1, 4)]
    click = [seconds(lambda point=point: method.segment("0", [point], [])) for point in points(n)]
    return {
        "ready_s": ready,
        "embed_s": statistics.median(embed),
        "click_ms": 1000 * statistics.median(click),
        "peak_mb": peak_mb(),
    }


def of_micro_sam(n: int, folder: Path) -> dict[str, float]:
    """The same, and what lies on disk afterwards for `of_kept`, what our own code adds, and what float16 would do."""
    from micro_sam import util
    from micro_sam.prompt_based_segmentation import segment_from_points

    from alapp.stages.annotate import microsam_model
    from alapp.stages.annotate.embedding_cache import EmbeddingCache
    from alapp.stages.annotate.microsam import MicroSamClicks, as_rgb

    figures = of_clicks("micro_sam", n)
    method = MicroSamClicks(Modality.LIGHT)
    weights = method._weights()
    cache = EmbeddingCache(folder / KEPT)
    method.keep_in(cache)
    method.prepare("0", image(0))
    with microsam_model.own_unpickler():
        bare = util.get_sam_model(weights.architecture, checkpoint_path=str(weights.path))
    pixels = as_rgb(image(0))
    whole = util.precompute_image_embeddings(bare, pixels, ndim=2, verbose=False)

    def bare_click(point: tuple[float, float], embedding: Mapping[str, Any] = whole) -> np.ndarray:
        return segment_from_points(bare, np.array([point]), np.array([1]), image_embeddings=embedding)[0]

    def in_turns(ours: Callable[[Any], object], theirs: Callable[[Any], object], turns: list[Any]) -> float:
        times = [(seconds(lambda turn=turn: ours(turn)), seconds(lambda turn=turn: theirs(turn))) for turn in turns]
        mine, others = zip(*times, strict=True)
        return statistics.median(mine) / statistics.median(others)

    half = {**whole, "features": whole["features"].astype(np.float16).astype(np.float32)}
    changes = {"float16": 0, "float32": 0}
    for point in points(n):
        expected = bare_click(point)
        changes["float16"] += not np.array_equal(bare_click(point, half), expected)
        changes["float32"] += not np.array_equal(method.segment("0", [point], []), expected)
    fresh = MicroSamClicks(Modality.LIGHT)
    slices = [(str(seed), image(seed)) for seed in range(10, 10 + max(3, n // 10))]
    return {
        **figures,
        "click_overhead": in_turns(lambda point: method.segment("0", [point], []), bare_click, points(n)),
        "embed_overhead": in_turns(
            lambda slice_: fresh.prepare(*slice_),
            lambda slice_: util.precompute_image_embeddings(bare, slice_[1][..., 0], ndim=2, verbose=False),
            slices,
        ),
        **{f"{kind}_changes": count / n for kind, count in changes.items()},
    }


def of_kept(folder: Path) -> dict[str, float]:
    """What a click costs in a new process when the embedding lies on disk: the encoder must not be loaded."""
    import micro_sam.util  # noqa: F401  (its import is not what is measured)

    from alapp.stages.annotate.embedding_cache import EmbeddingCache
    from alapp.stages.annotate.microsam import MicroSamClicks
    from alapp.stages.foundation.residency import RESIDENTS

    method = MicroSamClicks(Modality.LIGHT)
    method.keep_in(EmbeddingCache(folder / KEPT))
    ready = seconds(lambda: (method.prepare("0", image(0)), method.segment("0", points(1), [])))
    assert [name[0] for name in RESIDENTS.names()] == ["micro_sam decoder"]
    return {"kept_ready_s": ready, "kept_peak_mb": peak_mb()}


def of_automatic(name: str) -> dict[str, float]:
    """Figures of a method that labels by itself."""
    from alapp.stages.pseudolabel.base import PSEUDO_LABELLERS

    backend = PSEUDO_LABELLERS.load(name)
    method = backend(next(iter(sorted(backend.modalities))))
    defaults = {parameter.name: parameter.default for parameter in backend.parameters}
    method.label(image(0), defaults)
    return {"label_s": seconds(lambda: method.label(image(1), defaults)), "peak_mb": peak_mb()}


def runs() -> tuple[dict[str, list[str]], dict[str, str]]:
    """What each method's process is asked, and why others are left out."""
    from alapp.stages.annotate.base import CLICK_SEGMENTERS
    from alapp.stages.foundation.choice import missing_packages
    from alapp.stages.pseudolabel.base import PSEUDO_LABELLERS

    found: dict[str, list[str]] = {}
    left_out: dict[str, str] = {}
    for name in CLICK_SEGMENTERS:
        if name == "micro_sam":
            for architecture in ARCHITECTURES:
                if missing := missing_packages(architecture):
                    left_out[f"micro_sam_{architecture}"] = f"missing: {', '.join(missing)}"
                else:
                    found[f"micro_sam_{architecture}"] = ["micro_sam", architecture]
        elif (status := CLICK_SEGMENTERS.load(name).status()).ready:
            found[name] = ["clicks", name]
        else:
            left_out[name] = status.detail
    for name in PSEUDO_LABELLERS:
        status = PSEUDO_LABELLERS.load(name).status()
        if status.ready:
            found[f"auto_{name}"] = ["automatic", name]
        else:
            left_out[f"auto_{name}"] = status.detail
    return found, left_out


def in_process(asked: list[str], n: int, folder: Path) -> dict[str, float]:
    """The figures that a new process prints on its last line."""
    command = [sys.executable, "-m", "benchmarks.segmenters", "--one", json.dumps([asked, n, str(folder)])]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ})
    return json.loads(ended.stdout.splitlines()[-1])


def one(asked: list[str], n: int, folder: Path) -> dict[str, float]:
    """In the new process."""
    prepare()
    kind, name = asked
    if kind in ("micro_sam", KEPT):
        os.environ["MICROSAM_CACHEDIR"] = str(folder)
    if kind == "weights":
        make_weights(folder, name)
        return {}
    if kind == "micro_sam":
        return of_micro_sam(n, folder)
    if kind == KEPT:
        return of_kept(folder)
    return of_clicks(name, n) if kind == "clicks" else of_automatic(name)


def main() -> None:
    """Entry point."""
    arguments = cli.parser(__doc__)
    arguments.add_argument("--only", nargs="+", metavar="NAME", help="measure these methods only")
    arguments.add_argument("--one", help="(for its own processes)")
    options = arguments.parse_args()
    if options.one:
        asked, n, folder = json.loads(options.one)
        print(json.dumps(one(asked, n, Path(folder))))
        return
    n = 10 if options.quick else 60
    found, left_out = runs()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    figures: dict[str, float] = {}
    for name, asked in found.items():
        if options.only and name not in options.only:
            continue
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            if asked[0] == "micro_sam":
                in_process(["weights", asked[1]], n, folder)
            made = in_process(asked, n, folder)
            if asked[0] == "micro_sam":
                made |= in_process([KEPT, asked[1]], n, folder)
        figures |= {f"{name}_{figure}": round(value, 4) for figure, value in made.items()}
    overheads = [value for name, value in figures.items() if name.endswith("_overhead")]
    if overheads:
        figures["wrapper_overhead_max"] = max(overheads)
    settings = {
        **cli.machine("torch", "micro_sam", "mobilesam-mirror"),
        "clicks": n,
        "size": SIZE,
        "left_out": left_out,
        "load_before": load,
        "load_after": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }
    cli.write(options.json, figures, settings)


if __name__ == "__main__":
    main()
