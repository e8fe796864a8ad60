"""Start the app: the state folder, the worker, the page."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import logging.handlers
import os
import socket
import sys
import time
import webbrowser
from pathlib import Path

from alapp.environment import bypass_proxy
from alapp.errors import InputError
from alapp.rounds.pseudolabel import foundation
from alapp.storage.db import Store
from alapp.supervisor import Supervisor
from alapp.ui.security import forget_variables, launch_options, on_space

DEFAULT_PORT = 7860
TRIES = 20
"""How many ports above the wanted one are tried."""

EVERYWHERE = "0.0.0.0"
"""The address of whoever wants to be reached from the network."""

HERE = "127.0.0.1"

CACHE = "tmp"
"""Folder below the state folder for what the browser sends, and what it is offered for download."""

CACHE_SECONDS = 86400
"""What is older is removed from there. The page has the same age for what it made itself, see `shell.build`."""

_TAKEN = {errno.EADDRINUSE, 10048, 10013}  # the last two are Windows': in use, in use by one who shares it with nobody
_FOREIGN = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, 10049, 10047}


def run(state: Path, host: str, port: int | None, browser: bool, allow_hosts: tuple[str, ...] = ()) -> None:
    """Serve until interrupted; `port` is by default that of GRADIO_SERVER_PORT, or `DEFAULT_PORT`.

    Raises `StorageError` or `DiskFullError` when the state folder cannot be used, `InputError` when `host` is no
    address of this computer or no such port is free.
    """
    public = on_space()
    host = EVERYWHERE if public else address_of(host)
    port = asked_port() if port is None else port
    if not public:
        free_port(host, port)  # what is wrong with them is said before anything is started
    store = Store(state)
    print(f"Your projects are in {store.root}", flush=True)
    log_errors(store.root)
    foundation.start_of_app()
    forget_variables()
    bypass_proxy(host)
    use_cache(store.root)
    supervisor = Supervisor(store)
    try:
        supervisor.start()
        _serve(store, host, port, browser and not public, allow_hosts)
    finally:
        supervisor.stop()


def _serve(store: Store, host: str, port: int, browser: bool, allow_hosts: tuple[str, ...]) -> None:
    from alapp.ui import shell, spaces
    from alapp.ui.theme import CSS, THEME

    public = on_space()
    if public:
        spaces.start_sweep(store)
    demo = shell.build(store)
    demo.queue(default_concurrency_limit=8)
    with store.kept_open():
        demo.launch(
            server_name=f"[{host}]" if ":" in host else host,
            server_port=port if public else free_port(host, port),
            quiet=True,
            prevent_thread_lock=True,
            theme=THEME,
            css=CSS,
            head=shell.HEAD,
            **launch_options(allow_hosts, spaces.UPLOAD_LIMIT if public else "4gb"),
        )
        page = page_address(host, demo.server_port)
        print(f"The app runs, until you press Ctrl+C here, at {page}", flush=True)
        if not public and is_for_others(host):
            print("Everybody in this network can open, change and delete your projects.", file=sys.stderr, flush=True)
        if browser:
            webbrowser.open(page)
        demo.block_thread()


def use_cache(root: Path) -> None:
    """Let Gradio keep its files in `CACHE` of the state folder `root`, unless GRADIO_TEMP_DIR names another folder.
    Before Gradio is imported. What an app that was killed left there is removed when it is old.

    Its own choice is a folder for temporary files which on a shared computer belongs to whoever came first, and which
    may have little room.
    """
    if os.environ.get("GRADIO_TEMP_DIR"):
        return
    cache = root / CACHE
    os.environ["GRADIO_TEMP_DIR"] = str(cache)
    old = time.time() - CACHE_SECONDS
    for folder, _, names in os.walk(cache, topdown=False):
        for path in (*(Path(folder, name) for name in names), Path(folder)):
            with contextlib.suppress(OSError):  # another app removes it, too; a folder with something in it stays
                if path.lstat().st_ctime < old:
                    path.rmdir() if path.is_dir() else path.unlink()


def log_errors(root: Path) -> None:
    """Errors of the page go to `logs/app.log` in the state folder `root`, too, beside stderr."""
    logs = root / "logs"
    with contextlib.suppress(OSError):
        logs.mkdir(exist_ok=True)
    to_file = logging.handlers.RotatingFileHandler(
        logs / "app.log", maxBytes=1_000_000, backupCount=1, encoding="utf-8", errors="backslashreplace", delay=True
    )
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    log = logging.getLogger()
    if not log.handlers:  # then stderr is written to, but not any more once there is one
        log.addHandler(logging.StreamHandler())
    log.addHandler(to_file)


def asked_port() -> int:
    """The port of the variable GRADIO_SERVER_PORT, as Spaces set it. Raises `InputError` when it is no number."""
    text = os.environ.get("GRADIO_SERVER_PORT", "").strip()
    if not text:
        return DEFAULT_PORT
    if not (text.isascii() and text.isdecimal()):
        raise InputError(f"GRADIO_SERVER_PORT is {text!r}, which is no port. Set it to a number, or unset it.")
    return int(text)


def address_of(host: str) -> str:
    """`host` without the brackets of an IPv6 address. Raises `InputError` for two kinds that no page can have."""
    found = host.strip().removeprefix("[").removesuffix("]") or HERE
    if "%" in found or found == "::":
        raise InputError(f"The page cannot be served at {host}. Give --host {EVERYWHERE} to serve the whole network.")
    return found


def page_address(host: str, port: int) -> str:
    """The page's address on this computer."""
    host = HERE if host == EVERYWHERE else host
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_for_others(host: str) -> bool:
    """Whether other computers reach `host`, an address or a name of this one."""
    with contextlib.suppress(OSError, ValueError):
        return not ipaddress.ip_address(host if ":" in host else socket.gethostbyname(host)).is_loopback
    return True


