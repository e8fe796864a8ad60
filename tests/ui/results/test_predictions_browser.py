"""The section Predictions while other things happen: what is looked at stays. Its updates, and the page in Chromium."""

from __future__ import annotations

import gradio as gr
import pytest

from alapp import jobs
from alapp.domain import silent
from alapp.rounds.predict import evaluation
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.results import results
from alapp.rounds.train import promotion, training
from alapp.storage import catalogue, models
from alapp.ui.parts import gallery
from alapp.ui.results import comparison, predictions
from tests.rounds.conftest import discs_project
from tests.rounds.test_loop import run_round
from tests.ui import pages


@pytest.fixture
def project(store, fast):
    """Two rounds of six patches, half of them for validation; no pseudo-labels."""
    made = discs_project(store)
    catalogue.update_project(store, made.id, validation_share=0.5)
    pseudo.decide(store, made.id, pseudo.NONE)
    run_round(store, made, 6)
    run_round(store, made, 6)
    return made


def follow(store, project, followed, number, against, view, z=0, filled=False):
    """The menus' values, the view that is shown, and its panels."""
    found = predictions.follow(store, project.id, followed, number, against, filled, z, view)
    _, rounds, menu, _, _, _, _, panels, _, _, _, shown, _, compared = found
    assert compared == (project.id, rounds.value, menu.value)
    return (rounds.value, menu.value, shown), panels


def basis(store, project):
    trained = results.checkpoint_by_round(store, project.id)
    return predictions.refresh(store, project.id, trained, results.shown_round(store, project.id))[1]


def test_what_was_chosen_stays_as_long_as_it_is_there(store, project):
    first, second = models.checkpoints(store, project.id)
    views = comparison.show_round(store, project.id, 1)[2]
    seen, panels = follow(store, project, (project.id, 2), 1, second.id, views[1])
    assert seen == (1, second.id, views[1])
    outlines = comparison.redraw(store, project.id, 1, views[1], False, 0, second.id)
    assert (panels == outlines).all()
    gone = ("patch", 10**6)
    seen, _ = follow(store, project, (project.id, 2), 9, 10**6, gone)
    assert seen[:2] == (2, 0)
    seen, _ = follow(store, project, (project.id + 1, 1), 1, first.id, views[1])  # of another project
    assert seen[:2] == (2, 0)


def test_who_looks_at_the_model_in_use_sees_the_new_one(store, project):
    first, _ = models.checkpoints(store, project.id)
    promotion.use(store, project.id, first.id)
    view = comparison.show_round(store, project.id, 2)[2][1]
    assert follow(store, project, (project.id, 2), 2, 0, view)[0] == (1, 0, view)


def test_a_menu_that_is_left_as_it_was_changes_nothing(store, project):
    first, _ = models.checkpoints(store, project.id)
    *_, shown = predictions.choose_models(store, project.id, 2, 0, False, None)
    assert shown == (project.id, 2, 0)
    nothing = gr.skip()
    assert predictions.choose_models(store, project.id, 2, None, False, shown) == nothing
    assert predictions.choose_models(store, project.id, 2, 0, False, list(shown)) == nothing
    for number, against in ((1, 0), (2, first.id)):
        assert predictions.choose_models(store, project.id, number, against, False, shown)[-1] == (
            project.id, number, against,
        )  # fmt: skip


def test_what_the_section_rests_on_changes_with_models_predictions_and_labels(store, project):
    before = basis(store, project)
    assert basis(store, project) == before
    pseudo.run_preview(store, project.id, silent, "log_watershed", {})
    labelled = basis(store, project)
    training.run_round(store, project.id, silent, iterations=9)
    trained = basis(store, project)
    store.execute("DELETE FROM score WHERE id = (SELECT max(id) FROM score)")
    assert len({repr(one) for one in (before, labelled, trained, basis(store, project))}) == 4
    assert evaluation.unpredicted(store, project.id) == []


@pytest.mark.browser
def test_an_export_leaves_what_is_looked_at_alone(store, project, chromium, monkeypatch):
    expect = pytest.importorskip("playwright.sync_api").expect
    drawn, draw = [], gallery.Comparison.draw
    asked, show_model = [], predictions.show_model

    def told(self, z, filled):
        drawn.append((self.name, filled))
        return draw(self, z, filled)

    def shown(*values):
        asked.append(values[2:4])
        return show_model(*values)

    monkeypatch.setattr(gallery.Comparison, "draw", told)
    monkeypatch.setattr(predictions, "show_model", shown)
    with pages.app(store) as url, pages.tab(chromium, url, height=1400) as page:
        expect(page.locator("#header-rail")).to_contain_text("Images")
        page.get_by_role("tab", name="Results").click()
        against, filled = page.locator("#results-against input"), page.get_by_label("Fill the objects")
        caption, panels = page.locator("#results-caption b").first, page.locator("#results-panels img")
        against.click()
        page.get_by_role("option", name="Round 1").click()
        expect(page.locator(".al-panels")).to_have_text("ImageRound 1Round 2Your labels")
        chosen = page.locator("#results-thumbnails button").nth(2)
        first = caption.inner_text()
        chosen.click()
        expect(caption).not_to_have_text(first)
        name, shown = caption.inner_text(), panels.get_attribute("src")
        filled.uncheck()
        expect(panels).not_to_have_attribute("src", shown)
        pages.until(lambda: drawn[-1] == (name, False), "its outlines to be drawn")
        assert asked == [(2, 0), (2, 1)]  # not once more at the start, nor when the menu was left for the picture

        page.get_by_role("button", name="Scores").click()
        expect(page.get_by_text("Scores: waiting for its turn.")).to_be_visible()
        (export,) = [job for job in jobs.active(store, project.id) if job.kind == "export"]
        jobs.cancel(store, export.id)
        expect(page.get_by_text("Scores: the export was cancelled.")).to_be_visible()  # the tab was refreshed
        expect(against).to_have_value("Round 1")
        expect(caption).to_have_text(name)
        expect(filled).not_to_be_checked()
        assert drawn[-1] == (name, False)
