"""Core-set selection: the same picks as the algorithm as written, its speed, and its memory at a million patches.

The references are written from the algorithm (Sener & Savarese 2018, algorithm 1), not from the product's code:
`triple_loop` goes over picks, candidates and centres in Python, `distance_matrix` holds all n x n distances,
`plain_loop` compares every row with the newest centre. `--compare N K` measures seconds and peak memory of all at one
size, each in a process of its own; fpsample (PyPI, optional) is among them where it is installed.
`--compare 1000000 1000 --mapped` reads the embeddings from a memory-mapped file. The plain loop reckons in float32, the
product in float64: among a million random rows, picks that are all but equally far can differ.
"""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil

from alapp.stages.select.base import Context
from alapp.stages.select.coreset import CoreSet
from benchmarks import cli

SEEDS = (0, 1, 2, 3, 4)
N, WIDTH, K = 1024, 384, 128
MILLION, MILLION_K = 1_000_000, 64


def distance(a: list[float], b: list[float]) -> float:
    """Cosine distance, number by number."""
    dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
    return 1 - dot / math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))


def transcription(embeddings: np.ndarray, centres: list[int], k: int) -> list[int]:
    """Algorithm 1 word by word; every distance anew from the numbers."""
    rows = embeddings.astype(float).tolist()
    picks: list[int] = []
    for _ in range(k):
        best, best_row = -1.0, -1
        for i in range(len(rows)):
            if i in centres or i in picks:
                continue
            nearest = min(distance(rows[i], rows[j]) for j in [*centres, *picks])
            if nearest > best:
                best, best_row = nearest, i
        picks.append(best_row)
    return picks


def triple_loop(embeddings: np.ndarray, centres: list[int], k: int) -> list[int]:
    """The three loops in Python with numpy's dot product of unit rows in the innermost: a fast form of them."""
    rows = [row / np.linalg.norm(row) for row in embeddings.astype(np.float64)]
    taken = set(centres)
    chosen = list(centres)
    for _ in range(k):
        best, best_row = -1.0, -1
        for i, row in enumerate(rows):
            if i in taken:
                continue
            nearest = 3.0
            for j in chosen:
                d = 1 - row.dot(rows[j])
                if d < nearest:
                    nearest = d
            if nearest > best:
                best, best_row = nearest, i
        taken.add(best_row)
        chosen.append(best_row)
    return chosen[len(centres) :]


def distance_matrix(embeddings: np.ndarray, centres: list[int], k: int) -> list[int]:
    """With the whole n x n matrix, vectorised."""
    rows = embeddings.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    distances = 1 - rows @ rows.T
    nearest = distances[:, centres].min(axis=1)
    nearest[centres] = -np.inf
    picks = []
    for _ in range(k):
        row = int(np.argmax(nearest))
        picks.append(row)
        nearest = np.minimum(nearest, distances[:, row])
        nearest[row] = -np.inf
    return picks


def plain_loop(embeddings: np.ndarray, centres: list[int], k: int) -> list[int]:
    """Every row is compared with the newest centre, pick by pick; vectorised over rows."""
    norms = np.linalg.norm(embeddings, axis=1)
    nearest = np.full(len(embeddings), np.inf)

    def add(row: int) -> None:
        distance = 1 - (embeddings @ embeddings[row]) / (norms * norms[row])
        np.minimum(nearest, distance, out=nearest)
        nearest[row] = -np.inf

    for row in centres:
        add(row)
    picks: list[int] = []
    for _ in range(k):
        picks.append(int(np.argmax(nearest)))
        add(picks[-1])
    return picks


def farthest_points(embeddings: np.ndarray, centres: list[int], k: int) -> list[int]:
    """fpsample: farthest points by the Euclidean distance, which ranks unit rows as the cosine distance does."""
    import fpsample

    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    found = fpsample.fps_sampling(embeddings / norms, len(centres) + k, start_idx=list(centres))
    return [int(row) for row in found if row not in centres]


