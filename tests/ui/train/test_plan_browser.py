"""An expert fixes values of the plan, first before anything is trained and then against a trained network."""

from __future__ import annotations

import pytest

from alapp.rounds import importing
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.train import training
from alapp.storage import catalogue, models, verdicts
from alapp.storage.verdicts import VerdictKind
from tests.rounds.conftest import discs
from tests.ui.pages import reload

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def labelled(store):
    """Two images with references, and pseudo-labels chosen."""
    made = catalogue.create_project(store, "discs", patch_size=64)
    for seed in range(2):
        pixels, labels = discs(seed)
        importing.add_reference(store, importing.add_array(store, made.id, f"image_{seed}", pixels), labels)
    pseudo.decide(store, made.id, "log_watershed")
    return made


def add_model(store, project, plan):
    """A finished training with `plan`."""
    file = store.root / plan.workspace / "model.pth"
    file.write_bytes(b"weights")
    run = training.Run(None, (), None, 60, 0)
    model = training._record(store, project, plan, run, "key", file, 1.0)
    verdicts.add(store, model, VerdictKind.PROMOTION, True, {})
    return model


def open_experts(page):
    reload(page)
    sync_api.expect(page.locator("#header-project input")).to_have_value("discs")
    page.get_by_role("tab", name="Train").click()
    page.locator("#experts button").first.click()


def test_an_expert_fixes_the_plan(store, labelled, page):
    expect = sync_api.expect
    expect.set_options(timeout=60_000)
    open_experts(page)
    page.locator("#plan-window [data-testid=textbox]").fill("50 x 50")
    page.locator("#plan-iterations [data-testid=textbox]").fill("60")
    page.click("#plan-anew")
    expect(page.locator("#job")).to_contain_text("choose 56 x 56, or fewer stages than 4")
    assert models.plans(store, labelled.id, "quick") == []

    page.locator("#plan-window [data-testid=textbox]").fill("32 x 32")
    page.click("#plan-anew")
    lines = page.locator("#plan-lines")
    expect(lines).to_contain_text("32 × 32 pixels")
    expect(lines.locator(".yours")).to_have_count(2)
    (first,) = models.plans(store, labelled.id, "quick")
    assert first.summary["iterations"]["round"] == 60
    assert first.summary["seconds_per_iteration"] > 0

    model = add_model(store, labelled, first)
    open_experts(page)
    expect(page.locator("#plan-iterations [data-testid=textbox]")).to_have_value("60")
    page.locator("#plan-batch [data-testid=textbox]").fill("2")
    page.click("#plan-anew")
    expect(page.locator("#plan-question")).to_contain_text("1 model has been trained")
    page.click("#plan-no")
    expect(page.locator("#plan-question")).to_be_hidden(timeout=120_000)
    assert len(models.plans(store, labelled.id, "quick")) == 1
    page.click("#plan-anew")
    page.click("#plan-yes")
    expect(lines.locator(".yours")).to_have_count(3)
    expect(page.get_by_role("button", name="Pre-train the new network")).to_be_visible(timeout=120_000)
    second = models.plans(store, labelled.id, "quick")[-1]
    assert second.workspace != first.workspace
    assert second.summary["overrides"] == {"patch_size": [32, 32], "batch_size": 2, "iterations": 60}
    assert models.checkpoints(store, labelled.id) == [model]