def free_port(host: str, wanted: int) -> int:
    """The first free port from `wanted` on. Raises `InputError` for a number that no port has, when none of the next
    ones is free, and when `host` is no address of this computer."""
    if not 0 < wanted < 65536:
        raise InputError(f"There is no port {wanted}. Choose one from 1 to 65535 with --port.")
    for port in range(wanted, min(wanted + TRIES, 65536)):
        # Gradio does not start where the port is taken on 127.0.0.1, whatever the host.
        if all(_is_free(each, port) for each in dict.fromkeys((host, HERE))):
            return port
    raise InputError(f"No port between {wanted} and {wanted + TRIES - 1} is free on {host}. Choose one with --port.")


def _is_free(host: str, port: int) -> bool:
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, _probing(), 1)
            probe.bind((host, port))
    except (OSError, UnicodeError) as error:
        if _is_taken(error):
            return False
        raise InputError(_why_not(host, port, error)) from error
    return True


def _is_taken(error: OSError | UnicodeError) -> bool:
    number = getattr(error, "errno", None)
    if isinstance(error, socket.gaierror):  # its numbers are others
        return False
    return number in _TAKEN or (sys.platform == "win32" and number == errno.EACCES)


def _why_not(host: str, port: int, error: OSError | UnicodeError) -> str:
    if not isinstance(error, OSError) or isinstance(error, socket.gaierror) or error.errno in _FOREIGN:
        return (
            f"{host} is not an address of this computer. Leave --host out, or give --host {EVERYWHERE} to serve the "
            "whole network."
        )
    if error.errno == errno.EACCES:
        return f"Port {port} is kept for the administrator of this computer. Choose one above 1023 with --port."
    return f"The page cannot be served at {host}, port {port}: {error.strerror or error}. Choose others."


def _probing() -> int:
    """The option with which a port can be bound only if nobody serves on it. Elsewhere than on Windows that is the one
    that passes over connections which ended just now; there it lets two programs have one port."""
    return getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
