"""Keeps other web sites away from an app on the user's own computer.

A browser lets any page send requests to 127.0.0.1, and a page can point its own domain there (DNS
rebinding). Gradio runs server functions for both. `SameOriginMiddleware` refuses them: a request must
name a host that is ours, and must not come from another site. Nor may another site show the page in a frame, where
somebody would click in it without knowing. `forget_variables` keeps settings of other Gradio apps away.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_DEFAULT_PORTS = {"http": 80, "https": 443}

UNWANTED = (
    "GRADIO_ALLOWED_PATHS",  # files that every page could read
    "GRADIO_MCP_SERVER",  # the handlers for other programs
    "GRADIO_VIBE_MODE",  # a page that rewrites the program
    "GRADIO_WATCH_DIRS",
    "GRADIO_LOCAL_DEV_MODE",  # lets other sites in
    "GRADIO_DEBUG",
    "GRADIO_SERVER_NAME",  # `launch` has its own ways to say these two
    "GRADIO_SERVER_PORT",
    "GRADIO_NUM_PORTS",
)
"""Variables by which Gradio would do something else than the app tells it, or fail when they are odd."""

_OF_A_SPACE = " https://huggingface.co https://*.hf.space"
"""Where a Space is shown in a frame."""


def forget_variables() -> None:
    """Take `UNWANTED` out of the environment. Before Gradio is imported, which reads some of them then."""
    for name in UNWANTED:
        os.environ.pop(name, None)


def on_space() -> bool:
    """Whether the app runs as a Hugging Face Space."""
    return bool(os.environ.get("SPACE_ID"))


def space_hosts(environment: Mapping[str, str] | None = None) -> frozenset[str]:
    """Host names of the Hugging Face Space that this process is, if it is one."""
    environment = os.environ if environment is None else environment
    if not environment.get("SPACE_ID"):
        return frozenset()
    # With a custom domain SPACE_HOST holds several names.
    return frozenset(name.strip().lower() for name in environment.get("SPACE_HOST", "").split(",") if name.strip())


class SameOriginMiddleware:
    """Refuses requests (HTTP and WebSocket) with a foreign Host, or from a page of a foreign Origin.

    `hosts` are the names, beside this computer's own, under which the app is reached: in a network, behind
    a proxy. An address in numbers is always accepted as Host, because no attacker's page can have it
    unless the browser really talks to that address. `frames` are the sites, beside this one, that may show the page
    in a frame, as in the header Content-Security-Policy.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = (), frames: str = ""):
        self.app = app
        self.hosts = frozenset(name.strip().lower() for name in hosts)
        self._policy = f"frame-ancestors 'self'{frames}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        send = self._framed_by_few(send)
        reason = self.refusal(Headers(scope=scope))
        if reason is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": reason[:120]})
        else:
            await PlainTextResponse(reason, status_code=403)(scope, receive, send)

    def _framed_by_few(self, send: Send) -> Send:
        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append("Content-Security-Policy", self._policy)
            await send(message)

        return with_policy

    def refusal(self, headers: Headers) -> str | None:
        """Why a request with these headers is refused, as a sentence; None if it is not."""
        hosts = headers.getlist("host")
        host = _split(f"//{hosts[0]}") if len(hosts) == 1 else None
        if host is None:
            return "Refused: the request does not name one host."
        name = host[0]
        if name not in LOCAL_HOSTS | self.hosts and not _is_address(name):
            return f"Refused: {name!r} is not a name of this app. If it is, start the app with --allow-host {name}."
        for origin in headers.getlist("origin"):
            parts = _split(origin)
            own = parts is not None and (_same(parts, host) or parts[0] in self.hosts)
            if not own:
                return f"Refused: the request comes from another web site ({origin})."
        # Images and scripts are fetched without an Origin; a link that a person follows is fine.
        foreign = headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"
        return "Refused: the request comes from another web site." if foreign and "origin" not in headers else None


def _split(url: str) -> tuple[str, int | None, str] | None:
    """Host, port and scheme of an origin or "//host:port"; None if it has no host or is malformed."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    clean = parts.hostname and not parts.username and not parts.path.strip("/")
    return (parts.hostname.lower().rstrip("."), port, parts.scheme) if clean else None


def _same(origin: tuple[str, int | None, str], host: tuple[str, int | None, str]) -> bool:
    """Same host and port. The scheme is the origin's: a proxy may speak plain HTTP to us."""
    default = _DEFAULT_PORTS.get(origin[2])
    return origin[0] == host[0] and (origin[1] or default) == (host[1] or default)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def launch_options(hosts: Iterable[str] = (), max_file_size: str | int = "2gb") -> dict[str, Any]:
    """Keyword arguments for `gr.Blocks.launch` that every start of the app uses.

    `hosts` are further names of this app, see `SameOriginMiddleware`; a Space's own are added. No page
    may read files (`allowed_paths` is empty), and Gradio's own extra pages are off. `_frontend`: Gradio need not ask
    for the page to prove that it is there: where the computer is busy, with a training for one, that takes longer than
    the three seconds after which it would give up the whole start.
    """
    names = frozenset(hosts) | space_hosts()
    frames = _OF_A_SPACE if on_space() else ""
    return {
        "app_kwargs": {
            "middleware": [Middleware(SameOriginMiddleware, hosts=names, frames=frames)],
            "docs_url": None,
            "redoc_url": None,
            "openapi_url": None,
        },
        "allowed_paths": [],
        "max_file_size": max_file_size,
        "enable_monitoring": False,
        "run_history": False,
        "ssr_mode": False,
        "share": False,
        "footer_links": [],
        "strict_cors": True,
        "_frontend": False,
    }
