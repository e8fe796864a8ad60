"""Embeddings, plans, checkpoints, loss curves, scores, timings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from alapp.domain import InstanceScores
from alapp.storage.annotations import CLOSING
from alapp.storage.db import Store, insert, now, required, to_json


@dataclass(frozen=True)
class Embedding:
    """A row of `embedding`: the matrix (N, D) and the patch id of each row, as files."""

    id: int
    project_id: int
    backend: str
    params: dict[str, Any]
    model_path: str | None
    model_sha256: str | None
    path: str
    sha256: str
    patch_ids_path: str
    patch_ids_sha256: str
    created: str


@dataclass(frozen=True)
class Plan:
    """A row of `plan`; `summary` is `stages.train.base.PlanSummary` as JSON."""

    id: int
    project_id: int
    preset: str
    input_hash: str
    workspace: str
    summary: dict[str, Any]
    created: str


@dataclass(frozen=True)
class Checkpoint:
    """A row of `checkpoint`. `round_id` is None for the one pre-trained on pseudo-labels; `removed_at` is when its
    file was removed to free disk space; `pinned`: the user wants to keep it; `n_rehearsed`: patches with pseudo-labels
    that a round learned from besides the `n_cases` labelled ones, see `rounds.train.rehearsal`; `n_labelled`: patches
    that were finished when the round was trained, validation included, of `n_patches` that could be picked then; each
    None if it was not kept."""

    id: int
    project_id: int
    plan_id: int
    round_id: int | None
    parent_id: int | None
    preset: str
    iterations: int
    n_cases: int
    seed: int
    seconds: float
    input_hash: str
    path: str
    sha256: str
    created: str
    pinned: bool
    removed_at: str | None
    n_rehearsed: int
    n_labelled: int | None = None
    n_patches: int | None = None


@dataclass(frozen=True)
class Score:
    """A row of `score`: one image (patch_id None) or one patch, by one checkpoint."""

    checkpoint_id: int
    image_id: int
    patch_id: int | None
    split: str
    scores: InstanceScores


_SCORE_COLUMNS = ("f1_50", "ap_50", "ap_75", "pq", "dice", "n_true", "n_pred", "tp_50", "fp_50", "fn_50")

_WITH_TRUTH = """score LEFT JOIN label_map AS truth ON truth.id = CASE WHEN score.patch_id IS NULL
    THEN (SELECT max(id) FROM label_map
          WHERE image_id = score.image_id AND kind = 'reference' AND label_map.patch_id IS NULL)
    ELSE (SELECT max(id) FROM label_map WHERE patch_id = score.patch_id AND kind = 'human') END"""
_OF_TRUTH = "coalesce(score.label_map_id = truth.id, score.created > truth.created, 1)"
"""Whether a score is against the labels of today. Those from before the label map was kept are told by their times."""


def add_embedding(store: Store, values: Mapping[str, Any]) -> Embedding:
    """Add an embedding row; returns it."""
    row = {"created": now(), **values, "params": to_json(values["params"])}
    store.insert("embedding", row)
    found = latest_embedding(store, values["project_id"])
    assert found is not None
    return found


def latest_embedding(store: Store, project_id: int, backend: str | None = None) -> Embedding | None:
    """The newest embedding of a project, by any embedder or by one."""
    sql = "SELECT * FROM embedding WHERE project_id = :p AND (:backend IS NULL OR backend = :backend)"
    row = store.row(sql + " ORDER BY id DESC LIMIT 1", {"p": project_id, "backend": backend})
    return Embedding(**row | {"params": json.loads(row["params"])}) if row else None


def add_plan(store: Store, values: Mapping[str, Any]) -> Plan:
    """Add a plan row; returns it."""
    plan_id = store.insert("plan", {"created": now(), **values, "summary": to_json(values["summary"])})
    return plan(store, plan_id)


def plan(store: Store, plan_id: int) -> Plan:
    """The plan with this id. Raises `NotReadyError` if there is none."""
    return _plan(required(store.row("SELECT * FROM plan WHERE id = ?", (plan_id,)), "This plan"))


def find_plan(store: Store, project_id: int, preset: str) -> Plan | None:
    """The plan in use of a project for a preset: the newest; another is made only when an expert asks for it."""
    row = store.row(
        "SELECT * FROM plan WHERE project_id = ? AND preset = ? ORDER BY id DESC LIMIT 1", (project_id, preset)
    )
    return _plan(row) if row else None


def plans(store: Store, project_id: int, preset: str) -> list[Plan]:
    """Every plan a project had for a preset, oldest first; the last one is in use."""
    rows = store.rows("SELECT * FROM plan WHERE project_id = ? AND preset = ? ORDER BY id", (project_id, preset))
    return [_plan(row) for row in rows]


def add_checkpoint(store: Store, values: Mapping[str, Any]) -> Checkpoint:
    """Add a checkpoint row; returns it."""
    return checkpoint(store, store.insert("checkpoint", {"created": now(), **values}))


def checkpoint(store: Store, checkpoint_id: int) -> Checkpoint:
    """The checkpoint with this id. Raises `NotReadyError` if there is none."""
    row = store.row("SELECT * FROM checkpoint WHERE id = ?", (checkpoint_id,))
    return _checkpoint(required(row, "This checkpoint"))


def checkpoints(store: Store, project_id: int) -> list[Checkpoint]:
    """All checkpoints of a project, oldest first."""
    rows = store.rows("SELECT * FROM checkpoint WHERE project_id = ? ORDER BY id", (project_id,))
    return [_checkpoint(row) for row in rows]


def latest_checkpoint(store: Store, project_id: int, preset: str | None = None) -> Checkpoint | None:
    """The newest checkpoint, of any preset or of one (presets may differ in architecture)."""
    sql = "SELECT * FROM checkpoint WHERE project_id = :p AND (:preset IS NULL OR preset = :preset)"
    row = store.row(sql + " ORDER BY id DESC LIMIT 1", {"p": project_id, "preset": preset})
    return _checkpoint(row) if row else None


def find_checkpoint(store: Store, project_id: int, input_hash: str) -> Checkpoint | None:
    """A finished run with the same inputs."""
    row = store.row("SELECT * FROM checkpoint WHERE project_id = ? AND input_hash = ?", (project_id, input_hash))
    return _checkpoint(row) if row else None


def pin_checkpoint(store: Store, checkpoint_id: int, pinned: bool) -> None:
    """Keep the file of a checkpoint whatever the rule says, or no longer."""
    store.execute("UPDATE checkpoint SET pinned = ? WHERE id = ?", (int(pinned), checkpoint_id))


def mark_removed(store: Store, checkpoint_id: int) -> None:
    """The file of a checkpoint is about to be removed; its row, scores and predictions stay."""
    store.execute("UPDATE checkpoint SET removed_at = ? WHERE id = ?", (now(), checkpoint_id))


def restore_checkpoint(store: Store, checkpoint_id: int, values: Mapping[str, Any]) -> Checkpoint:
    """A checkpoint whose file was removed has one again: `values` has path, sha256 and seconds. Returns it."""
    store.execute(
        "UPDATE checkpoint SET removed_at = NULL, path = :path, sha256 = :sha256, seconds = :seconds WHERE id = :id",
        {name: values[name] for name in ("path", "sha256", "seconds")} | {"id": checkpoint_id},
    )
    return checkpoint(store, checkpoint_id)


def add_memory_note(store: Store, project_id: int, input_hash: str, reduction: int, sentence: str) -> None:
    """A training run goes on in smaller portions, because memory ran out."""
    row = {"project_id": project_id, "input_hash": input_hash, "reduction": reduction, "sentence": sentence}
    with store.atomic() as db:
        db.conn.execute(
            "DELETE FROM training_memory WHERE project_id = ? AND input_hash = ? AND reduction = ?",
            (project_id, input_hash, reduction),
        )
        insert(db, "training_memory", {**row, "created": now()})


def memory_notes(store: Store, project_id: int, input_hash: str) -> list[tuple[int, str]]:
    """(reduction, sentence) of each time that a training run ran out of memory, oldest first."""
    rows = store.rows(
        "SELECT reduction, sentence FROM training_memory WHERE project_id = ? AND input_hash = ? ORDER BY reduction",
        (project_id, input_hash),
    )
    return [(row["reduction"], row["sentence"]) for row in rows]


def memory_notes_since(store: Store, project_id: int, since: str) -> list[str]:
    """Sentences of the times that trainings ran out of memory from `since` (as `now()`) on, oldest first."""
    rows = store.rows(
        "SELECT sentence FROM training_memory WHERE project_id = ? AND created >= ? ORDER BY id", (project_id, since)
    )
    return [row["sentence"] for row in rows]


def log_epoch(store: Store, project_id: int, round_id: int | None, input_hash: str, values: Mapping[str, Any]) -> None:
    """Add (or, after a resume, replace) one line of the loss curve."""
    row = {"project_id": project_id, "round_id": round_id, "input_hash": input_hash, **values}
    with store.atomic() as db:
        db.conn.execute(
            "DELETE FROM training_log WHERE project_id = ? AND input_hash = ? AND epoch = ?",
            (project_id, input_hash, row["epoch"]),
        )
        insert(db, "training_log", row)


def training_runs(store: Store, project_id: int) -> dict[str, list[dict[str, Any]]]:
    """Loss curves: for each training run (input hash), its epochs in order; oldest run first."""
    rows = store.rows(
        """SELECT training_log.*, coalesce(round.number, 0) AS round_number FROM training_log
           LEFT JOIN round ON round.id = training_log.round_id
           WHERE training_log.project_id = ? ORDER BY training_log.id""",
        (project_id,),
    )
    runs: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        runs.setdefault(row["input_hash"], []).append(row)
    return {name: sorted(run, key=lambda row: row["epoch"]) for name, run in runs.items()}


def results_stamp(store: Store, project_id: int) -> list[int]:
    """Other numbers whenever a label map or a score of a project came or went."""
    row = required(
        store.row(
            """SELECT (SELECT count(*) FROM label_map WHERE project_id = :p) AS maps,
                      (SELECT ifnull(max(id), 0) FROM label_map WHERE project_id = :p) AS newest_map,
                      count(*) AS scores, ifnull(max(score.id), 0) AS newest_score
               FROM score JOIN checkpoint ON checkpoint.id = score.checkpoint_id WHERE checkpoint.project_id = :p""",
            {"p": project_id},
        ),
        "This project",
    )
    return list(row.values())


def add_score(
    store: Store,
    checkpoint_id: int,
    image_id: int,
    patch_id: int | None,
    split: str,
    scores: InstanceScores,
    label_map_id: int | None = None,
) -> None:
    """Add the score of one image or patch against the label map `label_map_id`; an earlier one of the same checkpoint
    is replaced."""
    values = asdict(scores)
    with store.atomic() as db:
        db.conn.execute(
            "DELETE FROM score WHERE checkpoint_id = ? AND image_id = ? AND patch_id IS ? AND split = ?",
            (checkpoint_id, image_id, patch_id, split),
        )
        row = {"checkpoint_id": checkpoint_id, "image_id": image_id, "patch_id": patch_id, "split": split}
        row |= {name: values[name] for name in _SCORE_COLUMNS} | {"label_map_id": label_map_id, "created": now()}
        insert(db, "score", row)


def scores(store: Store, checkpoint_id: int, split: str | None = None) -> list[Score]:
    """Scores of a checkpoint, by image and patch; those on images that were removed and on patches that were skipped
    or opened again do not count while they are, nor those against labels that were corrected since."""
    rows = store.rows(
        f"""SELECT score.* FROM {_WITH_TRUTH} JOIN image ON image.id = score.image_id
           WHERE score.checkpoint_id = :c AND (:split IS NULL OR split = :split) AND image.deleted IS NULL
             AND {_OF_TRUTH}
             AND coalesce((SELECT kind FROM annotation_event WHERE patch_id = score.patch_id AND kind IN {CLOSING}
                           ORDER BY revision DESC LIMIT 1), 'done') = 'done'
           ORDER BY score.image_id, score.patch_id""",
        {"c": checkpoint_id, "split": split},
    )
    return [
        Score(
            row["checkpoint_id"],
            row["image_id"],
            row["patch_id"],
            row["split"],
            InstanceScores(**{name: row[name] for name in _SCORE_COLUMNS}),
        )
        for row in rows
    ]


def scored(store: Store, checkpoint_id: int, split: str) -> dict[tuple[int, int | None], bool]:
    """What was scored, as (image id, patch id), and whether against the newest labels."""
    rows = store.rows(
        f"""SELECT score.image_id, score.patch_id, {_OF_TRUTH} AS newest FROM {_WITH_TRUTH}
           WHERE score.checkpoint_id = ? AND split = ?""",
        (checkpoint_id, split),
    )
    return {(row["image_id"], row["patch_id"]): bool(row["newest"]) for row in rows}


def add_timing(store: Store, project_id: int, round_number: int, stage: str, seconds: float) -> None:
    """Record how long a stage took."""
    row = {"project_id": project_id, "round_number": round_number, "stage": stage, "seconds": seconds}
    store.insert("timing", {**row, "created": now()})


def timings(store: Store, project_id: int) -> dict[int, dict[str, float]]:
    """Seconds by round number and stage (the sum of repeated runs)."""
    rows = store.rows(
        """SELECT round_number, stage, sum(seconds) AS seconds FROM timing WHERE project_id = ?
           GROUP BY round_number, stage""",
        (project_id,),
    )
    result: dict[int, dict[str, float]] = {}
    for row in rows:
        result.setdefault(row["round_number"], {})[row["stage"]] = row["seconds"]
    return result


def _checkpoint(row: dict[str, Any]) -> Checkpoint:
    return Checkpoint(**row | {"pinned": bool(row["pinned"])})


def _plan(row: dict[str, Any]) -> Plan:
    return Plan(**row | {"summary": json.loads(row["summary"])})
