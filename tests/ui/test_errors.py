"""What the pages say of errors."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import gradio as gr
import pytest

from alapp.errors import InputError
from alapp.ui import errors


def failing(error):
    def handler():
        raise error

    def generator():
        yield 1
        raise error

    return handler, generator


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (InputError("a.tif is empty."), "a.tif is empty."),
        (InputError("caf\udce9.tif is empty."), "caf?.tif is empty."),  # the page is sent UTF-8
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full"),
        (OSError(errno.EIO, "Input/output error"), errors.UNEXPECTED),
        (KeyError("x"), errors.UNEXPECTED),
    ],
)
def test_an_error_is_a_sentence_in_a_toast_and_inside_a_page(error, words):
    handler, generator = failing(error)
    for act in (errors.told(handler), lambda: list(errors.told(generator)())):
        with pytest.raises(gr.Error) as toast:
            act()
        assert toast.value.message.startswith(words)
    assert errors.sentence(error).startswith(words)


def test_names_in_a_toast_are_text(monkeypatch):
    """Gradio takes what a toast says for HTML."""
    told = []
    for kind in ("Info", "Warning"):
        monkeypatch.setattr(gr, kind, told.append)
    name, shown = "x<GFP>y & 'z'", "x&lt;GFP&gt;y &amp; 'z'"
    errors.info(f"Removed {name}.")
    errors.warn(f"Removed {name}.")
    with pytest.raises(gr.Error) as toast:
        errors.told(errors.told(failing(InputError(f"Removed {name}."))[0]))()
    assert [*told, toast.value.message] == [f"Removed {shown}."] * 3
    assert errors.sentence(InputError(name)) == name  # its places escape it themselves


def test_no_toast_passes_by_what_makes_text_of_names():
    pages = Path(errors.__file__).parent
    direct = [path.name for path in pages.rglob("*.py") if re.search(r"gr\.(Info|Warning|Success)\(", path.read_text())]
    assert direct == ["errors.py"]
