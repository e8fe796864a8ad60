"""Training batches without child processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol


class Loader(Protocol):
    """What makes batches: nnU-Net's data loader."""

    def generate_train_batch(self) -> dict[str, Any]: ...


class Batches:
    """Endless batches of a nnU-Net data loader.

    With `threads` 0 each batch is made when it is asked for, so the order of random numbers is fixed. With
    threads, batches are made ahead, which keeps a GPU busy; augmentation is torch code that releases the GIL.
    nnU-Net's own augmenters use processes, which outlive a trainer that is killed.
    """

    def __init__(self, loader: Loader, threads: int = 0):
        self._loader = loader
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="batches") if threads else None
        self._ahead: deque[Future[dict[str, Any]]] = deque()
        for _ in range(2 * threads):
            self._order()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        if self._pool is None:
            return self._loader.generate_train_batch()
        self._order()
        return self._ahead.popleft().result()

    def _order(self) -> None:
        self._ahead.append(self._pool.submit(self._loader.generate_train_batch))

    def close(self) -> None:
        """Ends the threads; batches that nobody asked for are dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
