"""The app in a browser, as tests open it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import psutil

from alapp import jobs
from alapp.supervisor import Supervisor, worker_record
from alapp.ui import shell
from alapp.ui.security import launch_options
from alapp.ui.theme import CSS, THEME
from tests.conftest import PATIENCE


@contextmanager
def app(store, worker: bool = False) -> Iterator[str]:
    """The address of the app on this state folder; with a `worker`, a process does what is queued."""
    with supervised(store) if worker else nullcontext():
        demo = shell.build(store)
        looks = {"theme": THEME, "css": CSS, "head": shell.HEAD}
        _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, **looks, **launch_options())
        try:
            yield address
        finally:
            demo.close(verbose=False)


@contextmanager
def supervised(store) -> Iterator[None]:
    """A process does what is queued, until it is ended with what it was doing."""
    supervisor = Supervisor(store).start()
    try:
        yield
    finally:
        for job in jobs.active(store):
            jobs.cancel(store, job.id)
        supervisor.stop()
        end_worker(store)


def end_worker(store) -> None:
    record = worker_record(store.root)
    if record and record.alive:
        process = psutil.Process(record.pid)
        process.terminate()
        process.wait(20)


@contextmanager
def tab(chromium, url: str, height: int = 900, harmless: Callable[[str], bool] = lambda text: False) -> Iterator:
    """A tab of the browser on this address. Every error in its console that is not `harmless` fails the test."""
    context = chromium.new_context(viewport={"width": 1280, "height": height})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on(
        "console",
        lambda line: page.errors.append(line.text) if line.type == "error" and not harmless(line.text) else None,
    )
    try:
        page.goto(url)
        yield page
    finally:
        context.close()
    assert not page.errors, page.errors


def was_cut_short(text: str) -> bool:
    """Whether Gradio complains of a request that a reload of the page ended."""
    return any(words in text for words in ("AbortError", "signal is aborted", "Connection errored out"))


def reload(page, ready: str = "Images") -> None:
    """Load the page anew, until its header says `ready`. The browser tells of each request that this cuts off as an
    error, which it is not."""
    from playwright.sync_api import expect

    before = len(page.errors)
    page.reload()
    expect(page.locator("#header-rail")).to_contain_text(ready)
    page.errors[before:] = [text for text in page.errors[before:] if not was_cut_short(text)]


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for what a page cannot show."""
    end = time.monotonic() + PATIENCE / 1000
    while not condition():
        assert time.monotonic() < end, f"timed out: {what}"
        time.sleep(0.1)
