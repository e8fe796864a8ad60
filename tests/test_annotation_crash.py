"""kill -9 of the app while somebody annotates: everything that was accepted is there after a restart."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from alapp.domain import PatchRole
from alapp.rounds import importing
from alapp.rounds.annotate import annotation
from alapp.stages.annotate.masks import from_array
from alapp.storage import annotations, catalogue
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store
from tests.rounds.conftest import discs

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]

WRITER = """
import sys
import numpy as np
from alapp.rounds.annotate import annotation
from alapp.stages.annotate.masks import from_array
from alapp.storage.db import Store

store = Store(sys.argv[1])
for i in range(10_000):
    pixels = np.zeros((64, 64), bool)
    pixels[i // 64 % 64, i % 64] = True
    annotation.accept(store, 1, "writer", from_array(pixels), overlap="replace")
    print(i + 1, flush=True)
"""

SERVER = """
import sys
from alapp.storage.db import Store
from alapp.ui.annotate import annotate

annotate.standalone(Store(sys.argv[1]), 1).launch(server_port=int(sys.argv[2]), quiet=True)
"""


@pytest.fixture
def patch(store):
    made = catalogue.create_project(store, "clicks", patch_size=64)
    importing.add_array(store, made.id, "cells", discs(0)[0])
    patches = catalogue.patches(store, made.id)
    round_rows.add(store, made.id, "random", 4, 0, [(item.id, PatchRole.TRAIN, {}) for item in patches])
    return patches[0]


def start(code: str, *arguments: object) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("acknowledged", [1, 7, 23])
def test_what_was_acknowledged_is_there(store, patch, acknowledged):
    writer = start(WRITER, store.root)
    try:
        for _ in range(acknowledged):
            told = int(writer.stdout.readline())
    finally:
        kill(writer)
    fresh = Store(store.root)
    found = annotation.state(fresh, patch.id)
    assert len(found.objects) >= told == acknowledged
    assert [row.revision for row in annotations.events(fresh, patch.id)] == list(range(1, found.revision + 1))
    annotation.accept(fresh, patch.id, "after", from_array(np.ones((64, 64), bool)))
    annotation.mark_done(fresh, patch.id, "after")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.browser
def test_the_page_goes_on_after_the_app_was_killed(store, patch, chromium):
    port = free_port()
    server = start(SERVER, store.root, port)
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    try:
        await_server(port)
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector(".ann[data-slice]")
        click(page, 30, 30)
        page.keyboard.press("Enter")
        page.wait_for_selector('.ann[data-revision="3"]')

        kill(server)
        click(page, 10, 50)
        page.keyboard.press("Enter")
        page.get_by_text("not saved").wait_for()
        # The work goes on meanwhile: a stroke, and an object that is not finished.
        page.keyboard.press("b")
        page.mouse.move(*where(page, 50, 5))
        page.mouse.down()
        page.mouse.move(*where(page, 50, 15), steps=4)
        page.mouse.up()
        page.keyboard.press("Escape")
        page.keyboard.press("c")
        page.wait_for_timeout(200)  # the tools take less room now
        click(page, 60, 60)
        assert annotations.head(store, patch.id)[0] == 3

        server = start(SERVER, store.root, port)
        page.wait_for_selector('.ann[data-revision="7"]', timeout=60_000)
        page.wait_for_selector('.ann:not([data-told="false"]) [data-part="save"][data-saved="true"]')

        # Killed once more, and the page is reloaded when the app is back: the points are still there.
        kill(server)
        server = start(SERVER, store.root, port)
        await_server(port)
        page.reload()
        page.wait_for_selector(".ann[data-slice]")
        assert page.locator("[data-part=presence]").is_hidden()
        assert page.locator("[data-part=objects] [data-object]").count() == 3
        context.close()
    finally:
        kill(server)
    found = annotation.state(Store(store.root), patch.id)
    written = ["open", "click", "accept", "click", "accept", "edit", "click"]
    assert [row.kind for row in annotations.events(store, patch.id)] == written
    assert found.draft.positive == ((60, 60),)
    painted = np.zeros((1, 64, 64), bool)
    found.objects[3].mask.paint(painted, True)
    assert painted[0, 50, 5:16].all()


def click(page, y: int, x: int) -> None:
    page.mouse.click(*where(page, y, x))


def where(page, y: int, x: int) -> list[float]:
    return page.evaluate(
        """([y, x]) => {
            const rect = document.querySelector('.ann canvas').getBoundingClientRect();
            const { scale, left, top } = document.querySelector('.ann').viewTransform();
            return [rect.left + left + (x + 0.5) * scale, rect.top + top + (y + 0.5) * scale];
        }""",
        [y, x],
    )


def await_server(port: int) -> None:
    for _ in range(240):
        try:
            httpx.get(f"http://127.0.0.1:{port}/", timeout=5)
            return
        except httpx.HTTPError:
            time.sleep(0.25)
    raise AssertionError("the app did not start")