def coreset(embeddings: np.ndarray, centres: list[int], k: int) -> list[int]:
    """The product."""
    labelled = np.zeros(len(embeddings), dtype=bool)
    labelled[centres] = True
    return CoreSet()(embeddings, labelled, k, np.random.default_rng(0), Context()).rows.tolist()


def same_picks(quick: bool) -> bool:
    """Whether the product picks what the transcription picks, for several seeds, widths and numbers of centres."""
    n, k = (40, 8) if quick else (120, 16)
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        width = int(rng.integers(2, 24))
        embeddings = rng.standard_normal((n, width)).astype(np.float32)
        centres = rng.choice(n, size=int(rng.integers(1, 6)), replace=False).tolist()
        if transcription(embeddings, centres, k) != coreset(embeddings, centres, k):
            return False
    return True


def seconds(function, *arguments, repeats: int = 1) -> tuple[float, list[int]]:
    """The shortest of `repeats` runs, and what it returned."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function(*arguments)
        times.append(time.perf_counter() - start)
    return min(times), result


def speed(quick: bool) -> tuple[dict[str, float], bool]:
    """Times at n=1,024 with three centres, and whether all three agree."""
    n, k = (256, 32) if quick else (N, K)
    embeddings = np.random.default_rng(0).standard_normal((n, WIDTH)).astype(np.float32)
    centres = [0, 1, 2]
    fast, picks = seconds(coreset, embeddings, centres, k, repeats=7)
    matrix, picks_matrix = seconds(distance_matrix, embeddings, centres, k, repeats=7)
    loop, picks_loop = seconds(triple_loop, embeddings, centres, k)
    name = f"n{n}_k{k}"
    figures = {
        f"speedup_{name}": loop / fast,
        f"speedup_over_nxn_{name}": matrix / fast,
        f"seconds_{name}": fast,
        f"seconds_triple_loop_{name}": loop,
        f"seconds_nxn_{name}": matrix,
    }
    return figures, picks == picks_loop == picks_matrix


def unit_rows(n: int, width: int, clusters: int) -> np.ndarray:
    """Random unit rows, float32 (n, width), made in parts; around `clusters` directions where that is not 0."""
    rng = np.random.default_rng(0)
    rows = np.empty((n, width), dtype=np.float32)
    directions = rng.standard_normal((clusters, width), dtype=np.float32)
    for start in range(0, n, 10_000):
        part = rows[start : start + 10_000]
        rng.standard_normal(out=part, dtype=np.float32)
        if clusters:
            part *= 0.3
            part += directions[rng.integers(clusters, size=len(part))]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return rows


METHODS = {"product": coreset, "plain_loop": plain_loop, "nxn": distance_matrix, "fpsample": farthest_points}


def measured(method: str, n: int, k: int, clusters: int, start: int, mapped: bool) -> dict[str, object]:
    """Time and memory of one selection in this process, with `start` labelled rows.

    `seconds` on the clock, `cpu_seconds` of the processor, which other programs do not lengthen as much. `memory_mb` is
    the most the process held beyond the embeddings; files that are only mapped do not count.
    """
    process = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        embeddings = unit_rows(n, WIDTH, clusters)
        if mapped:
            np.save(Path(folder) / "rows.npy", embeddings)
            embeddings = np.load(Path(folder) / "rows.npy", mmap_mode="r")
        baseline, peak, stop = held(process), [held(process)], threading.Event()

        def watch() -> None:
            while not stop.wait(0.005):
                peak[0] = max(peak[0], held(process))

        watcher = threading.Thread(target=watch)
        watcher.start()
        cpu = process.cpu_times().user
        elapsed, picks = seconds(METHODS[method], embeddings, list(range(start)), k)
        cpu = process.cpu_times().user - cpu
        stop.set()
        watcher.join()
        size = embeddings.nbytes
        del embeddings  # Windows does not remove a file that is mapped
    if len(set(picks)) != k:
        raise AssertionError("the selection is not k different rows")
    ratio = (peak[0] - baseline + (0 if mapped else size)) / size
    return {
        "seconds": elapsed, "cpu_seconds": cpu, "memory_mb": (peak[0] - baseline) / 1e6, "memory_ratio": ratio,
        "picks": picks,
    }  # fmt: skip


def held(process: psutil.Process) -> int:
    """Bytes in memory, without pages of mapped files where the system tells them apart."""
    info = process.memory_info()
    return info.rss - getattr(info, "shared", 0)


def in_process(
    method: str, n: int, k: int, clusters: int = 0, start: int = 0, mapped: bool = False
) -> dict[str, object]:
    """`measured` in a fresh process, whose memory holds nothing else."""
    command = [sys.executable, "-m", "benchmarks.select", "--one", method, *map(str, (n, k, clusters, start))]
    if mapped:
        command.append("--mapped")
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def compare(n: int, k: int, mapped: bool) -> dict[str, float]:
    """Seconds and memory of every method that this computer can run at this size, with three labelled rows."""
    figures: dict[str, float] = {}
    picks: dict[str, list[int]] = {}
    for method in METHODS:
        if method == "fpsample" and importlib.util.find_spec("fpsample") is None:
            continue
        if method == "nxn" and 24 * n * n > psutil.virtual_memory().available:
            print(f"nxn is left out: the matrix of {n} x {n} distances takes {8 * n * n / 1e9:.0f} GB")
            continue
        if mapped and method != "product":
            continue  # they read all rows for every pick
        found = in_process(method, n, k, start=3, mapped=mapped)
        picks[method] = found.pop("picks")
        for name in ("seconds", "cpu_seconds", "memory_mb"):
            figures[f"{name}_{method}"] = found[name]
        figures[f"same_picks_{method}"] = float(picks[method] == picks["product"])
        print(f"{method}: {found['seconds']:.1f} s, {found['memory_mb']:.0f} MB", flush=True)
    return figures


def main() -> None:
    arguments = cli.parser(__doc__.splitlines()[0])
    arguments.add_argument("--one", nargs=5, metavar=("METHOD", "N", "K", "CLUSTERS", "START"), help="one selection")
    arguments.add_argument("--compare", nargs=2, type=int, metavar=("N", "K"), help="all methods at one size")
    arguments.add_argument("--mapped", action="store_true", help="embeddings in a memory-mapped file")
    options = arguments.parse_args()
    if options.one:
        print(json.dumps(measured(options.one[0], *map(int, options.one[1:]), options.mapped)))
        return
    if options.compare:
        settings = {
            **cli.machine("numpy", "fpsample"),
            "n": options.compare[0],
            "k": options.compare[1],
            "width": WIDTH,
        }
        cli.write(options.json, compare(*options.compare, options.mapped), {**settings, "mapped": options.mapped})
        return
    n = 50_000 if options.quick else MILLION
    times, agree = speed(options.quick)
    random, clustered = (in_process("product", n, MILLION_K, clusters) for clusters in (0, 200))
    size = f"{n // 1000}k" if options.quick else "1m"
    figures = {
        "same_picks": float(same_picks(options.quick) and agree),
        **times,
        f"memory_ratio_{size}": max(random["memory_ratio"], clustered["memory_ratio"]),
        f"seconds_{size}": random["seconds"],
        f"seconds_{size}_clustered": clustered["seconds"],
    }
    settings = {
        **cli.machine("numpy"),
        "quick": options.quick,
        "seeds": list(SEEDS),
        "width": WIDTH,
        "large": {"n": n, "k": MILLION_K, "start": "nothing labelled", "clusters": [0, 200]},
        "same_picks": "transcription in Python floats with fsum; also triple loop and n x n at the size of the timing",
        "triple_loop": "Python loops, numpy dot product of unit rows per pair, timed in full",
    }
    cli.write(options.json, figures, settings)


if __name__ == "__main__":
    main()
