from __future__ import annotations

import hashlib
import os

import pytest

from alapp.errors import WeightsMissingError
from alapp.stages.foundation import fingerprint
from alapp.stages.foundation.fingerprint import weights_hash


def test_the_hash_is_of_the_content(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"weights")
    assert weights_hash(path) == hashlib.sha256(b"weights").hexdigest() == weights_hash(str(path))


def test_a_file_is_read_once_until_it_changes(tmp_path, monkeypatch):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"first")
    first = weights_hash(path)
    read = []
    digest = hashlib.file_digest
    monkeypatch.setattr(
        fingerprint.hashlib, "file_digest", lambda handle, name: read.append(name) or digest(handle, name)
    )
    assert weights_hash(path) == first
    assert not read
    path.write_bytes(b"other")
    os.utime(path, ns=(1, 1))  # as long as before, and clocks of file systems may be coarse
    assert weights_hash(path) == hashlib.sha256(b"other").hexdigest()
    assert len(read) == 1


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(WeightsMissingError, match=r"gone\.pt"):
        weights_hash(tmp_path / "gone.pt")
