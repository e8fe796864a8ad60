"""Start the app: the state folder, the worker, the page."""

from __future__ import annotations

import socket
from pathlib import Path

from alapp.environment import bypass_proxy
from alapp.errors import InputError
from alapp.rounds.pseudolabel import foundation
from alapp.storage.db import Store
from alapp.supervisor import Supervisor

TRIES = 20
"""How many ports above the wanted one are tried."""


def run(state: Path, host: str, port: int, browser: bool, allow_hosts: tuple[str, ...] = ()) -> None:
    """Serve until interrupted. Raises `StorageError` when the state folder cannot be used, `InputError` when no
    such port is free."""
    store = Store(state)
    foundation.start_of_app()
    supervisor = Supervisor(store)
    supervisor.start()
    from alapp.ui import shell, spaces
    from alapp.ui.security import launch_options
    from alapp.ui.theme import CSS, THEME

    public = spaces.on_space()
    if public:
        spaces.start_sweep(store)
    demo = shell.build(store)
    demo.queue(default_concurrency_limit=8)
    bypass_proxy(host)
    try:
        with store.kept_open():
            demo.launch(
                server_name="0.0.0.0" if public else host,
                server_port=port if public else free_port(host, port),
                inbrowser=browser and not public,
                theme=THEME,
                css=CSS,
                head=shell.HEAD,
                **launch_options(allow_hosts, spaces.UPLOAD_LIMIT if public else "4gb"),
            )
    finally:
        supervisor.stop()


def free_port(host: str, wanted: int) -> int:
    """The first free port from `wanted` on. Raises `InputError` for a number that no port has, and when none of the
    next ones is free."""
    if not 0 < wanted < 65536:
        raise InputError(f"There is no port {wanted}. Choose one from 1 to 65535 with --port.")
    for port in range(wanted, min(wanted + TRIES, 65536)):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, _probing(), 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise InputError(f"No port between {wanted} and {wanted + TRIES - 1} is free on {host}. Choose one with --port.")


def _probing() -> int:
    """The option with which a port can be bound only if nobody serves on it. Elsewhere than on Windows that is the one
    that passes over connections which ended just now; there it lets two programs have one port."""
    return getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
