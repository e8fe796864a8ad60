"""The cards of the methods: true states, speeds that were measured, and rows without a lonely last card."""

from __future__ import annotations

import pytest

from alapp import jobs
from alapp.domain import Modality
from alapp.rounds.pseudolabel import pseudo, pseudo_speed
from alapp.running import run_inline
from alapp.stages.pseudolabel.base import PSEUDO_LABELLERS
from alapp.storage import jobs as job_rows
from alapp.ui.pseudolabel import method_cards


def test_every_method_has_a_card_and_ready_ones_come_first(store):
    html = method_cards.method_cards(store, Modality.LIGHT)
    methods = pseudo.methods(Modality.LIGHT)
    assert html.count("<article") == len(methods) == len(list(PSEUDO_LABELLERS))
    titles = [part.split("</h4>")[0] for part in html.split("<h4>")[1:]]
    ready = [item.title for item in methods if item.status.ready]
    assert set(titles[: len(ready)]) == set(ready)
    assert html.count('class="chip ok"') == len(ready)
    assert html.count("recommended") == html.split("<article")[1].count("recommended") == 1
    assert "for the other kind of microscopy" in html
    # What cannot be used yet is folded away, named.
    shown, folded = html.split("<details")
    assert shown.count("<article") == len(ready)
    summary = folded.split("</summary>")[0]
    assert f"{len(methods) - len(ready)} more methods need" in summary
    assert all(item.title.split(",")[0] in summary for item in methods if not item.status.ready)


def test_nothing_is_folded_away_when_every_method_can_be_used(store, monkeypatch):
    ready = [item for item in pseudo.methods(Modality.LIGHT) if item.status.ready]
    monkeypatch.setattr(pseudo, "methods", lambda modality: ready)
    assert "<details" not in method_cards.method_cards(store, Modality.LIGHT)


def test_the_speed_is_that_of_the_last_preview(store, project, monkeypatch):
    assert pseudo_speed.measured(store) == {}
    assert "preview it to see its speed" in method_cards.method_cards(store, Modality.LIGHT)
    job = run_inline(store, jobs.enqueue(store, "preview", project.id, {"method": "log_watershed", "params": {}}))
    speeds = pseudo_speed.measured(store)
    assert speeds == {"log_watershed": job.seconds / 8}
    monkeypatch.setattr(pseudo_speed, "measured", lambda store: {"log_watershed": 0.42})
    assert "0.4 s a patch, measured here" in method_cards.method_cards(store, Modality.LIGHT)


def test_previews_that_failed_tell_no_speed(store, project):
    job = jobs.enqueue(store, "preview", project.id)
    job_rows.claim(store, "host:1:t", job.id)
    job_rows.finish(store, job.id, "host:1:t", job_rows.JobState.FAILED, "It did not work.")
    assert pseudo_speed.measured(store) == {}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.01, "0.1 s a patch"), (2.24, "2.2 s a patch"), (22.4, "22 s a patch"), (150, "2 min a patch")],
)
def test_seconds_are_rounded_for_people(seconds, text):
    assert method_cards.speed_text(seconds) == text


@pytest.mark.parametrize("count", range(4, 10))
def test_no_card_stands_alone_in_its_row(count):
    assert count % method_cards.COLUMNS[count] != 1
