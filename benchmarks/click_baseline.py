"""The usual way to click on an image in Gradio, to compare with: `gr.Image` with `select`.

The server runs the built-in click method on the same image, lays the new mask over the picture with those found
before, and sends all of it back. Time is taken inside the page from the pointer event to the frame after the new
picture was decoded.
"""

from __future__ import annotations

import gradio as gr
import numpy as np
from matplotlib import colormaps

from alapp.stages.annotate.watershed import SeededWatershed

FORMATS = ("jpeg", "webp")
OPACITY = 0.35
_WATCH = """() => {
    window.painted = [];
    let started = null;
    addEventListener('pointerdown', (event) => { started = event.timeStamp; }, true);
    const box = document.querySelector('#clicked');
    let shown = box.querySelector('img').src;
    new MutationObserver(async () => {
        const picture = box.querySelector('img');
        if (!picture || picture.src === shown || started === null) return;
        shown = picture.src;
        const since = started;
        await picture.decode();
        requestAnimationFrame(() => {
            const painted = new MessageChannel();
            painted.port1.onmessage = () => window.painted.push(performance.now() - since);
            painted.port2.postMessage(null);
        });
    }).observe(box, { subtree: true, childList: true, attributes: true, attributeFilter: ['src'] });
}"""
_WHERE = """([y, x]) => {
    const picture = document.querySelector('#clicked img');
    const rect = picture.getBoundingClientRect();
    const fitted = Math.min(rect.width / picture.naturalWidth, rect.height / picture.naturalHeight);
    const scale = getComputedStyle(picture).objectFit === 'scale-down' ? Math.min(1, fitted) : fitted;
    const left = rect.left + (rect.width - picture.naturalWidth * scale) / 2;
    const top = rect.top + (rect.height - picture.naturalHeight * scale) / 2;
    return [left + (x + 0.5) * scale, top + (y + 0.5) * scale];
}"""


def app(pixels: np.ndarray, kind: str) -> gr.Blocks:
    """A page for one image uint8 (Y, X, 1), sent as `kind` ("jpeg" or "webp"). It serves one visitor."""
    method = SeededWatershed()
    method.prepare("image", pixels)
    picture = np.repeat(pixels, 3, axis=-1)
    colours = (255 * np.array(colormaps["tab10"].colors)).astype(np.float32)
    found = 0

    def select(event: gr.SelectData) -> np.ndarray:
        nonlocal found
        x, y = event.index
        mask = method.segment("image", [(y, x)], [])
        picture[mask] = (1 - OPACITY) * picture[mask] + OPACITY * colours[found % len(colours)]
        found += 1
        return picture

    with gr.Blocks(title="Clicks") as blocks:
        image = gr.Image(picture, format=kind, interactive=False, elem_id="clicked", height=700)
        image.select(select, None, image, show_progress="hidden")
    return blocks


def opened(browser: object, url: str) -> object:
    """The page, ready for clicks, that notes in `painted` how long each picture took."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(url)
    page.wait_for_function("() => document.querySelector('#clicked img')?.complete")
    page.evaluate(_WATCH)
    return page


def click(page: object, y: int, x: int) -> float:
    """Milliseconds from the click at (y, x) to the painted picture."""
    page.bring_to_front()
    count = page.evaluate("window.painted.length") + 1
    page.mouse.click(*page.evaluate(_WHERE, [y, x]))
    page.wait_for_function("(n) => window.painted.length >= n", arg=count)
    return page.evaluate("window.painted.at(-1)")
