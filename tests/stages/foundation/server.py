"""A small web server of the real kind on this computer, which misbehaves as it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Behaviour:
    """What is served, and how. `cut` ends the first `cuts` answers after so many bytes, `pause` waits after a block.
    `codes` are those of the first answers (200: as usual), `code` is that of the others. `kind` is the type of the
    content; without `announced` its length is not told."""

    content: bytes = b""
    code: int = 200
    codes: list[int] = field(default_factory=list)
    kind: str = ""
    announced: bool = True
    cut: int | None = None
    cuts: int = 1
    pause: float = 0.0
    ranges: bool = True
    block: int = 4096
    post: tuple[int, bytes] = (200, b"{}")
    asked: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[Behaviour]:
    """The server's `url` while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            behaviour.asked.append({"body": self.rfile.read(length), **self.headers})
            code, body = behaviour.post
            self._head(code, len(body))
            self.wfile.write(body)

        def do_GET(self) -> None:
            behaviour.asked.append(dict(self.headers))
            code = behaviour.codes.pop(0) if behaviour.codes else behaviour.code
            if code != 200:
                body = b"denied to " + str(dict(self.headers)).encode()
                self._head(code, len(body))
                self.wfile.write(body)
                return
            start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if behaviour.ranges else 0
            if start >= len(behaviour.content) > 0:
                self._head(416, 0)
                return
            rest = behaviour.content[start:]
            self._head(206 if start else 200, len(rest), start)
            if behaviour.cut is not None and behaviour.cuts > 0:
                behaviour.cuts -= 1
                rest = rest[: behaviour.cut]
            try:
                for at in range(0, len(rest), behaviour.block):
                    self.wfile.write(rest[at : at + behaviour.block])
                    self.wfile.flush()
                    time.sleep(behaviour.pause)
            except OSError:
                pass  # the client went away

        def _head(self, code: int, length: int, start: int = 0) -> None:
            self.send_response(code)
            if behaviour.announced:
                self.send_header("Content-Length", str(length))
            if behaviour.kind:
                self.send_header("Content-Type", behaviour.kind)
            if start:
                whole = len(behaviour.content)
                self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    behaviour.url = f"http://127.0.0.1:{server.server_port}/weights"
    try:
        yield behaviour
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
