"""Pins the schema: a released migration is never edited; a change is a new migration and a new pin."""

from __future__ import annotations

import hashlib
import re

from alapp.storage.db import Store
from alapp.storage.schema import migrations

NAMES = [
    "m001_projects",
    "m002_jobs",
    "m003_rounds",
    "m004_models",
    "m005_probabilities",
    "m006_classes",
    "m007_measuring",
    "m008_verdicts",
    "m009_pausing",
    "m012_experiments",
    "m013_compared_by",
    "m014_lane",
    "m015_rehearsed",
    "m016_scored_against",
    "m017_labelled",
    "m018_vetoed",
    "m019_patches_then",
]
SHA256 = "3d9372a67d89a11c20cc9d2afe1bfb6add6a0ac595d10ffba402061b9667650d"


def schema(store: Store) -> str:
    """The schema of a fresh database, without comments and layout."""
    rows = store.rows(
        "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE '\\_%' ESCAPE '\\' ORDER BY name"
    )
    without_comments = [re.sub(r"--[^\n]*", "", row["sql"]) for row in rows]
    return "\n".join(re.sub(r"\s+", " ", sql) for sql in without_comments)


def test_the_schema_is_the_released_one(store: Store) -> None:
    assert [migration.name for migration in migrations._migrations] == NAMES
    assert hashlib.sha256(schema(store).encode()).hexdigest() == SHA256, schema(store)


def test_every_table_is_strict(store: Store) -> None:
    tables = store.rows("SELECT name, strict FROM pragma_table_list WHERE type = 'table' AND name NOT LIKE '%sqlite_%'")
    assert tables
    assert [table["name"] for table in tables if not table["strict"]] == []
