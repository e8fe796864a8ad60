"""The space for what click models computed: shown, bounded, emptied; not for visitors of the public demo."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.errors import InputError
from alapp.rounds.annotate import clicks
from alapp.ui.annotate import click_space
from alapp.ui.train import disk


@pytest.fixture
def kept(store):
    cache = clicks.embedding_cache(store)
    cache.put("a", {"features": np.zeros(1_000_000, np.float32)})
    return cache


def test_what_is_kept_is_said_and_can_be_removed(store, kept):
    bound, button = click_space.refresh(store)
    assert bound == 2
    assert button.value == "Remove what is kept (4.0 MB)"
    _, button = click_space.clear(store, None)
    assert button.value == "Nothing is kept"
    assert not button.interactive
    assert kept.used_bytes == 0


def test_the_bound_is_kept(store, kept):
    assert click_space.set_bound(store, None, 0.5)[0] == 0.5
    assert kept.max_bytes == 500_000_000


@pytest.mark.parametrize("number", [None, "much", float("nan"), float("inf"), 0, -1, 1e9])
def test_a_bound_that_makes_no_sense_is_refused(store, kept, number):
    with pytest.raises(InputError, match="GB"):
        click_space.set_bound(store, None, number)
    assert click_space.refresh(store)[0] == 2


def test_a_visitor_of_the_demo_changes_nothing(store, kept):
    for act in (lambda: click_space.clear(store, "visitor"), lambda: click_space.set_bound(store, "visitor", 1)):
        with pytest.raises(InputError, match="demo"):
            act()
    assert kept.used_bytes > 0


def test_it_is_part_of_the_disk_space(store, kept):
    import gradio as gr

    from alapp.ui.page import Page

    with gr.Blocks():
        page = Page(store, gr.State(None), gr.Tabs(), gr.State(0), gr.State(None), gr.State(None))
        outputs, refresh = disk.build(page)
    assert len(refresh(None)) == len(outputs)
