"""Images that are removed while patches of them are picked, and that come back."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import PatchRole, silent
from alapp.errors import InputError
from alapp.rounds import importing
from alapp.rounds.annotate import annotation, ledger
from alapp.rounds.progress import progress
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.select import selection
from alapp.storage import catalogue
from alapp.storage import rounds as round_rows


@pytest.fixture
def batch(store, project):
    """A batch with a patch of each of the three images. Gives (ids of the images, ids of the patches)."""
    pseudo.decide(store, project.id, pseudo.NONE)
    images = [image.id for image in catalogue.images(store, project.id)]
    patches = [catalogue.patches(store, project.id, image)[0].id for image in images]
    round_rows.add(store, project.id, "random", 3, 0, [(key, PatchRole.TRAIN, {}) for key in patches])
    return images, patches


def finish(store, patch_id):
    annotation.submit_labels(store, patch_id, np.eye(64, dtype=np.int32), "oracle")


def shown(store, project):
    """What the pages tell of the batch: patches in its list, the open ones, the next one, the words on the button."""
    latest = round_rows.latest(store, project.id)
    return (
        [item.patch_id for item in annotation.batch(store, latest.id)],
        [pick.patch_id for pick in selection.open_patches(store, project.id)],
        annotation.next_patch(store, project.id),
        progress(store, project.id).next.text,
    )


def test_picks_of_a_removed_image_are_not_waited_for(store, project, batch, fast):
    images, patches = batch
    finish(store, patches[0])
    before = shown(store, project)
    catalogue.set_image_deleted(store, images[1], True)
    left = [patches[0], patches[2]]
    assert shown(store, project) == (left, [patches[2]], patches[2], "Annotate the next patch (1 left)")
    importing.restore_image(store, images[1])
    assert shown(store, project) == before
    assert before == (patches, patches[1:], patches[1], "Annotate the next patch (2 left)")
    catalogue.set_image_deleted(store, images[1], True)
    finish(store, patches[2])
    assert selection.run_select(store, project.id, silent, 2)["round"] == 2  # nothing is open any more


def test_a_batch_of_which_nothing_is_left_is_not_trained(store, project, fast):
    pseudo.decide(store, project.id, pseudo.NONE)
    first, *_ = catalogue.images(store, project.id)
    picked = [(catalogue.patches(store, project.id, first.id)[0].id, PatchRole.TRAIN, {})]
    round_rows.add(store, project.id, "random", 1, 0, picked)
    catalogue.set_image_deleted(store, first.id, True)
    assert progress(store, project.id).next.text == "Select the batch of round 2"


def test_what_a_batch_cost_is_right_again_when_the_image_comes_back(store, project, batch):
    images, patches = batch
    this = round_rows.latest(store, project.id)
    annotation.skip(store, patches[1], "s", "not sharp")
    states = annotation.patch_states(store, patches)
    picks, cost = round_rows.selected(store, this.id), ledger.of_round(store, this.id)
    catalogue.set_image_deleted(store, images[1], True)
    assert [pick.rank for pick in round_rows.selected(store, this.id)] == [0, 2]
    importing.restore_image(store, images[1])
    assert round_rows.selected(store, this.id) == picks
    assert ledger.of_round(store, this.id) == cost
    assert annotation.patch_states(store, patches) == states


def test_a_batch_is_not_discarded_with_labels_of_a_removed_image(store, project, batch):
    images, patches = batch
    finish(store, patches[1])
    catalogue.set_image_deleted(store, images[1], True)
    with pytest.raises(InputError, match="of the removed image image_1, so it stays"):
        selection.discard_round(store, project.id)
    importing.restore_image(store, images[1])
    assert annotation.patch_states(store, patches)[patches[1]] == annotation.DONE
    assert patches[1] in round_rows.selected_in_project(store, project.id)


def test_an_untouched_batch_is_discarded_whole(store, project, batch):
    images, _ = batch
    catalogue.set_image_deleted(store, images[1], True)
    selection.discard_round(store, project.id)
    importing.restore_image(store, images[1])
    assert round_rows.selected_in_project(store, project.id) == {}
    assert catalogue.any_patch(store, project.id, unpicked=True)
