"""Who has a patch open: the second page that opens one is told, and can take it over.

Pages tell every few seconds that they are there (`look`), also while they wait for a long act, so a page that was
closed, or whose computer sleeps, frees its patch by falling silent. This is courtesy only, kept in memory: what
protects the work is the revision that every write must name.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from alapp.rounds.annotate.annotation_journal import Change, state, write
from alapp.storage import annotations
from alapp.storage.annotations import LastEvent
from alapp.storage.db import Store

VISIBLE_SECONDS = 15  # a page on the screen tells every 5 s
HIDDEN_SECONDS = 150  # browsers let a page in the background run once a minute
IDLE_SECONDS = 30 * 60  # after this without a change, nobody is asked
RETURN_SECONDS = 30  # for so long a page that worked until the app was restarted may come back to its patch


@dataclass(frozen=True)
class Head:
    """What a page has to know about its patch. `elsewhere`: another page holds it; `mine`: this page wrote the
    newest event, `revision`; `seconds_ago` its age, None before the first one."""

    revision: int
    mine: bool
    elsewhere: bool
    seconds_ago: float | None


_seen: dict[tuple[str, str], tuple[int, float]] = {}  # (state folder, session): patch, good until
_on_screen: dict[tuple[str, str], float] = {}  # (state folder, session): good until
_holders: dict[tuple[str, int], str] = {}  # (state folder, patch): session
_began = time.monotonic()  # this process knows nothing of the pages from before
_lock = threading.Lock()


def look(store: Store, patch_id: int, session: str, hidden: bool = False) -> Head:
    """The head of a patch for the page of `session`, which has it open, `hidden` in the background or not.

    The page becomes the holder if nobody else is: if no other page has the patch open, or none changed it for half
    an hour, or it is closed. After a restart of the app the page that wrote last is waited for, whoever looks first.
    """
    root, now = str(store.root), time.monotonic()
    newest = annotations.last(store, patch_id)
    idle = newest is None or newest.seconds_ago > IDLE_SECONDS or state(store, patch_id).closed
    with _lock:
        _forget_silent(now)
        _seen[root, session] = (patch_id, now + (HIDDEN_SECONDS if hidden else VISIBLE_SECONDS))
        _on_screen[root, session] = now if hidden else now + VISIBLE_SECONDS
        holder = _holders.get((root, patch_id))
        there = holder is not None and _seen.get((root, holder), (None, 0.0))[0] == patch_id
        if not there or idle:
            holder = session if idle else _awaited(root, newest, now) or session
            if holder != session:
                _seen[root, holder] = (patch_id, now + max(VISIBLE_SECONDS, RETURN_SECONDS - newest.seconds_ago))
            _holders[root, patch_id] = holder
    if newest is None:
        return Head(0, True, holder != session, None)
    return Head(newest.revision, newest.session == session, holder != session, newest.seconds_ago)


def watched(store: Store) -> bool:
    """Whether a patch is on anybody's screen."""
    now = time.monotonic()
    with _lock:
        for key in [key for key, until in _on_screen.items() if until <= now]:
            del _on_screen[key]
        return any(root == str(store.root) for root, _ in _on_screen)


def take_over(store: Store, patch_id: int, session: str) -> Change | None:
    """Make the page of `session` the holder. An event tells the others' pages, whatever they believe; a closed patch
    needs none, and gives None."""
    change = None if state(store, patch_id).closed else write(store, patch_id, session, "claim", {})
    acted(store, patch_id, session)
    return change


def acted(store: Store, patch_id: int, session: str) -> None:
    """The page of `session` changed the patch, so it holds it from now on."""
    root = str(store.root)
    with _lock:
        _seen[root, session] = (patch_id, time.monotonic() + VISIBLE_SECONDS)
        _holders[root, patch_id] = session


def _awaited(root: str, newest: LastEvent, now: float) -> str | None:
    """The session that wrote the newest event shortly before this process began and was not heard of since, if any:
    its page may just not have had its turn to tell that it is there."""
    from_before = now - _began < newest.seconds_ago < RETURN_SECONDS
    return newest.session if from_before and (root, newest.session) not in _seen else None


def _forget_silent(now: float) -> None:
    for key in [key for key, (_, until) in _seen.items() if until < now]:
        del _seen[key]
    for key in [key for key, session in _holders.items() if (key[0], session) not in _seen]:
        del _holders[key]
