"""What may be wrong with a project: one function for each signature of failure, with the advice it calls for.

Each takes what `evidence` found and returns a `Diagnosis`; `diagnosing.diagnose` applies them to a project. The
first four signatures are those of the workflow this app follows: wrong structures pre-trained, no gain from
fine-tuning, similar picks, a large gap to full labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from alapp.domain import InstanceScores
from alapp.rounds.predict.evidence import Compared
from alapp.stages.learning_curve import extrapolate
from alapp.stages.metrics import pool
from alapp.stages.paired import MIN_PATCHES, paired_difference, unpaired_interval
from alapp.stages.select.variety import variety
from alapp.wording import counted, is_or_are

FEW_OBJECTS = 10
"""Shares and typical sizes of fewer objects are mostly chance."""

POOR_PSEUDO_F1 = 0.3
"""At this F1 nearly five objects are missed or invented for each one that is right ((1 - F1) / F1 * 2)."""

INVENTED_SHARE = 0.5
"""From here on, most of what the pseudo-labels mark is no object at all."""

OVERCOME_F1 = 0.7
"""A model this good on your labels has unlearned what poor pseudo-labels taught."""

SIZE_FACTOR = 1.6
"""Objects that much larger or smaller (2.6 times the area): the border width and the resolution that the plan
derives from the size are then off by half or more."""

GAIN_ROUNDS = 2
"""The newest model is compared with the one this many rounds before: a single round often gains little by chance."""

SMALL_GAIN = 0.02
"""Training the same round twice differs by as much, or more."""

GOOD_F1 = 0.9
"""Here a curve that is flat has arrived: people who annotate twice agree about as well."""

ALIKE_SHARE = 0.05
"""The batch is compared with random batches: what fewer than one in twenty of them would do is not chance."""

OVERFIT_GAP = 0.15
"""F1 on training patches is always somewhat higher; more than this means that they are learned by heart."""

FULL_GAP = 0.1
"""A model with all labels that is that much better is worth further rounds."""

MISTAKE_SHARE = 0.1
"""Merges or splits in one of ten objects change counts and sizes visibly."""

MIN_MISTAKES = 3
"""One or two merges in a small validation set are no pattern."""


class State(StrEnum):
    """What a diagnosis found; `unknown` when there is not enough to tell."""

    OK = "ok"
    WARNING = "warning"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Diagnosis:
    """One signature: what was found, in a sentence, what to do about it, and the numbers it rests on (by what they
    are, in words; lengths in pixels)."""

    name: str
    state: State
    sentence: str
    advice: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)


def wrong_structures(
    pseudo: Sequence[Compared], is_3d: bool = False, pretrained: float | None = None, newest: float | None = None
) -> Diagnosis:
    """Whether the pseudo-labels show what the person annotates. `pseudo`: pseudo-labels against the human labels, a
    patch each; `pretrained`, `newest`: F1 of the pre-trained and of the newest model on validation patches."""
    name = "Wrong structures pre-trained"
    n_true = sum(part.scores.n_true for part in pseudo)
    if n_true < FEW_OBJECTS:
        return Diagnosis(name, State.UNKNOWN, "Too few annotated objects to judge the pseudo-labels by.")
    found = pool([part.scores for part in pseudo])
    invented = sum(part.errors.invented for part in pseudo) / max(found.n_pred, 1)
    ratio = _size_ratio(pseudo, 3 if is_3d else 2)
    numbers = {
        "patches compared": len(pseudo),
        "F1 of the pseudo-labels against your labels": found.f1_50,
        "share of pseudo-labels that lie on no object": invented,
        "objects you annotated": found.n_true,
        "objects in the pseudo-labels": found.n_pred,
    }
    numbers |= {} if ratio is None else {"width of a pseudo-label, in widths of your objects": ratio}
    numbers |= {} if pretrained is None else {"F1 of the pre-trained model, validation patches": pretrained}
    poor = found.f1_50 < POOR_PSEUDO_F1 or invented > INVENTED_SHARE
    if not poor:
        return Diagnosis(name, State.OK, "The pseudo-labels show the objects that you annotate.", "", numbers)
    if newest is not None and newest >= OVERCOME_F1:
        sentence = "The pseudo-labels were poor, but training on your labels has overcome them."
        return Diagnosis(name, State.OK, sentence, "", numbers)
    return Diagnosis(
        name,
        State.WARNING,
        "The pseudo-labels, on which the network was pre-trained, are not what you annotate: "
        f"{_what_is_wrong(found, invented, ratio)}.",
        "On the Pseudo-labels tab, try the methods on ten patches and choose one that outlines your objects, or set "
        "their size there; if no method does, switch pseudo-labels off. Then train again.",
        numbers,
    )


def no_gain(before: Sequence[InstanceScores], after: Sequence[InstanceScores], more_labels: int) -> Diagnosis:
    """Whether more labels still help. `before` and `after`: an earlier and the newest model on the same validation
    patches; `more_labels`: training patches that were labelled in between."""
    name = "No gain from more labels"
    if len(before) < MIN_PATCHES:
        sentence = f"A gain can be told from {MIN_PATCHES} validation patches on; {there_are(len(before))}."
        return Diagnosis(name, State.UNKNOWN, sentence)
    if more_labels < 1:
        sentence = "No training patch was labelled in between, so there is no gain from labels to tell of."
        return Diagnosis(name, State.UNKNOWN, sentence)
    found = paired_difference(before, after)
    numbers = {
        "validation patches": found.n,
        "F1 before": found.before,
        "F1 now": found.after,
        **_interval("change of F1", found.interval),
        "training patches labelled in between": more_labels,
    }
    if found.better or found.after >= GOOD_F1:
        sentence = f"F1 went from {found.before:.2f} to {found.after:.2f}."
        return Diagnosis(name, State.OK, sentence, "", numbers)
    if found.change >= SMALL_GAIN:
        sentence = f"F1 rose by {found.change:.2f}, which may be chance with {found.n} validation patches."
        return Diagnosis(name, State.UNKNOWN, sentence, "", numbers)
    if found.worse:
        return Diagnosis(
            name,
            State.WARNING,
            f"{_patches(more_labels)} more made it worse: F1 fell from {found.before:.2f} to {found.after:.2f} on the "
            f"same {found.n} validation patches.",
            "Compare the two models under Predictions, look for mistakes in the labels of the newest batch, and train "
            "again. Until then the earlier model is the better one.",
            numbers,
        )
    return Diagnosis(
        name,
        State.WARNING,
        f"{_patches(more_labels)} more did not help: F1 went from {found.before:.2f} to {found.after:.2f} on the same "
        f"{found.n} validation patches.",
        "Look at the worst predictions below. If the outlines there look right to you, your labels may be "
        "inconsistent: check them. Else train longer (preset “standard” on the Train tab).",
        numbers,
    )


def similar_picks(batch: np.ndarray, pool_vectors: np.ndarray, labelled: np.ndarray, seed: int = 0) -> Diagnosis:
    """Whether a batch is varied, compared with random batches of the same size.

    float32 L2-normalised embeddings: `batch` (k, D); `pool_vectors` (N, D) of all patches it could be picked from, the
    batch among them; `labelled` (M, D) of the patches that were labelled before.
    """
    name = "Similar picks"
    k, n = len(batch), len(pool_vectors)
    if k < 3 or n < 2 * k:
        return Diagnosis(name, State.UNKNOWN, "The batch, or the choice for it, is too small to compare.")
    found = variety(batch, pool_vectors, labelled, seed)
    alike = (found.random_spread <= found.spread).mean() < ALIKE_SHARE
    useless = (found.random_cover >= found.cover).mean() < ALIKE_SHARE
    numbers = {
        "patches in the batch": k,
        "mean distance between two picks (0: alike, 2: opposite)": found.spread,
        "the same of a random batch, on average": float(found.random_spread.mean()),
        "mean distance of all patches to the nearest labelled one": found.cover,
        "the same after a random batch, on average": float(found.random_cover.mean()),
    }
    if not alike and not useless:
        return Diagnosis(name, State.OK, "The picks differ from each other as they should.", "", numbers)
    return Diagnosis(
        name,
        State.WARNING,
        "The patches of the newest batch resemble each other more than patches drawn at random would."
        if alike
        else "The newest batch represents the images no better than patches drawn at random would.",
        "In the next batch, swap picks that look alike, or try another strategy; both are on the Rounds tab.",
        numbers,
    )


def overfitting(training: Sequence[InstanceScores], validation: Sequence[InstanceScores]) -> Diagnosis:
    """Whether the training patches are learned by heart: the newest model's scores on both."""
    name = "Learned by heart"
    if min(len(training), len(validation)) < 3:
        return Diagnosis(name, State.UNKNOWN, "Too few patches to compare training with validation.")
    fit, held = pool(training).f1_50, pool(validation).f1_50
    interval = unpaired_interval(training, validation)
    numbers = {
        "F1 on training patches": fit,
        "F1 on validation patches": held,
        **_interval("difference", interval),
        "training patches": len(training),
        "validation patches": len(validation),
    }
    if fit - held <= OVERFIT_GAP or interval[0] <= 0:
        sentence = f"F1 is {fit:.2f} on training and {held:.2f} on validation patches."
        return Diagnosis(name, State.OK, sentence, "", numbers)
    return Diagnosis(
        name,
        State.WARNING,
        f"The model knows its training patches by heart (F1 {fit:.2f}) but does worse on others ({held:.2f}).",
        "Annotate another batch: variety helps more than longer training.",
        numbers,
    )


