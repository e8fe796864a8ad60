"""docs/plugins.md at its word: each file and line of it is added to a copy of the app, whose tests must pass on it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = re.compile(
    r"^File `(?P<file>[^`]+)`:\n\n```python\n(?P<code>.*?)```\n\n"
    r"^Line in `(?P<registry>\w+)`, in `(?P<base>[^`]+)`:\n\n```\n(?P<line>[^\n]+)\n```$",
    re.MULTILINE | re.DOTALL,
)
EXAMPLES = [match.groupdict() for match in EXAMPLE.finditer((ROOT / "docs/plugins.md").read_text(encoding="utf-8"))]


def name_of(example):
    return re.match(r'"(\w+)"', example["line"])[1]


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """A copy of the app and its tests, with every example of the page added as the page says."""
    folder = tmp_path_factory.mktemp("app")
    for name in ("alapp", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for example in EXAMPLES:
        assert not (ROOT / example["file"]).exists()
        (folder / example["file"]).write_text(example["code"], encoding="utf-8")
        base = folder / example["base"]
        before = base.read_text(encoding="utf-8")
        # The line comes first in the registry's dictionary.
        opening = rf"(\n{example['registry']}: Registry.*?\{{\n)"
        after = re.sub(opening, rf"\1        {example['line']}\n", before, count=1, flags=re.DOTALL)
        assert after != before
        base.write_text(after, encoding="utf-8")
    return folder


def run(app, *command):
    return subprocess.run([sys.executable, "-m", *command], cwd=app, capture_output=True, text=True)


def test_there_is_an_example_of_each_kind():
    registries = [example["registry"] for example in EXAMPLES]
    assert registries == ["CLICK_SEGMENTERS", "PSEUDO_LABELLERS", "SELECTORS", "EMBEDDERS"]


def test_the_examples_are_written_like_the_app(app):
    """By the same rules; `ruff format` would wrap them as they are."""
    files = [example["file"] for example in EXAMPLES]
    for command in (["check"], ["format", "--check"]):
        done = run(app, "ruff", *command, *files)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_the_tests_of_its_stage_pass_on_it(app, example):
    stage = Path(example["file"]).parent.name
    done = run(app, "pytest", f"tests/stages/{stage}", "-k", name_of(example), "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 5
    assert "skipped" not in done.stdout


def test_the_app_finds_them_ready(app):
    """As `doctor` and the pages ask; strategies have no state."""
    asked = [example for example in EXAMPLES if example["registry"] != "SELECTORS"]
    for example in asked:
        module = example["base"].removesuffix(".py").replace("/", ".")
        code = (
            f"from {module} import {example['registry']} as registry\n"
            f"assert registry.load({name_of(example)!r}).status().ready\n"
        )
        subprocess.run([sys.executable, "-c", code], cwd=app, check=True)
