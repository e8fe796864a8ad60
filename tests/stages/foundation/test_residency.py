from __future__ import annotations

import errno
import threading
import time

import pytest
import torch

from alapp.errors import BackendError
from alapp.stages.foundation.residency import Residents, free_bytes, is_out_of_memory

GB = 10**9


class Machine:
    """A computer with 8 GB, of which each model that is here takes 3, and a clock that is turned by hand."""

    def __init__(self):
        self.now, self.loads = 0.0, []
        self.residents = Residents(100.0, lambda: self.now, lambda: 8 * GB - 3 * GB * len(self.residents.names()))

    def use(self, name, needs=4 * GB):
        return self.residents.get(name, lambda: self.loads.append(name) or object(), needs, name)


@pytest.fixture
def machine():
    return Machine()


def test_a_model_is_loaded_once(machine):
    assert machine.use("a") is machine.use("a")
    assert machine.loads == ["a"]


def test_models_stay_side_by_side_while_there_is_room(machine):
    machine.use("a")
    machine.use("b")
    assert machine.residents.names() == ["a", "b"]


def test_what_was_used_longest_ago_makes_room(machine):
    machine.use("a")
    machine.use("b")
    machine.use("a")
    machine.use("c")
    assert machine.residents.names() == ["a", "c"]
    machine.use("whole", needs=7 * GB)
    assert machine.residents.names() == ["whole"]


def test_what_cannot_fit_is_not_tried(machine):
    with pytest.raises(BackendError, match=r"vit_h needs about 9\.0 GB of memory, and 8\.0 GB are free\. Close"):
        machine.use("vit_h", needs=9 * GB)
    assert machine.loads == []


def test_idle_models_go(machine):
    machine.use("a")
    machine.now = 60
    machine.use("b")
    machine.now = 110
    assert machine.residents.release(machine.residents.idle_seconds) == 1
    assert machine.residents.names() == ["b"]
    assert machine.residents.release() == 1
    machine.use("a")
    assert machine.loads == ["a", "b", "a"]


def test_they_go_by_themselves():
    residents = Residents(idle_seconds=0.1)
    residents.get("a", object, 0)
    residents._timer.cancel()
    residents._timer = None
    time.sleep(0.15)
    residents._look()
    assert residents.names() == []
    assert residents._timer is None  # nothing to look after


def test_a_failed_load_leaves_nothing_and_can_be_repeated(machine):
    def fail():
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        machine.residents.get("a", fail, 0)
    assert machine.residents.names() == []
    machine.use("a")
    assert machine.residents.names() == ["a"]


def test_threads_that_want_one_model_load_it_once():
    residents, loads = Residents(), []

    def load():
        time.sleep(0.05)
        loads.append(1)
        return object()

    threads = [threading.Thread(target=residents.get, args=("a", load, 0)) for _ in range(5)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert loads == [1]


def test_on_a_mac_freed_memory_of_the_gpu_goes_back(machine, monkeypatch):
    given_back = []
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: given_back.append(1))
    machine.use("a")
    machine.residents.release()
    assert given_back == [1]


def test_some_memory_is_free():
    assert free_bytes() > 0


def windows_error(number, text):
    """As Windows raises it where a library cannot be loaded."""
    error = OSError(errno.EINVAL, text)
    error.winerror = number
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 20 MiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), True),
        (type("OutOfMemoryError", (RuntimeError,), {})("x"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (ValueError("bad"), False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"), True),
        (windows_error(1455, "Die Auslagerungsdatei ist zu klein, um diesen Vorgang durchzuführen"), True),
        (windows_error(126, "Das angegebene Modul wurde nicht gefunden"), False),
    ],
)
def test_out_of_memory_is_recognised(error, expected):
    assert is_out_of_memory(error) is expected