def gap_to_full(curve: Sequence[tuple[int, float]], everything: int, full: float | None = None) -> Diagnosis:
    """How much is still to be gained. `curve`: (patches trained on, F1) of each round, in order; `everything`: how
    many patches could be trained on; `full`: F1 of a model that was trained on all of them, where there is one."""
    name = "Large gap to full labels"
    if not curve:
        return Diagnosis(name, State.UNKNOWN, "There is no score of a round yet.")
    n, newest = curve[-1]
    expected = extrapolate(curve, everything) if full is None else full
    if expected is None:
        return Diagnosis(name, State.UNKNOWN, "It takes three rounds with a rising score to see where the curve leads.")
    source = "F1 with all labels, measured" if full is not None else "F1 with all labels, extrapolated"
    numbers = {"patches trained on": n, "of": everything, "F1 now": newest, source: expected}
    if expected - newest <= FULL_GAP:
        return Diagnosis(name, State.OK, f"Labelling everything would give about {expected:.2f}.", "", numbers)
    known = "gives" if full is not None else "would give about"
    return Diagnosis(
        name,
        State.WARNING,
        f"F1 is {newest:.2f} with {_patches(n)}; labelling all {everything} {known} {expected:.2f}.",
        "More labels pay here: select another batch on the Rounds tab, and train longer.",
        numbers,
    )


