"""The list of models on the Train tab: a refused model, using it anyway, undo, and going back to an earlier one."""

from __future__ import annotations

import gradio as gr
import pytest

from alapp import jobs
from alapp.domain import silent
from alapp.errors import NotReadyError
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.train import lineage, training
from alapp.stages.train.base import TRAINERS
from alapp.storage import catalogue, models, verdicts
from alapp.ui import shell
from alapp.ui.page import Page
from alapp.ui.results import predictions
from alapp.ui.results import results as results_tab
from alapp.ui.rounds import rounds
from alapp.ui.train import models as model_list
from alapp.ui.train import train
from tests.rounds.spoilt import SpoiltTrainer, dense_project, run_round
from tests.ui import pages


@pytest.fixture
def refused(store, fast, monkeypatch):
    """Harmful pre-training that was left out, two good rounds, and a third that finds nothing; the file of the
    pre-trained model is gone."""
    monkeypatch.setitem(TRAINERS._targets, "nnunet", "tests.rounds.spoilt:SpoiltTrainer")
    project = dense_project(store)
    pseudo.decide(store, project.id, "log_watershed")
    monkeypatch.setattr(SpoiltTrainer, "spoilt", True)
    training.run_pretrain(store, project.id, silent)
    monkeypatch.setattr(SpoiltTrainer, "spoilt", False)
    monkeypatch.setattr(SpoiltTrainer, "harmed", True)
    run_round(store, project, 6)
    monkeypatch.setattr(SpoiltTrainer, "harmed", False)
    run_round(store, project)
    monkeypatch.setattr(SpoiltTrainer, "spoilt", True)
    run_round(store, project)
    store.files.resolve(models.checkpoints(store, project.id)[0].path).unlink()
    return project


def test_the_list_tells_state_and_parent_of_every_model(store, refused):
    rows = [model_list.state_text(model) for model in lineage.models_of(store, refused.id)]
    assert rows == ["used before", "used before", "in use", "not used: 0.00 against 1.00"]
    html = model_list.table(lineage.models_of(store, refused.id))
    assert html.count("scratch") == 2
    assert "model 3" in html
    assert "file deleted" in html
    said = model_list.news_text(store, refused.id)
    assert "Model 4 (round 3) was kept but is not used" in said
    assert "Round 1 left the pre-training out" in said
    assert "It is not used" in train.newest_sentence(store, models.checkpoints(store, refused.id)[-1])


def test_values_from_the_page_are_checked(store, refused):
    first, *_, last = models.checkpoints(store, refused.id)
    with pytest.raises(NotReadyError, match="its file was deleted"):
        model_list.ask_to_use(store, refused.id, first.id)
    for wrong in (None, "3", 999):
        with pytest.raises(NotReadyError):
            model_list.ask_to_use(store, refused.id, wrong)
    with pytest.raises(NotReadyError, match="Open a project"):
        model_list.ask_to_use(store, None, last.id)
    with pytest.raises(NotReadyError, match="Choose a model"):
        model_list.use(store, refused.id, None, 0)


def test_a_question_stays_until_the_models_are_others(store, refused):
    with gr.Blocks():
        page = Page(store, gr.State(None), gr.Tabs(), gr.State(0), gr.State(None), gr.State(None))
        tab = train.build(page)
    menu, confirm, *_ = asking = tab.fields[0]
    updates, sent = shell.refreshed(store, tab, refused.id, {})
    assert (len(updates[menu].choices), updates[confirm].visible) == (3, False)
    again, sent = shell.refreshed(store, tab, refused.id, sent)  # an export has ended, for instance
    assert [again[field] for field in asking] == [gr.skip()] * 4
    model_list.use(store, refused.id, models.checkpoints(store, refused.id)[-1].id, 0)
    assert not shell.refreshed(store, tab, refused.id, sent)[0][confirm].visible


def test_an_empty_project_and_none(store, refused):
    empty = catalogue.create_project(store, "empty")
    for project_id, text in ((None, "Project tab"), (empty.id, "Every training leaves a model")):
        updates = model_list.refresh(store, project_id)
        assert text in updates[3]
        assert not updates[4].visible


