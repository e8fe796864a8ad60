"""What may be wrong, what is forgotten, and two models side by side: their texts, and the real page in Chromium."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import ImageRole, silent
from alapp.errors import InputError
from alapp.rounds import importing
from alapp.rounds.predict import evaluation
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.results import comparing
from alapp.rounds.results.diagnostics import Diagnosis, State
from alapp.rounds.results.forgetting import Memory
from alapp.rounds.train import training
from alapp.stages.paired import paired_difference
from alapp.storage import catalogue, models
from alapp.ui.results import comparison, diagnostics, forgetting
from tests.rounds.conftest import discs, discs_project
from tests.rounds.made_scores import scored
from tests.rounds.results.test_diagnosing import worsen
from tests.rounds.test_loop import run_round
from tests.ui import pages

SLOW = 60_000  # milliseconds; a machine that does other work is slow to load the page

WARNING = Diagnosis("A & B", State.WARNING, "It is <wrong>.", "Do this.", {"F1 now": 0.5, "patches": 7})
FINE = Diagnosis("C", State.OK, "All is well.")
OPEN = Diagnosis("D", State.UNKNOWN, "Too few patches.")


@pytest.fixture
def project(store):
    return discs_project(store)


@pytest.fixture
def two_rounds(store, project, fast):
    """Two rounds of six patches, half of them for validation; no pseudo-labels."""
    catalogue.update_project(store, project.id, validation_share=0.5)
    pseudo.decide(store, project.id, pseudo.NONE)
    run_round(store, project, 6)
    run_round(store, project, 6)
    return project


@pytest.fixture
def worse(store, two_rounds):
    """The second round found half as much, and the plan was made for larger objects."""
    worsen(store, models.latest_checkpoint(store, two_rounds.id).id)
    store.execute("UPDATE score SET f1_50 = 2.0 * tp_50 / max(2.0 * tp_50 + fp_50 + fn_50, 1)")
    store.execute("UPDATE plan SET summary = json_set(summary, '$.object_diameter_px', 40.0)")
    return two_rounds


def test_the_panel_shows_warnings_with_advice_and_folds_the_rest():
    html = diagnostics.panel([WARNING, OPEN, FINE])
    assert "A &amp; B" in html
    assert "&lt;wrong&gt;" in html
    assert "What to do:</i> Do this." in html
    assert "<td>F1 now</td><td>0.50</td>" in html
    assert "<td>patches</td><td>7</td>" in html
    assert "Other checks: 1 in order, 1 cannot tell yet" in html
    assert html.index("All is well") < html.index("Too few patches")


def test_the_panel_says_in_one_line_that_nothing_was_found():
    assert diagnostics.NOTHING in diagnostics.panel([FINE])
    assert diagnostics.UNTOLD in diagnostics.panel([FINE, OPEN])
    assert diagnostics.TOO_EARLY in diagnostics.panel([])


def test_the_table_of_memories():
    good, bad = [scored(18, 20)] * 6, [scored(12, 20)] * 6
    by_image = {"a": paired_difference(good[:1], bad[:1]), "b": paired_difference(good[:5], good[:5])}
    memory = Memory(2, paired_difference(good, bad), paired_difference(good[:2], good[:2]), by_image)
    html = forgetting.table([Memory(1, None, paired_difference(bad, good), {}), memory])
    assert "<td>-0.300 (-0.398 to -0.202)</td>" in html
    assert "<td>forgot</td>" in html
    images = forgetting.image_table(memory)
    assert images.index("<td class=al-text>a</td>") < images.index("<td class=al-text>b</td>")
    assert "too few (under 5)" in images
    assert "no change beyond chance" in images
    assert forgetting.image_table(Memory(2, None, None, {"a": by_image["a"]})) == ""


def test_two_models_are_compared_largest_change_first(store, worse):
    first, second = models.checkpoints(store, worse.id)
    found = comparing.changes(store, first.id, second.id)
    changed = [abs(item.f1) for item in found.items]
    assert found.split == "validation"
    assert changed == sorted(changed, reverse=True)
    assert found.worse == sum(change > 0 for change in changed) > 0
    assert found.better == 0
    text, pictures, views, caption, panels, titles, *_ = comparison.show_round(store, worse.id, 2, first.id)
    assert f"Round 1 → Round 2 on the same 6 validation patches: 0 got better, {found.worse} worse" in text
    assert views == [("patch", item.item_id) for item in found.items]
    assert [caption for _, caption in pictures] == [f"{item.f1:+.2f}" for item in found.items]
    assert caption.index("Round 1: F1 1.00") < caption.index("Round 2: F1 0.")
    assert panels.shape[1] > 3.9 * panels.shape[0]
    assert titles.index("Image") < titles.index("Round 1") < titles.index("Round 2") < titles.index("Your labels")
    outlines = comparison.redraw(store, worse.id, 2, views[0], False, 0, first.id)
    assert outlines.shape == panels.shape
    assert not np.array_equal(outlines, panels)


def test_a_model_against_itself_is_one_model(store, two_rounds):
    newest = models.latest_checkpoint(store, two_rounds.id)
    text, _, _, _, panels, *_ = comparison.show_round(store, two_rounds.id, 2, newest.id)
    assert "worst first" in text
    assert panels.shape[1] < 3.2 * panels.shape[0]


def test_without_validation_patches_test_images_are_compared_else_what_was_trained_on(store, project, fast):
    catalogue.update_project(store, project.id, validation_share=0.0)
    pseudo.decide(store, project.id, "log_watershed")
    training.run_pretrain(store, project.id, silent)
    first = models.latest_checkpoint(store, project.id)
    run_round(store, project, 4)
    newest = models.latest_checkpoint(store, project.id)
    found = comparing.changes(store, first.id, newest.id)
    assert (found.split, len(found.items)) == ("train", 4)
    text, _, _, caption, *_ = comparison.show_round(store, project.id, 1, first.id)
    assert "Pre-training → Round 1 on the same 4 training patches" in text
    assert "not scored" not in caption

    pixels, truth = discs(20)
    image = importing.add_array(store, project.id, "held out", pixels, role=ImageRole.TEST)
    importing.add_reference(store, image, truth)
    for checkpoint in (first, newest):
        evaluation.predict_and_score(store, project.id, checkpoint, silent)
    found = comparing.changes(store, first.id, newest.id)
    assert (found.split, [item.item_id for item in found.items]) == ("test", [image.id])
    text, _, views, _, _, titles, *_ = comparison.show_round(store, project.id, 1, first.id)
    assert views == [("image", image.id)]
    assert "Reference" in titles


def test_every_training_can_be_chosen_and_none_of_another_project(store, two_rounds):
    training.run_round(store, two_rounds.id, silent, iterations=9)
    offered = comparison.choices(store, two_rounds.id, lambda number: f"Round {number}")
    assert [name for name, _ in offered] == ["Round 2", "Round 2, an earlier training (6 iterations)", "Round 1"]
    assert comparison.model_names(store, offered[1][1], offered[0][1]) == ("Round 2, earlier", "Round 2, later")
    other = catalogue.create_project(store, "other")
    with pytest.raises(InputError, match="another project"):
        comparison._other(store, other.id, offered[0][1])
    with pytest.raises(InputError, match="from the menu"):
        comparison._other(store, two_rounds.id, "round 1")


@pytest.mark.browser
def test_the_page_tells_what_may_be_wrong_and_shows_two_models(store, worse, chromium):
    sync_api = pytest.importorskip("playwright.sync_api")
    expect = sync_api.expect
    with pages.app(store) as url, pages.tab(chromium, url) as page:
        expect(page.locator("#header-rail")).to_contain_text("Images", timeout=SLOW)
        page.get_by_role("tab", name="Results").click()
        panel = page.locator("#results-diagnostics")
        expect(panel).to_contain_text("planned for objects of 40 pixels, but yours are 14", timeout=SLOW)
        expect(panel).to_contain_text("made it worse", timeout=SLOW)
        numbers = panel.get_by_text("your objects (pixels)")
        expect(numbers).to_be_hidden()
        panel.locator(".al-finding", has_text="Object size").get_by_text("Numbers").click()
        expect(numbers).to_be_visible(timeout=SLOW)
        panel.get_by_text("Other checks:").click()
        expect(panel.get_by_text("Learned by heart.")).to_be_visible(timeout=SLOW)
        expect(page.locator("#results-forgetting")).to_contain_text("too few (under 5)", timeout=SLOW)

        page.locator("#results-against input").click()
        page.get_by_role("option", name="Round 1").click()
        expect(page.get_by_text("Round 1 → Round 2 on the same 6 validation patches")).to_be_visible(timeout=SLOW)
        expect(page.locator(".al-panels")).to_have_text("ImageRound 1Round 2Your labels", timeout=SLOW)
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280
