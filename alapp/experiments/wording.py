"""What a person writes about an experiment, and how its parts are called in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alapp.errors import InputError
from alapp.experiments import corruption
from alapp.experiments.study import ALL, CHAIN, NONE, SINGLE
from alapp.stages.pseudolabel.base import PSEUDO_LABELLERS
from alapp.stages.select.base import SELECTORS

STARTS = {
    "auto": "pre-trained on pseudo-labels",
    NONE: "not pre-trained",
    corruption.REFERENCE: "pre-trained on perfect labels",
}
DAMAGE = {
    "drop": "objects missing",
    "merge": "objects merged",
    "shift": "objects shifted",
    "wrong": "wrong objects",
}
SCHEDULES = {CHAIN: "round after round", SINGLE: "all at once", "": ""}


def budgets_of(text: str) -> tuple[float, ...]:
    """Budgets from "16, 32, 64" (patches), "6.25%, 12.5%" or "0.0625, 0.125" (shares), ascending and each once.

    Raises `InputError` for what is no number, and where patches and shares are mixed.
    """
    found = sorted({_budget(part) for part in text.replace(";", ",").split(",") if part.strip()})
    if not found:
        raise InputError("Say how many patches are labelled: numbers like 16, 32, 64, or shares like 6.25%, 12.5%.")
    if found[0] < 1 <= found[-1]:
        raise InputError("Say all budgets in patches, or all as shares, so that it is plain which is larger.")
    return tuple(found)


def _budget(part: str) -> float:
    share = part.strip().endswith("%")
    try:
        value = float(part.strip().removesuffix("%"))
    except ValueError:
        raise InputError(f"A budget is a number of patches or a share of them; {part.strip()!r} is none.") from None
    if share and not 0 < value < 100:
        raise InputError(
            f"A share must be above 0 and below 100%; it is {value:g}%. All patches are trained on anyway."
        )
    if not value > 0:
        raise InputError(f"A budget must be above 0; {part.strip()!r} is not.")
    return value / 100 if share else value


def starts_of(plain: Sequence[str], damages: Sequence[str], strength: float, damaged: str) -> tuple[str, ...]:
    """Starts: `plain` ones, and the labels `damaged` ("auto", "reference") in each of the ways `damages` with a
    strength above 0 (a share of the objects; diameters for "shift"). Raises `InputError` for what there is not."""
    if damages and not 0 < strength <= 1:
        raise InputError(f"The strength of the errors must be above 0 and at most 1; it is {strength:g}.")
    found = (*plain, *(f"{damaged}:{name}={strength:g}" for name in damages))
    for start in found:
        corruption.check_start(start)
    return tuple(dict.fromkeys(found))


def folder_of(text: str) -> str | None:
    """The full path of a folder as a person wrote or pasted it; None for nothing."""
    plain = text.strip().strip("\"'")
    return str(Path(plain).expanduser().resolve()) if plain else None


def start(name: str) -> str:
    """A start in words."""
    method, damage, strength = corruption.parse(name)
    told = STARTS.get(method)
    if told is None:
        told = f"pre-trained by {PSEUDO_LABELLERS.load(method).title}"
    if damage is None:
        return told
    amount = f"by {strength:g} diameters" if damage == "shift" else f"{100 * strength:.0f}%"
    return f"{told}, {DAMAGE[damage]} ({amount})"


def strategy(name: str) -> str:
    """A strategy in words; of "" the network after pre-training."""
    if name == ALL:
        return "every patch"
    if not name:
        return "pre-training only"
    return SELECTORS.load(name).title if name in SELECTORS else name


def budget(value: float | None) -> str:
    """A budget in words."""
    if value is None:
        return "all"
    return f"{100 * value:g}%" if 0 < value < 1 else f"{value:g}"
