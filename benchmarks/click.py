"""Click to painted mask, opening a patch and painting, in a real browser against the real page.

    python -m benchmarks.click --json out.json [--clicks 60]

Patches with textured discs are annotated in headless Chromium with the built-in click method; the journal is written
to disk on every act, as always. All times are measured inside the page with `performance.now`, up to the frame after
the drawing. Figures:

- `click_median_ms_512`, `click_p95_ms_512`: from the pointer event to the mask, on a patch of 512 x 512.
- `click_median_ms_1024_300`, `click_p95_ms_1024_300`: on 1024 x 1024 with 300 objects accepted before.
- `baseline_median_ms_512`, `baseline_jpeg_median_ms_512`: the same clicks in `gr.Image` (see `click_baseline`), in its
  default format WebP and in JPEG, its fastest one, turn by turn with ours; `baseline_over_ours_512`,
  `baseline_jpeg_over_ours_512`: how many times faster ours is. The baseline keeps nothing, ours writes each click.
- `open_ms_1024_300`: from the click in the strip of patches to image and masks; median over two such patches in turn.
- `brush_worst_frame_ms`, `brush_p99_frame_ms`: time between frames while strokes are drawn over 1024 x 1024 with 300
  objects, each stroke saved while the next one is drawn.
- `empty_worst_frame_ms`, `empty_p99_frame_ms`: the control, the same mouse movements over a page without any script of
  ours, in the same run: frames that this machine itself drops.
- `plain_worst_frame_ms`, `plain_p99_frame_ms`: the same over a canvas of the same size that draws a line to the pointer
  and does nothing else: frames that this browser drops when it shows a canvas.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from alapp.domain import PatchRole
from alapp.rounds import importing
from alapp.rounds.annotate import annotation
from alapp.storage import catalogue
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Project
from alapp.storage.db import Store
from alapp.ui.annotate import annotate
from benchmarks import cli, click_baseline

SIZE, LARGE = 512, 1024
OBJECTS = 300
VIEWPORT = {"width": 1280, "height": 900}
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
        near = np.s_[max(0, y - r - 3) : y + r + 4, max(0, x - r - 3) : x + r + 4]
        distance = np.hypot(yy[near] - y, xx[near] - x)
        if taken[near][distance < r + 3].any():
            continue
        inside = np.zeros_like(taken)
        inside[near] = distance < r
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


def crowded(store: Store, spare: int) -> tuple[Project, np.ndarray]:
    """A project with two patches of 1024 x 1024 that hold 300 objects each, and the centres int (N, 2) of `spare`
    more discs of the first patch, which are not objects yet."""
    pictures = [discs(seed, OBJECTS + spare, LARGE, (7, 15)) for seed in (1, 2)]
    if any(len(centres) < OBJECTS + spare for _, centres in pictures):
        raise SystemExit("Not enough objects fit on the patch: ask for fewer clicks.")
    made = project(store, np.concatenate([pixels for pixels, _ in pictures], axis=1), LARGE, "crowded")
    yy, xx = np.mgrid[:LARGE, :LARGE]
    for patch, (_, centres) in zip(catalogue.patches(store, made.id), pictures, strict=True):
        labels = np.zeros((LARGE, LARGE), np.int32)
        for number, (y, x) in enumerate(centres[:OBJECTS], start=1):
            near = np.s_[max(0, y - 8) : y + 9, max(0, x - 8) : x + 9]
            labels[near][np.hypot(yy[near] - y, xx[near] - x) < 7] = number
        annotation.submit_labels(store, patch.id, labels, "benchmark")
        annotation.reopen(store, patch.id, "benchmark")
    return made, pictures[0][1][OBJECTS:]


def opened(browser: object, url: str) -> object:
    """The Annotate page, ready for clicks, that notes in `painted` how long each mask took."""
    page = browser.new_page(viewport=VIEWPORT)
    page.goto(url)
    page.wait_for_selector(".ann[data-slice]")
    ready(page)
    page.evaluate(
        """() => {
            window.painted = [];
            document.querySelector('.ann').addEventListener('ann-painted', (e) => window.painted.push(e.detail.ms));
        }"""
    )
    return page


def ready(page: object) -> None:
    """Wait until the click method knows the slice."""
    page.wait_for_function(
        """() => {
            const text = document.querySelector('.ann [data-part="method"]').textContent;
            return text && !text.startsWith('getting');
        }"""
    )


def click(page: object, y: int, x: int) -> float:
    """Milliseconds from the click at (y, x) to the painted mask, which is then accepted."""
    count = page.evaluate("window.painted.length") + 1
    rows = page.locator(".ann [data-object]").count() + 1
    page.bring_to_front()
    page.mouse.click(*where(page, int(y), int(x)))
    page.wait_for_function("(n) => window.painted.length >= n", arg=count)
    page.keyboard.press("Enter")
    page.wait_for_function("(n) => document.querySelectorAll('.ann [data-object]').length >= n", arg=rows)
    return page.evaluate("window.painted.at(-1)")


def open_patch(page: object, index: int) -> float:
    """Milliseconds from the click on a patch in the strip to the frame after its image and masks are drawn."""
    page.evaluate(
        """(index) => {
            const root = document.querySelector('.ann');
            const entry = root.querySelectorAll('[data-part="patches"] [data-patch]')[index];
            const wanted = entry.dataset.patch;
            window.opening = new Promise((resolve) => {
                let started = 0;
                const begin = (event) => { started = event.timeStamp; };
                entry.addEventListener('click', begin, { once: true, capture: true });
                const watch = new MutationObserver(() => {
                    if (root.dataset.patch !== wanted || !root.dataset.slice?.startsWith(`${wanted}/`)) return;
                    watch.disconnect();
                    requestAnimationFrame(() => {
                        const painted = new MessageChannel();
                        painted.port1.onmessage = () => resolve(performance.now() - started);
                        painted.port2.postMessage(null);
                    });
                });
                watch.observe(root, { attributes: true });
            });
        }""",
        index,
    )
    page.locator('.ann [data-part="patches"] [data-patch]').nth(index).click()
    spent = page.evaluate("window.opening")
    ready(page)
    return spent


def brush(page: object, strokes: int) -> list[float]:
    """Milliseconds between frames while `strokes` strokes are drawn; two strokes make one object."""
    page.bring_to_front()
    page.keyboard.press("Escape")
    page.keyboard.press("b")
    frames = frames_of_strokes(page, strokes, lambda y, x: where(page, y, x))
    page.wait_for_selector('.ann [data-part="save"][data-saved="true"]')
    return frames


PLAIN = """() => {
    const canvas = document.querySelector('canvas');
    const context = canvas.getContext('2d');
    context.lineWidth = 20;
    context.lineCap = 'round';
    let last = null;
    canvas.addEventListener('pointermove', (event) => {
        const at = [event.offsetX, event.offsetY];
        if (event.buttons && last) {
            context.beginPath();
            context.moveTo(...last);
            context.lineTo(...at);
            context.stroke();
        }
        last = at;
    });
}"""


def control(browser: object, strokes: int, script: str = "") -> list[float]:
    """Milliseconds between frames of the movements of `brush`, over a page that does nothing, or what `script` does."""
    page = browser.new_page(viewport=VIEWPORT)
    side = VIEWPORT["height"] - 20
    page.set_content(f'<canvas width="{side}" height="{side}"></canvas>')
    if script:
        page.evaluate(script)
    scale = side / LARGE
    frames = frames_of_strokes(page, strokes, lambda y, x: (10 + x * scale, 10 + y * scale))
    page.close()
    return frames


def frames_of_strokes(page: object, strokes: int, position: Callable[[int, int], tuple[float, float]]) -> list[float]:
    """Milliseconds between frames from the press of each stroke to its release; `position` of pixel (y, x)."""
    page.evaluate(
        """() => {
            window.frames_ms = [];
            let last = null;
            window.drawing = false;
            const tick = (now) => {
                if (window.drawing && last !== null) window.frames_ms.push(now - last);
                last = window.drawing ? now : null;
                requestAnimationFrame(tick);
            };
            requestAnimationFrame(tick);
        }"""
    )
    rng = np.random.default_rng(0)
    for number in range(strokes):
        if number % 2 == 0:
            page.keyboard.press("Enter")
        start, end = rng.integers(40, LARGE - 40, (2, 2))
        middle = rng.integers(40, LARGE - 40, 2)
        page.mouse.move(*position(*map(int, start)))
        page.evaluate("window.drawing = true")
        page.mouse.down()
        page.mouse.move(*position(*map(int, middle)), steps=60)
        page.mouse.move(*position(*map(int, end)), steps=60)
        page.mouse.up()
        page.evaluate("window.drawing = false")
    return page.evaluate("window.frames_ms")


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


def in_turn(browser: object, store: Store, wanted: int) -> dict[str, list[float]]:
    """Milliseconds of the same clicks on our page and on both baselines, one after the other; the first is left out."""
    pixels, centres = discs(0, wanted + 1)
    if len(centres) < wanted + 1:
        raise SystemExit(f"Only {len(centres) - 1} objects fit on the patch: ask for fewer clicks.")
    made = project(store, pixels)
    apps = [annotate.standalone(store, made.id)]
    apps += [click_baseline.app(pixels, kind) for kind in click_baseline.FORMATS]
    try:
        urls = [app.launch(prevent_thread_lock=True, quiet=True)[1] for app in apps]
        ours = opened(browser, urls[0])
        theirs = [click_baseline.opened(browser, url) for url in urls[1:]]
        times: dict[str, list[float]] = {name: [] for name in ("ours", *click_baseline.FORMATS)}
        for y, x in centres:
            times["ours"].append(click(ours, y, x))
            for name, page in zip(click_baseline.FORMATS, theirs, strict=True):
                times[name].append(click_baseline.click(page, int(y), int(x)))
        for page in (ours, *theirs):
            page.close()
    finally:
        for app in apps:
            app.close()
    return {name: spent[1:] for name, spent in times.items()}


def large(browser: object, store: Store, clicks: int, opens: int, strokes: int) -> dict[str, list[float]]:
    """Milliseconds of clicks, opens and frames of strokes on patches with 300 objects; the first are left out."""
    made, centres = crowded(store, clicks + 1)
    app = annotate.standalone(store, made.id)
    try:
        page = opened(browser, app.launch(prevent_thread_lock=True, quiet=True)[1])
        clicked = [click(page, y, x) for y, x in centres]
        opening = [open_patch(page, (number + 1) % 2) for number in range(opens + 2)]
        frames = brush(page, strokes)
        page.close()
    finally:
        app.close()
    return {"click": clicked[1:], "open": opening[2:], "frame": frames}


def main() -> None:
    """Run the benchmark; see the module's docstring."""
    from playwright.sync_api import sync_playwright

    arguments = cli.parser(__doc__ or "")
    arguments.add_argument("--clicks", type=int, default=60, help="clicks that are timed (default 60)")
    options = arguments.parse_args()
    wanted = 10 if options.quick else options.clicks
    opens, strokes = (4, 4) if options.quick else (12, 12)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = str(CHROMIUM) if CHROMIUM.exists() else None
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        # The app keeps a connection open too.
        stores = Store(Path(folder) / "small"), Store(Path(folder) / "large")
        with stores[0].kept_open(), stores[1].kept_open():
            small = in_turn(browser, stores[0], wanted)
            crowd = large(browser, stores[1], min(wanted, 30), opens, strokes)
        crowd |= {"empty": control(browser, strokes), "plain": control(browser, strokes, PLAIN)}
        browser.close()
    medians = {name: float(np.median(times)) for name, times in (small | crowd).items()}
    figures = {
        "click_median_ms_512": medians["ours"],
        "click_p95_ms_512": float(np.percentile(small["ours"], 95)),
        "baseline_median_ms_512": medians["webp"],
        "baseline_jpeg_median_ms_512": medians["jpeg"],
        "baseline_over_ours_512": medians["webp"] / medians["ours"],
        "baseline_jpeg_over_ours_512": medians["jpeg"] / medians["ours"],
        "click_median_ms_1024_300": medians["click"],
        "click_p95_ms_1024_300": float(np.percentile(crowd["click"], 95)),
        "open_ms_1024_300": medians["open"],
        "brush_worst_frame_ms": max(crowd["frame"]),
        "brush_p99_frame_ms": float(np.percentile(crowd["frame"], 99)),
        "empty_worst_frame_ms": max(crowd["empty"]),
        "empty_p99_frame_ms": float(np.percentile(crowd["empty"], 99)),
        "plain_worst_frame_ms": max(crowd["plain"]),
        "plain_p99_frame_ms": float(np.percentile(crowd["plain"], 99)),
    }
    figures = {name: round(value, 2 if "over" in name else 1) for name, value in figures.items()}
    settings = {
        "clicks": {name: len(small[name]) for name in small} | {"1024_300": len(crowd["click"])},
        "opens": len(crowd["open"]),
        "strokes": strokes,
        "frames": len(crowd["frame"]),
        "frames_over_32_ms": {name: int(np.sum(np.array(crowd[name]) > 32)) for name in ("frame", "empty", "plain")},
        "method": "watershed",
    }
    cli.write(options.json, figures, settings | cli.machine("gradio", "playwright", "scikit-image"))


if __name__ == "__main__":
    main()
