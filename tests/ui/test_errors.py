"""What the pages say of errors."""

from __future__ import annotations

import errno

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
