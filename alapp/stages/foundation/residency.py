"""Which models this process holds in memory: one at a time unless there is room, and none that nobody uses.

A model is asked for by name each time that it is used (`Residents.get`) and never kept elsewhere. What is let go
while it still works is freed when that work ends.
"""

from __future__ import annotations

import errno
import gc
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

from alapp.environment import machine
from alapp.errors import BackendError

IDLE_SECONDS = 300.0
"""A model that was not asked for during so long is let go; to read it again takes seconds."""

_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "_status_alloc_failed")
"""In what torch says; the last are of the libraries of a GPU, which need some memory of it for themselves."""
_WINDOWS_ERRORS = (8, 14, 1455)
"""Not enough memory, and a paging file that is too small, by which imports of torch fail; told in any language."""

T = TypeVar("T")


@dataclass
class _Resident:
    model: Any
    used: float


class Residents:
    """Models by name. Safe to use from threads; `clock` gives seconds, `free` the bytes of memory that are free."""

    def __init__(
        self,
        idle_seconds: float = IDLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        free: Callable[[], int] | None = None,
    ) -> None:
        self.idle_seconds = idle_seconds
        self._clock = clock
        self._free = free or free_bytes
        self._models: OrderedDict[Hashable, _Resident] = OrderedDict()  # those that were used longest ago first
        self._loading: dict[Hashable, threading.Lock] = {}  # two threads that want one model load it once
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def get(self, name: Hashable, load: Callable[[], T], needs: int, title: str = "This model") -> T:
        """The model called `name`; made by `load()` if it is not here.

        `needs`: bytes that loading and using it take at most. Other models go, those that were used longest ago
        first, until so many are free. Raises `BackendError` naming `title` when even then they are not.
        """
        found = self._held(name)
        if found is not None:
            return found
        with self._lock:
            loading = self._loading.setdefault(name, threading.Lock())
        with loading:
            found = self._held(name)
            if found is not None:
                return found
            self._make_room(needs, title)
            model = load()
            with self._lock:
                self._models[name] = _Resident(model, self._clock())
                self._loading.pop(name, None)
                self._watch()
            return model

    def release(self, idle_for: float = 0.0) -> int:
        """Let go the models that were not asked for during `idle_for` seconds; returns how many."""
        with self._lock:
            now = self._clock()
            gone = [name for name, each in self._models.items() if now - each.used >= idle_for]
            for name in gone:
                del self._models[name]
        if gone:
            _give_back()
        return len(gone)

    def names(self) -> list[Hashable]:
        """What is here, used longest ago first."""
        with self._lock:
            return list(self._models)

    def _held(self, name: Hashable) -> Any:
        with self._lock:
            resident = self._models.get(name)
            if resident is None:
                return None
            resident.used = self._clock()
            self._models.move_to_end(name)
            return resident.model

    def _make_room(self, needs: int, title: str) -> None:
        while (free := self._free()) < needs:
            with self._lock:
                if not self._models:
                    break
                self._models.popitem(last=False)
            _give_back()
        if free < needs:
            raise BackendError(
                f"{title} needs about {needs / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free. Close other "
                "programs, or choose a smaller model or the built-in method."
            )

    def _watch(self) -> None:
        """Look after the models once in a while, as long as there are any; the lock is held."""
        if self._timer is None and self._models:
            self._timer = threading.Timer(max(1.0, self.idle_seconds / 5), self._look)
            self._timer.daemon = True
            self._timer.start()

    def _look(self) -> None:
        self.release(self.idle_seconds)
        with self._lock:
            self._timer = None
            self._watch()


def free_bytes() -> int:
    """Memory that a model may still take: of the GPU where there is one that can be used, else of the computer, swap
    and the limit of a container considered."""
    import psutil

    if machine().gpu_gb is not None:
        import torch

        return int(torch.cuda.mem_get_info()[0])
    free = psutil.virtual_memory().available + psutil.swap_memory().free
    return max(0, min(free, int(machine().ram_gb * 2**30) - psutil.Process().memory_info().rss))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, of Python or of torch, says that the memory of the computer or of its GPU ran out."""
    names = {base.__name__ for base in type(error).__mro__}
    if names & {"MemoryError", "OutOfMemoryError"} or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    text = str(error).lower()
    return getattr(error, "winerror", None) in _WINDOWS_ERRORS or any(words in text for words in _WORDS)


def _give_back() -> None:
    """Freed memory goes back to the system, of the GPU too."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():  # a Mac, where micro_sam takes the GPU
        torch.mps.empty_cache()


RESIDENTS = Residents()
"""The models of this process."""
