from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from alapp.errors import InputError
from alapp.stages.annotate import embedding_cache
from alapp.stages.annotate.embedding_cache import EmbeddingCache, entry_name

MB = 250_000  # float32 values


@pytest.fixture
def cache(tmp_path):
    return EmbeddingCache(tmp_path / "embeddings")


def arrays(seed=0, n=1000):
    return {"features": np.random.default_rng(seed).normal(size=n).astype(np.float32), "size": np.array([3, 4])}


def same(a, b):
    return a is not None and a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in b)


def bound(monkeypatch, cache, number):
    monkeypatch.setattr(embedding_cache, "LEAST_BYTES", 1)
    cache.set_max_bytes(number)


def test_arrays_come_back_exactly(cache):
    assert cache.get("a") is None
    assert "a" not in cache
    assert cache.put("a", arrays())
    assert "a" in cache
    found = cache.get("a")
    assert same(found, arrays())
    assert found["features"].dtype == np.float32


def test_the_name_follows_from_method_weights_and_pixels():
    image = np.arange(24, dtype=np.uint8).reshape(4, 6, 1)
    names = [
        entry_name("m 1", "w", image),
        entry_name("m 2", "w", image),
        entry_name("m 1", "v", image),
        entry_name("m 1", "w", image + 1),
        entry_name("m 1", "w", image.astype(np.uint16)),
        entry_name("m 1", "w", image.reshape(6, 4, 1)),
    ]
    assert len(set(names)) == len(names)
    view = np.asfortranarray(image)
    assert entry_name("m 1", "w", view) == names[0]


@pytest.mark.parametrize("harm", ["cut", "flipped", "empty", "text"])
def test_a_damaged_file_is_removed(cache, harm):
    cache.put("a", arrays())
    path = cache.folder / "a.npz"
    content = bytearray(path.read_bytes())
    if harm == "flipped":
        content[len(content) // 2] ^= 1
    path.write_bytes({"cut": content[:-900], "flipped": content, "empty": b"", "text": b"no archive"}[harm])
    assert cache.get("a") is None
    assert not path.exists()
    assert cache.put("a", arrays())
    assert same(cache.get("a"), arrays())


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut"], ids=["empty", "text", "cut"])
def test_a_damaged_file_is_closed_before_it_is_removed(cache, monkeypatch, content):
    cache.folder.mkdir(parents=True)
    (cache.folder / "a.npz").write_bytes(content)
    remove, here = Path.unlink, psutil.Process()

    def as_on_windows(path, missing_ok=False):
        if str(path) in [each.path for each in here.open_files()]:
            raise PermissionError("in use")
        remove(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", as_on_windows)
    assert cache.get("a") is None
    assert "a" not in cache


def test_a_file_with_objects_in_it_is_not_run(cache):
    cache.folder.mkdir()
    np.savez(cache.folder / "a.npz", features=np.array([object()], dtype=object))
    assert cache.get("a") is None


def test_what_was_used_longest_ago_goes_first(cache, monkeypatch):
    bound(monkeypatch, cache, 3_500_000)
    for name in "abc":
        cache.put(name, arrays(n=MB))
    assert cache.get("a") is not None  # used again
    cache.put("d", arrays(n=MB))
    assert [name in cache for name in "abcd"] == [True, False, True, True]
    assert cache.used_bytes <= cache.max_bytes


def test_more_than_the_bound_is_not_kept(cache, monkeypatch):
    bound(monkeypatch, cache, 500_000)
    cache.put("small", arrays())
    assert not cache.put("a", arrays(n=MB))
    assert "small" in cache


def test_a_smaller_bound_counts_at_once_and_for_everybody(cache, monkeypatch):
    for name in "abc":
        cache.put(name, arrays(n=MB))
    bound(monkeypatch, cache, 1_500_000)
    assert EmbeddingCache(cache.folder).max_bytes == 1_500_000
    assert [name in cache for name in "abc"] == [False, False, True]


@pytest.mark.parametrize("number", [0, -5, 10**15])
def test_a_bound_that_makes_no_sense_is_refused(cache, number):
    with pytest.raises(InputError, match="GB"):
        cache.set_max_bytes(number)
    assert cache.max_bytes == embedding_cache.DEFAULT_BYTES


@pytest.mark.parametrize("text", ["", "{", "[]", '{"max_bytes": "many"}', '{"max_bytes": -1}'])
def test_unreadable_settings_mean_the_default(cache, text):
    cache.folder.mkdir()
    (cache.folder / "settings.json").write_text(text)
    assert cache.max_bytes == embedding_cache.DEFAULT_BYTES


def test_clearing_frees_what_was_used(cache):
    cache.put("a", arrays())
    cache.put("b", arrays())
    used = cache.used_bytes
    assert used > 0
    assert cache.clear() == used
    assert cache.used_bytes == 0
    assert cache.get("a") is None


def test_a_disk_that_is_nearly_full_is_left_alone(cache, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    assert not cache.put("a", arrays())
    assert "a" not in cache


def test_a_failed_write_leaves_nothing(cache, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert not cache.put("a", arrays())
    assert list(cache.folder.iterdir()) == []


def test_what_a_killed_process_left_is_removed_later(cache):
    cache.put("a", arrays())
    old, young = cache.folder / ".tmp-old", cache.folder / ".tmp-young"
    old.write_bytes(b"x")
    young.write_bytes(b"x")
    os.utime(old, (1, 1))
    cache.put("b", arrays())
    assert not old.exists()
    assert young.exists()


def test_a_process_killed_while_it_writes_leaves_no_entry(cache):
    code = (
        "import os, sys; from alapp.stages.annotate.embedding_cache import EmbeddingCache; import numpy as np\n"
        "os.fsync = lambda descriptor: os._exit(9)\n"
        "EmbeddingCache(sys.argv[1]).put('a', {'features': np.zeros(1000)})"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(cache.folder)], check=False)
    assert ended.returncode == 9
    assert "a" not in cache
    assert cache.put("a", arrays())
    assert same(cache.get("a"), arrays())


def _work(folder, seed):
    cache = EmbeddingCache(folder)
    for turn in range(30):
        name = str((seed + turn) % 7)
        found = cache.get(name)
        assert found is None or same(found, arrays(int(name), 20_000))
        cache.put(name, arrays(int(name), 20_000))


def test_processes_share_one_cache(cache, monkeypatch):
    bound(monkeypatch, cache, 300_000)  # of seven entries three fit, so that they are removed while others read
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_work, args=(cache.folder, seed)) for seed in range(2)]
    [process.start() for process in processes]
    _work(cache.folder, 3)
    [process.join(60) for process in processes]
    assert [process.exitcode for process in processes] == [0, 0]
    assert cache.used_bytes > 0
