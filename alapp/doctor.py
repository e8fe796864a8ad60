"""What is wrong with the installation or the state folder, and what to do about it. Changes nothing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from alapp import doctor_database, doctor_models
from alapp.domain import BackendState, Status
from alapp.environment import machine
from alapp.errors import AlappError
from alapp.finding import Finding, Level
from alapp.storage import dead_jobs
from alapp.storage import jobs as job_rows
from alapp.storage.db import DATABASE, Store
from alapp.storage.files import sha256_of
from alapp.storage.schema import migrations
from alapp.supervisor import worker_record

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements.txt"

STORED_FILES = (
    ("image", "path", "sha256"),
    ("label_map", "path", "sha256"),
    ("embedding", "path", "sha256"),
    ("embedding", "patch_ids_path", "patch_ids_sha256"),
    ("embedding", "model_path", "model_sha256"),
    ("checkpoint", "path", "sha256"),
    ("probability", "path", "sha256"),
)
"""Table, column of the path, column of the hash: every file that a row points to."""

DERIVED = (
    "embeddings/known.npz",
    "embeddings/map-*.npy",
    "advice/facts-*.json",
    "embeddings/training-*.pt",
    "exports/*",
    "exports/*/*",
    "exports/applied/*/*",
    "uploads/*/*/*",
)
"""Files without a row of their own: computed again when missing, or made for the user."""

TESTED_PYTHON = (3, 11)
LOW_DISK_GB, LOW_RAM_GB = 5.0, 8.0


def diagnose(
    state: Store | Path | str, *, hashes: bool = True, backends: bool = True, online: bool = False
) -> list[Finding]:
    """Everything that was checked, in the order of the installation, the machine and the state folder.

    A state folder that does not exist yet is not created. `hashes=False` leaves out reading every stored
    file, `backends=False` the optional models; `online` tries the servers of models. Never raises for a damaged state;
    that is a finding.
    """
    root = state.root if isinstance(state, Store) else Path(state).expanduser().resolve()
    findings = [_python(), *_packages(), _torchvision(), _segment_anything(), *_machine(root)]
    if backends:
        findings += [*_backends(), *doctor_models.diagnose(hashes=hashes, online=online)]
    return findings + list(_state(root, hashes))


def worst(findings: Iterable[Finding]) -> Level:
    """The most serious level among the findings."""
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] != TESTED_PYTHON:
        tested = ".".join(map(str, TESTED_PYTHON))
        return Finding(Level.NOTE, "Python", f"{version}; the pinned packages were tested with {tested}.")
    return Finding(Level.OK, "Python", f"{version} on {sys.platform}")


def pinned(requirements: str) -> dict[str, str]:
    """Names and versions of the `name==version` lines of a requirements file."""
    return dict(re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;#]+)", requirements, flags=re.MULTILINE))


def _packages() -> list[Finding]:
    if not REQUIREMENTS.exists():
        return [Finding(Level.NOTE, "Packages", "requirements.txt is not beside the package, so pins are unknown.")]
    remedy = f"Run: {sys.executable} -m pip install -r requirements.txt"
    findings = []
    for name, wanted in pinned(REQUIREMENTS.read_text(encoding="utf-8")).items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding(Level.ERROR, name, "is not installed.", remedy))
            continue
        if found.partition("+")[0] != wanted.partition("+")[0]:
            findings.append(Finding(Level.WARNING, name, f"is {found}; the app was tested with {wanted}.", remedy))
    return findings or [Finding(Level.OK, "Packages", "all have the version of requirements.txt")]


_PROBE = """
from alapp.environment import prepare, torchvision_remedied
prepare()
import torchvision
print("remedied" if torchvision_remedied() else "real")
"""


def _torchvision() -> Finding:
    """Import it in a process of its own, as the worker does."""
    folder = Path(__file__).resolve().parent.parent
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=180, cwd=folder, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding(Level.WARNING, "torchvision", "could not be imported within three minutes.", "Try again.")
    if probe.returncode:
        last = (probe.stderr.strip().splitlines() or ["no message"])[-1]
        remedy = "Install torch and torchvision with the versions of requirements.txt, from the same index."
        return Finding(Level.ERROR, "torchvision", f"cannot be imported: {last}", remedy)
    if probe.stdout.strip() == "remedied":
        detail = "its compiled operators do not fit this torch; the app replaces the one it needs, which is slower"
        return Finding(Level.NOTE, "torchvision", detail)
    return Finding(Level.OK, "torchvision", "works with its own operators")


def _segment_anything() -> Finding:
    owners = importlib.metadata.packages_distributions().get("segment_anything", [])
    names = sorted({owner.lower().replace("_", "-") for owner in owners})
    if len(names) > 1:
        remedy = "Run: pip uninstall segment-anything segment-anything-py, then pip install -r requirements.txt"
        detail = f"the module belongs to {' and '.join(names)}; which one is used depends on chance."
        return Finding(Level.ERROR, "segment_anything", detail, remedy)
    return Finding(Level.OK, "segment_anything", f"from {names[0]}" if names else "not installed")


def _machine(root: Path) -> list[Finding]:
    found = machine()
    gpu = (
        f"{found.gpu_name}, {found.gpu_gb:.0f} GB"
        if found.gpu_gb
        else "none that torch can use; training runs on the CPU"
    )
    findings = [
        Finding(Level.OK if found.gpu_gb else Level.NOTE, "GPU", gpu),
        Finding(Level.OK, "Processor", f"{found.cores} usable cores"),
        Finding(
            Level.OK if found.ram_gb >= LOW_RAM_GB else Level.WARNING,
            "Memory",
            f"{found.ram_gb:.0f} GB",
            ""
            if found.ram_gb >= LOW_RAM_GB
            else "Use the built-in methods, and for training fewer “Windows a batch” (Train tab, “For experts”).",
        ),
    ]
    return [*findings, *_disk(root)]


def _disk(root: Path) -> Iterator[Finding]:
    for folder in (root, *root.parents):  # the first that is there, and may be looked into
        with suppress(OSError):
            free = shutil.disk_usage(folder).free / 1e9
            low = free < LOW_DISK_GB
            remedy = "Free some space, or use a folder on another disk with --state." if low else ""
            yield Finding(Level.WARNING if low else Level.OK, "Disk", f"{free:.1f} GB free at {folder}", remedy)
            return


_LEVELS = {BackendState.READY: Level.OK, BackendState.BROKEN: Level.WARNING}


def _backends() -> list[Finding]:
    from alapp.stages.annotate.base import CLICK_SEGMENTERS
    from alapp.stages.embed.base import EMBEDDERS
    from alapp.stages.pseudolabel.base import PSEUDO_LABELLERS

    findings = []
    for registry in (PSEUDO_LABELLERS, EMBEDDERS, CLICK_SEGMENTERS):
        for name in registry:
            try:
                status: Status = registry.load(name).status()
            except (ImportError, AttributeError, AlappError) as error:
                status = Status(BackendState.BROKEN, f"{type(error).__name__}: {error}", "Reinstall the app.")
            detail = f"{status.state}. {status.detail}".strip()
            level = _LEVELS.get(status.state, Level.NOTE)
            findings.append(Finding(level, f"{registry.kind} {name}", detail, status.remedy))
    return findings


def _state(root: Path, hashes: bool) -> Iterator[Finding]:
    try:
        if not (root / DATABASE).exists():
            yield Finding(Level.NOTE, "State folder", f"{root} holds no project yet; the first start creates it.")
            return
        yield from _known_state(root, hashes)
    except OSError as error:
        detail = f"{error.filename or root} cannot be looked into: {error.strerror or error}."
        yield Finding(Level.ERROR, "State folder", detail, "Let this user read it, or choose another one with --state.")


def _known_state(root: Path, hashes: bool) -> Iterator[Finding]:
    finding, applied = doctor_database.check(root)
    if finding is not None:
        yield finding
        return
    missing = [migration.name for migration in migrations._migrations if migration.name not in applied]
    if missing:  # opening it would migrate it
        detail = f"{root / DATABASE} is intact, from an older version: {', '.join(missing)} are to come."
        yield Finding(Level.NOTE, "Database", detail, "Start the app: it makes a backup, then migrates.")
        return
    yield Finding(Level.OK, "Database", f"{root / DATABASE}, schema {applied[-1]}, intact")
    try:
        store = Store(root)
        found = [*_files(store, hashes), _worker(store)]
    except (AlappError, sqlite3.OperationalError) as error:
        yield Finding(Level.ERROR, "State folder", str(error), "" if isinstance(error, AlappError) else "Try again.")
        return
    yield from found


def _files(store: Store, hashes: bool) -> Iterator[Finding]:
    recorded: set[Path] = set()
    missing, damaged = [], []
    for path, sha256 in recorded_files(store):
        file = (store.root / path).resolve()
        recorded.add(file)
        if not file.is_file():
            missing.append(path)
        elif hashes and sha256_of(file) != sha256:
            damaged.append(path)
    restore = "Restore these files from a copy of the state folder, or delete what uses them and make it anew."
    if missing:
        yield Finding(Level.ERROR, "Missing files", _list(missing), restore)
    if damaged:
        yield Finding(Level.ERROR, "Damaged files", _list(damaged), restore)
    if not missing and not damaged:
        checked = "all there and unchanged" if hashes else "all there"
        yield Finding(Level.OK, "Stored files", f"{len(recorded)}, {checked}")
    temporary, orphans = _unrecorded(store, recorded)
    size = sum(path.stat().st_size for path in orphans + temporary) / 1e6
    delete = "They are left from an interrupted run; deleting them is safe while the app and its worker are stopped."
    for title, paths in (("Temporary files", temporary), ("Orphan files", orphans)):
        if paths:
            names = [path.relative_to(store.root).as_posix() for path in paths]
            yield Finding(Level.NOTE, title, f"{_list(names)} ({size:.1f} MB together)", delete)


def recorded_files(store: Store) -> Iterator[tuple[str, str]]:
    """Path and hash of every file that a row points to, relative to the state folder."""
    for table, path, sha256 in STORED_FILES:
        there = " AND removed_at IS NULL" if table == "checkpoint" else ""  # the others' files were removed on purpose
        rows = store.rows(f"SELECT {path} AS path, {sha256} AS sha256 FROM {table} WHERE {path} IS NOT NULL{there}")
        yield from ((row["path"], row["sha256"]) for row in rows)


def _unrecorded(store: Store, recorded: set[Path]) -> tuple[list[Path], list[Path]]:
    """Unfinished temporary files, and finished files that no row points to.

    Folders of nnU-Net's own (`plan.workspace`) have no row for each file. What is unfinished in a project with a job
    that waits, runs or is paused belongs to that.
    """
    unfinished = store.rows("SELECT DISTINCT project_id FROM job WHERE state IN ('queued', 'running', 'paused')")
    at_work = [store.files.project(row["project_id"]).resolve() for row in unfinished if row["project_id"] is not None]
    workspaces = [(store.root / row["workspace"]).resolve() for row in store.rows("SELECT workspace FROM plan")]
    temporary, orphans = [], []
    for path in sorted(store.root.rglob("*")):
        if not path.is_file():
            continue
        if any(name.startswith(".tmp-") for name in path.relative_to(store.root).parts):
            if not any(path.resolve().is_relative_to(folder) for folder in at_work):
                temporary.append(path)
            continue
        free = path.is_relative_to(store.root / "projects") and path.resolve() not in recorded
        derived = any(path.match(pattern) for pattern in DERIVED) or any(
            path.resolve().is_relative_to(folder) for folder in workspaces
        )
        if free and not derived:
            orphans.append(path)
    return temporary, orphans


def _worker(store: Store) -> Finding:
    record = worker_record(store.root)
    waiting = job_rows.active(store)
    stalled = [job for job in waiting if dead_jobs.is_dead(job)]
    if record and record.alive:
        return Finding(Level.OK, "Worker", f"runs as process {record.pid}; {len(waiting)} jobs wait or run")
    if stalled:
        names = ", ".join(f"{job.kind} (job {job.id})" for job in stalled)
        return Finding(Level.WARNING, "Worker", f"ended in the middle of {names}.", "Start the app: the job goes on.")
    if waiting:
        return Finding(Level.WARNING, "Worker", f"does not run, and {len(waiting)} jobs wait.", "Start the app.")
    return Finding(Level.OK, "Worker", "does not run; it starts with the app")


def _list(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
