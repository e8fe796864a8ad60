from __future__ import annotations

import os

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from alapp.ui.security import UNWANTED, SameOriginMiddleware, forget_variables, launch_options, space_hosts

OURS = "127.0.0.1:7860"


def client(*hosts: str) -> TestClient:
    async def run(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ran")

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    routes = [Route("/run", run, methods=["GET", "POST"]), WebSocketRoute("/socket", socket)]
    return TestClient(Starlette(routes=routes, middleware=[Middleware(SameOriginMiddleware, hosts=hosts)]))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": OURS}, 200),
        ({"host": OURS, "origin": f"http://{OURS}"}, 200),
        ({"host": "localhost:7860", "origin": "http://localhost:7860"}, 200),
        ({"host": "LOCALHOST:7860"}, 200),
        ({"host": "[::1]:7860", "origin": "http://[::1]:7860"}, 200),
        ({"host": "192.168.1.5:7860", "origin": "http://192.168.1.5:7860"}, 200),
        ({"host": "lab.example", "origin": "https://lab.example"}, 200),
        ({"host": OURS, "origin": "https://lab.example"}, 200),
        ({"host": OURS, "origin": "https://evil.example"}, 403),
        ({"host": OURS, "origin": "null"}, 403),
        ({"host": OURS, "origin": "http://127.0.0.1:8888"}, 403),
        ({"host": OURS, "origin": "http://localhost:7860"}, 403),
        ({"host": OURS, "origin": "http://127.0.0.1:7860@evil.example"}, 403),
        ({"host": OURS, "origin": "http://127.0.0.1:99999999"}, 403),
        ({"host": "evil.example:7860"}, 403),
        ({"host": "evil.example:7860", "origin": "http://evil.example:7860"}, 403),
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"host": ""}, 403),
        ({"host": OURS, "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ({"host": OURS, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),
        ({"host": OURS, "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, 200),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_who_may_call(headers: dict[str, str], status: int, method: str) -> None:
    answer = client("Lab.example").request(method, "/run", headers=headers, content=b"{}" if method == "POST" else None)
    assert answer.status_code == status
    assert (answer.text == "ran") == (status == 200)


def test_a_refusal_says_what_to_do() -> None:
    answer = client().get("/run", headers={"host": "lab.example"})
    assert "--allow-host lab.example" in answer.text


def test_two_hosts_are_none() -> None:
    answer = client().get("/run", headers=[("host", OURS), ("host", "evil.example")])
    assert answer.status_code == 403


def test_websockets_too() -> None:
    with client().websocket_connect("/socket", headers={"host": OURS, "origin": f"http://{OURS}"}):
        pass
    with (
        pytest.raises(WebSocketDisconnect),
        client().websocket_connect("/socket", headers={"host": OURS, "origin": "http://evil.example"}),
    ):
        pass


def test_the_names_of_a_space() -> None:
    assert space_hosts({"SPACE_HOST": "a.hf.space"}) == frozenset()
    space = {"SPACE_ID": "me/app", "SPACE_HOST": "me-app.hf.space, Own.example"}
    assert space_hosts(space) == {"me-app.hf.space", "own.example"}


def test_launch_options_carry_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "me/app")
    monkeypatch.setenv("SPACE_HOST", "me-app.hf.space")
    options = launch_options(["lab.example"])
    (guard,) = options["app_kwargs"]["middleware"]
    assert guard.cls is SameOriginMiddleware
    assert guard.kwargs["hosts"] == {"lab.example", "me-app.hf.space"}


@pytest.mark.parametrize(
    ("space", "policy"),
    [
        ("", "frame-ancestors 'self'"),
        ("me/app", "frame-ancestors 'self' https://huggingface.co https://*.hf.space"),
    ],
)
def test_no_other_site_may_show_the_page_in_a_frame(monkeypatch: pytest.MonkeyPatch, space: str, policy: str) -> None:
    monkeypatch.setenv("SPACE_ID", space)
    monkeypatch.delenv("SPACE_HOST", raising=False)
    (guard,) = launch_options()["app_kwargs"]["middleware"]
    app = TestClient(Starlette(routes=[Route("/run", lambda _: PlainTextResponse("ran"))], middleware=[guard]))
    for headers in ({"host": OURS}, {"host": "evil.example"}):
        assert app.get("/run", headers=headers).headers["content-security-policy"] == policy


def test_variables_of_other_apps_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict.fromkeys((*UNWANTED, "GRADIO_ROOT_PATH", "GRADIO_TEMP_DIR"), "/etc"))
    forget_variables()
    assert sorted(os.environ) == ["GRADIO_ROOT_PATH", "GRADIO_TEMP_DIR"]  # a proxy and the user need these


def test_gradio_runs_behind_the_guard() -> None:
    import gradio as gr
    import httpx

    with gr.Blocks() as demo:
        gr.Markdown("hello")
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, inbrowser=False, **launch_options())
    try:
        assert httpx.get(url, timeout=30).status_code == 200
        for path in ("", "config", "gradio_api/component_server/"):
            foreign = httpx.post(url + path, headers={"origin": "https://evil.example"}, json={}, timeout=30)
            assert foreign.status_code == 403
        assert httpx.get(url, headers={"host": "evil.example"}, timeout=30).status_code == 403
        assert httpx.get(url + "docs", timeout=30).status_code == 404
        assert httpx.get(url + "openapi.json", timeout=30).status_code == 404
    finally:
        demo.close()
