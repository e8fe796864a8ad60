"""Errors at the page's edge: a sentence in a toast, never a traceback."""

from __future__ import annotations

import functools
import html
import inspect
import logging
from collections.abc import Callable
from typing import Any

import gradio as gr

from alapp.disk import is_full
from alapp.errors import AlappError, Cancelled
from alapp.stages.images import printable

FULL = "The disk is full: this could not be done. Free some space and try again."
UNEXPECTED = "Something went wrong inside the app. Details are in logs/app.log in the state folder."

logger = logging.getLogger(__name__)


def told(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an event handler: an `AlappError` becomes a toast with its sentence and the page stays as it is; a full disk
    is told, too.

    Anything else is a bug: it is logged with its traceback, and the user is told in one sentence. On an error
    the handler's outputs do not change. The signature is kept, so that Gradio still injects `gr.Request` and
    event data. Generators are wrapped too.
    """
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def generator(*args: Any, **kwargs: Any) -> Any:
            try:
                yield from handler(*args, **kwargs)
            except Exception as error:
                raise as_toast(error) from error

        return generator

    @functools.wraps(handler)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except Exception as error:
            raise as_toast(error) from error

    return wrapped


def as_toast(error: Exception) -> gr.Error:
    """The toast for an error. Unexpected errors are logged here."""
    if isinstance(error, gr.Error):
        return error
    if isinstance(error, AlappError):
        title = "Cancelled" if isinstance(error, Cancelled) else "Please check"
        return gr.Error(_shown(str(error)), duration=12, title=title, print_exception=False)
    if is_full(error):
        return gr.Error(FULL, duration=12, title="Please check", print_exception=False)
    logger.error("Error in a page handler", exc_info=error)
    return gr.Error(UNEXPECTED, duration=12, title="Error", print_exception=False)


def info(text: str) -> None:
    """Tell something in a toast. `text` is plain text: names in it may have any characters."""
    gr.Info(_shown(text))


def warn(text: str) -> None:
    """As `info`, for what did not go as it was wanted."""
    gr.Warning(_shown(text))


def _shown(text: str) -> str:
    """Plain text for a toast: Gradio takes what it says for HTML, and names of files and projects are anybody's."""
    return html.escape(printable(text), quote=False)


def sentence(error: Exception) -> str:
    """The same in words, for places that show an error inside the page. Unexpected errors are logged here."""
    if isinstance(error, AlappError):
        return printable(str(error))
    if is_full(error):
        return FULL
    logger.error("Error in the page", exc_info=error)
    return UNEXPECTED
