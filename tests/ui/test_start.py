"""Whether the app starts, as its users start it: with variables, files and addresses that are not the usual ones."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from alapp.supervisor import worker_record

ROOT = Path(__file__).parents[2]
SECONDS = 300


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def address(process: subprocess.Popen, log: Path) -> str:
    """The page, once it is served."""
    end = time.monotonic() + SECONDS
    while " at http://" not in log.read_text(encoding="utf-8"):
        assert process.poll() is None, log.read_text(encoding="utf-8")
        assert time.monotonic() < end, "timed out"
        time.sleep(0.2)
    return log.read_text(encoding="utf-8").rpartition(" at ")[2].strip()


def end(process: subprocess.Popen, state: Path) -> None:
    process.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGINT)
    process.wait(60)
    if (record := worker_record(state)) and record.alive:
        worker = psutil.Process(record.pid)
        worker.kill()
        worker.wait(20)


@pytest.mark.slow
@pytest.mark.skipif(not has_ipv6(), reason="has no IPv6")
def test_the_app_starts_on_a_shared_computer_behind_a_socks_proxy(tmp_path: Path) -> None:
    temporary, state, log = tmp_path / "temporary", tmp_path / "state", tmp_path / "log"
    temporary.mkdir()
    (temporary / "gradio").write_text("a colleague's")  # in place of a folder that only the colleague may write in
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    odd = {
        "TMPDIR": str(temporary), "TEMP": str(temporary), "TMP": str(temporary),
        "ALL_PROXY": "socks5://127.0.0.1:9", "all_proxy": "socks://127.0.0.1:9", "https_proxy": "socks4://127.0.0.1:9",
        "GRADIO_ALLOWED_PATHS": str(tmp_path), "GRADIO_SERVER_NAME": "not.an.address.invalid", "GRADIO_DEBUG": "yes",
        "GRADIO_VIBE_MODE": "1", "GRADIO_MCP_SERVER": "true", "GRADIO_SERVER_PORT": "17860",
    }  # fmt: skip
    inherited = {name: value for name, value in os.environ.items() if name != "GRADIO_TEMP_DIR"}
    command = [sys.executable, str(ROOT / "app.py"), "--state", str(state), "--host", "::1", "--no-browser"]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=inherited | odd, stdout=output, stderr=output,
            # Tests that run in the background of a shell ignore Ctrl+C, and what they start would, too.
            preexec_fn=None if sys.platform == "win32" else partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
    try:
        page = address(process, log)
        assert page.startswith("http://[::1]:17")
        with httpx.Client(trust_env=False, timeout=60) as client:
            answer = client.get(page)
            assert answer.status_code == 200
            assert answer.headers["content-security-policy"] == "frame-ancestors 'self'"
            assert client.get(f"{page}/gradio_api/file={secret}").status_code in (403, 404)
            sent = client.post(f"{page}/gradio_api/upload", files={"files": ("cells.tif", b"pixels")})
            assert Path(sent.json()[0]).is_relative_to(state / "tmp")
        assert f"Your projects are in {state}" in log.read_text(encoding="utf-8")
    finally:
        end(process, state)
    assert not (state / "app.alive").exists()
    assert not list((state / "tmp").rglob("*.tif"))  # the page's uploads end with it
    assert "Traceback" not in log.read_text(encoding="utf-8")