def test_going_back_further_queues_the_prediction(store, refused):
    _, second, _, last = models.checkpoints(store, refused.id)
    assert model_list.use(store, refused.id, last.id, 4) == 5
    assert jobs.active(store, refused.id) == []
    model_list.use(store, refused.id, second.id, 5)
    assert [job.kind for job in jobs.active(store, refused.id)] == ["predict"]


def test_results_open_with_the_model_in_use(store, refused):
    _, _, _, _, summary, *_ = results_tab.refresh(store, refused.id)
    _, shown, *_ = predictions.follow(store, refused.id, (None, None), None, None, True, 0, None)
    assert shown.value == 2
    assert ("Round 2 (in use)", 2) in shown.choices
    assert "Model 4 (round 3) was kept but is not used" in summary
    assert "<b>1.00</b>" in summary


def test_the_timeline_says_why_the_last_model_is_not_used(store, refused):
    assert "Model 4 (round 3) was kept but is not used" in rounds.refresh(store, refused.id)[-1]
    model_list.use(store, refused.id, models.checkpoints(store, refused.id)[-1].id, 0)
    assert "Model 4" not in rounds.refresh(store, refused.id)[-1]


@pytest.mark.browser
def test_use_anyway_undo_and_go_back_on_the_page(store, refused, chromium):
    expect = pytest.importorskip("playwright.sync_api").expect
    # Long values, to see whether the table is cut.
    store.execute("UPDATE checkpoint SET preset = 'standard', iterations = 12500, seconds = 4321, n_cases = 128")
    _, second, third, last = models.checkpoints(store, refused.id)
    with pages.app(store) as url, pages.tab(chromium, url) as page:
        expect(page.locator("#header-rail")).to_contain_text("Images")
        page.get_by_role("tab", name="Train").click()
        news, row = page.locator("#models-news"), page.locator("#models-list tr:has(td)")
        expect(news).to_contain_text("Model 4 (round 3) was kept but is not used")
        expect(row).to_have_count(4)
        width = "box => box.scrollWidth - box.clientWidth"
        assert page.locator("#models-list .al-scroll").evaluate(width) <= 0
        expect(page.locator("#models-undo")).to_be_hidden()

        page.click("#models-anyway")
        expect(page.locator("#models-confirm")).to_contain_text("instead of Model 3 (round 2), F1 1.00?")
        assert verdicts.current_checkpoint(store, refused.id).id == third.id
        page.click("#models-yes")
        expect(news).to_contain_text("Model 4 (round 3) is in use because you chose it instead of Model 3 (round 2)")
        expect(row.first).to_contain_text("in use")
        expect(page.locator("#models-confirm")).to_be_hidden()
        assert verdicts.current_checkpoint(store, refused.id).id == last.id

        page.get_by_role("button", name="Undo: go back to Model 3 (round 2)").click()
        expect(row.nth(1)).to_contain_text("in use")
        assert verdicts.current_checkpoint(store, refused.id).id == third.id

        menu = page.locator("#models-menu input")
        menu.click()
        page.get_by_role("option", name="Model 1 (pre-training), F1 0.00, file deleted").click()
        page.click("#models-use")
        expect(page.get_by_text("Model 1 (pre-training) cannot be used any more")).to_be_visible()
        menu.click()
        page.get_by_role("option", name="Model 2 (round 1)").click()
        page.click("#models-use")
        expect(page.locator("#models-confirm")).to_contain_text("Use Model 2 (round 1)")
        page.get_by_role("button", name="No", exact=True).click()
        expect(page.locator("#models-confirm")).to_be_hidden()
        assert verdicts.current_checkpoint(store, refused.id).id == third.id
        page.click("#models-use")
        page.click("#models-yes")
        expect(row.nth(2)).to_contain_text("in use")
        assert verdicts.current_checkpoint(store, refused.id).id == second.id

        check = page.get_by_label("Check the pre-training before the first round")
        expect(check).to_be_checked()
        check.uncheck()
        for _ in range(100):
            if not catalogue.project(store, refused.id).check_pretraining:
                break
            page.wait_for_timeout(100)
        assert not catalogue.project(store, refused.id).check_pretraining

        page.get_by_role("tab", name="Results").click()
        expect(page.get_by_label("Model of")).to_have_value("Round 1 (in use)")