def merges_and_splits(found: Sequence[Compared]) -> Diagnosis:
    """Whether objects are run together or cut up: the newest model against the labels of validation patches."""
    name = "Merged or split objects"
    n_true = sum(part.scores.n_true for part in found)
    if n_true < FEW_OBJECTS:
        return Diagnosis(name, State.UNKNOWN, "Too few objects in the validation patches to count merges and splits.")
    merges, splits = (sum(getattr(part.errors, kind) for part in found) for kind in ("merges", "splits"))
    numbers = {"objects in the validation patches": n_true, "merges": merges, "splits": splits}
    if max(merges, splits) < MIN_MISTAKES or merges + splits < MISTAKE_SHARE * n_true:
        sentence = f"{counted(merges, 'merge')} and {counted(splits, 'split')} in {counted(n_true, 'object')}."
        return Diagnosis(name, State.OK, sentence, "", numbers)
    if merges >= splits:
        what = (
            f"{merges} predicted objects cover two or more of yours (and {splits} of yours {is_or_are(splits)} split)"
        )
        advice = (
            "Annotate patches where objects touch, each object with its own outline up to the other's. Check in the "
            "predictions below that objects that touch are not one object in your labels."
        )
    else:
        several = f"{counted(merges, 'prediction')} {'covers' if merges == 1 else 'cover'} several"
        what = f"{splits} of your {n_true} objects are predicted in pieces (and {several})"
        advice = (
            "Annotate patches with the largest objects. If yours are much larger than the size on the Train tab, plan "
            "the network anew: Train tab, For experts, Make the plan anew."
        )
    return Diagnosis(name, State.WARNING, f"In the validation patches {what}.", advice, numbers)


def object_size(planned: float, annotated: float, n_objects: int) -> Diagnosis:
    """Whether the plan still fits: the object diameter it was made for, and the median of the human labels; both in
    pixels."""
    name = "Object size of the plan"
    if n_objects < FEW_OBJECTS:
        return Diagnosis(name, State.UNKNOWN, "Too few annotated objects to tell their typical size.")
    numbers = {"planned for objects of (pixels)": planned, "your objects (pixels)": annotated, "objects": n_objects}
    if max(planned, annotated) <= SIZE_FACTOR * min(planned, annotated):
        sentence = f"The network is planned for objects of {planned:.0f} pixels; yours have {annotated:.0f}."
        return Diagnosis(name, State.OK, sentence, "", numbers)
    return Diagnosis(
        name,
        State.WARNING,
        f"The network is planned for objects of {planned:.0f} pixels, but yours are {annotated:.0f} pixels wide.",
        "Plan the network anew on your labels: Train tab, For experts, Make the plan anew. It starts from the "
        "beginning, or from the pre-trained model where that still fits; the models so far are kept.",
        numbers,
    )


def _size_ratio(pseudo: Sequence[Compared], dimensions: int) -> float | None:
    true = [size for part in pseudo for size in part.errors.true_sizes]
    found = [size for part in pseudo for size in part.errors.found_sizes]
    return float((np.median(found) / np.median(true)) ** (1 / dimensions)) if true and found else None


def _what_is_wrong(found: InstanceScores, invented: float, ratio: float | None) -> str:
    parts = []
    if found.n_pred == 0:
        return "they have no object on the patches that you annotated"
    if invented > INVENTED_SHARE:
        parts.append(f"{invented:.0%} of them lie where you see no object")
    if ratio is not None and max(ratio, 1 / ratio) > SIZE_FACTOR:
        parts.append(f"they are {ratio:.1f} times as wide as your objects")
    return " and ".join(parts) or f"only {found.tp_50} of your {found.n_true} objects are outlined right"


def _interval(what: str, interval: tuple[float, float] | None) -> dict[str, float]:
    if interval is None:
        return {}
    return {f"{what}, lower end of the 95% interval": interval[0], f"{what}, upper end": interval[1]}


def there_are(n: int) -> str:
    """How many there are, in words."""
    return f"there {is_or_are(n)} {n}"


def _patches(n: int) -> str:
    return counted(n, "labelled patch", "labelled patches")
