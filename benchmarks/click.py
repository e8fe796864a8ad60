"""Click to painted mask, in a real browser against the real page.

    python -m benchmarks.click --json out.json [--clicks 60]

A patch of 512 x 512 with textured discs is annotated in headless Chromium with the built-in click method. Each
click is timed inside the page with `performance.now`, from the pointer event to the frame after the mask was
drawn; the journal is written to disk on every click, as always. Figures: `click_median_ms_512`,
`click_p95_ms_512`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from alapp.domain import PatchRole
from alapp.rounds import importing
from alapp.storage import catalogue
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Project
from alapp.storage.db import Store
from alapp.ui import annotate
from benchmarks import cli

SIZE = 512
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def discs(seed: int, n: int, size: int = SIZE, radius: tuple[int, int] = (9, 22)) -> tuple[np.ndarray, np.ndarray]:
    """(image uint8 (Y, X, 1), centres int (N, 2) as (y, x)): bright, textured discs that do not touch, on noise."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:size, :size]
    image, taken, centres = rng.normal(50, 8, (size, size)), np.zeros((size, size), bool), []
    for _ in range(n * 200):
        if len(centres) == n:
            break
        r = int(rng.integers(*radius))
        y, x = rng.integers(r + 1, size - r - 1, 2)
        distance = np.hypot(yy - y, xx - x)
        if taken[distance < r + 3].any():
            continue
        inside = distance < r
        taken |= inside
        image[inside] = rng.normal(rng.uniform(110, 200), 14, np.count_nonzero(inside))
        centres.append((y, x))
    return image.clip(0, 255).astype(np.uint8)[..., None], np.array(centres)


def project(store: Store, pixels: np.ndarray, patch_size: int = SIZE, name: str = "clicks") -> Project:
    """A project with one image and a round that selected all of its patches, in order."""
    made = catalogue.create_project(store, name, patch_size=patch_size)
    importing.add_array(store, made.id, "cells", pixels)
    patches = catalogue.patches(store, made.id)
    picks = [(patch.id, PatchRole.TRAIN, {"sentence": "chosen for the test"}) for patch in patches]
    round_rows.add(store, made.id, "random", len(picks), made.seed, picks)
    return made


def measure(url: str, centres: np.ndarray) -> list[float]:
    """Milliseconds of one click on each centre, accepted before the next one; the first click is not counted."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = str(CHROMIUM) if CHROMIUM.exists() else None
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(url)
        page.wait_for_selector(".ann[data-slice]")
        page.evaluate(
            """() => {
                window.painted = [];
                document.querySelector('.ann').addEventListener('ann-painted', (e) => window.painted.push(e.detail.ms));
            }"""
        )
        for count, (y, x) in enumerate(centres, start=1):
            page.mouse.click(*where(page, int(y), int(x)))
            page.wait_for_function("(n) => window.painted.length >= n", arg=count)
            page.keyboard.press("Enter")
            page.wait_for_function("(n) => document.querySelectorAll('.ann [data-object]').length >= n", arg=count)
        times = page.evaluate("window.painted")
        browser.close()
    return times[1:]


def where(page: object, y: int, x: int) -> tuple[float, float]:
    """Position in the window, (x, y) as the browser counts, of the middle of pixel (y, x) of the patch."""
    found = page.evaluate(
        """([y, x]) => {
            const rect = document.querySelector('.ann canvas').getBoundingClientRect();
            const { scale, left, top } = document.querySelector('.ann').viewTransform();
            return [rect.left + left + (x + 0.5) * scale, rect.top + top + (y + 0.5) * scale];
        }""",
        [y, x],
    )
    return found[0], found[1]


def main() -> None:
    """Run the benchmark; see the module's docstring."""
    arguments = cli.parser(__doc__ or "")
    arguments.add_argument("--clicks", type=int, default=60, help="clicks that are timed (default 60)")
    options = arguments.parse_args()
    wanted = 10 if options.quick else options.clicks
    pixels, centres = discs(0, wanted + 1)
    if len(centres) < wanted + 1:
        arguments.error(f"only {len(centres) - 1} objects fit on the patch: ask for fewer clicks")
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        made = project(store, pixels)
        blocks = annotate.standalone(store, made.id)
        _, url, _ = blocks.launch(prevent_thread_lock=True, quiet=True)
        try:
            times = measure(url, centres)
        finally:
            blocks.close()
    figures = {
        "click_median_ms_512": round(float(np.median(times)), 1),
        "click_p95_ms_512": round(float(np.percentile(times, 95)), 1),
    }
    settings = {"clicks": len(times), "method": "watershed", "size": [SIZE, SIZE]}
    cli.write(options.json, figures, settings | cli.machine("gradio", "playwright", "scikit-image"))


if __name__ == "__main__":
    main()
