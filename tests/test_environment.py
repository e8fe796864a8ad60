from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from alapp import environment
from alapp.environment import DEFAULTS, machine, nms, prepare

ROOT = Path(__file__).parent.parent


def python(code: str, **variables: str) -> str:
    """Output of a fresh interpreter, without the variables that this process has set already."""
    clean = {name: value for name, value in os.environ.items() if name not in DEFAULTS}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=clean | variables, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_importing_the_package_prepares_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, os, alapp\n"
        "print(os.environ['OMP_WAIT_POLICY'], os.environ['nnUNet_n_proc_DA'], os.environ['nnUNet_def_n_proc'],\n"
        "      {'torch', 'torchvision', 'numpy', 'gradio', 'psutil'} & set(sys.modules))"
    )
    assert python(code, nnUNet_def_n_proc="5") == "PASSIVE 0 5 set()"


def test_the_app_reaches_itself_past_a_proxy(monkeypatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("urllib.request.getproxies", lambda: {})
    environment.bypass_proxy("192.0.2.7")
    assert not [name for name in os.environ if name.lower().endswith("_proxy")]
    # As on Windows and macOS, where the proxy stands in the system's settings; then as a variable says.
    for found in ({"http": "http://proxy:1"}, {"http": "http://proxy:1", "no": "example.org, localhost"}):
        monkeypatch.setattr("urllib.request.getproxies", lambda found=found: dict(found))
        for name in ("http_proxy", "no_proxy", "NO_PROXY"):
            monkeypatch.setenv(name, "to be removed afterwards")
            os.environ.pop(name, None)
        environment.bypass_proxy("192.0.2.7")
        assert os.environ["http_proxy"] == "http://proxy:1"
        direct = os.environ["NO_PROXY"].split(",")
        assert {"localhost", "127.0.0.1", "::1", "192.0.2.7"} <= set(direct)
        assert len(direct) == len(set(direct))
        assert ("example.org" in direct) == ("no" in found)
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"http": "http://proxy:1", "no": "*"})
    os.environ["NO_PROXY"] = "*"
    environment.bypass_proxy()
    assert os.environ["NO_PROXY"] == "*"


@pytest.fixture
def proxies(monkeypatch):
    """`os.environ` without proxies, which is put back, as is what was taken out of it."""
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    monkeypatch.setattr(os, "environ", clean)
    monkeypatch.setattr(environment, "_set_aside", {})
    monkeypatch.setattr("urllib.request.getproxies", lambda: {})
    return clean


@pytest.mark.parametrize("address", ["socks://proxy:1", "socks5://proxy:1", "socks5h://proxy:1", "http://proxy:port"])
def test_a_proxy_that_speaks_no_http_is_left_to_downloads(proxies, address) -> None:
    given = {"ALL_PROXY": address, "https_proxy": "http://proxy:2", "HTTP_PROXY": "proxy:3", "ftp_proxy": ""}
    proxies |= given
    environment.bypass_proxy()
    assert "ALL_PROXY" not in proxies
    assert {name: proxies[name] for name in given if name != "ALL_PROXY"}.items() <= given.items()
    assert environment.inherited() == proxies | given


def test_a_proxy_of_windows_that_speaks_no_http_is_left_to_downloads(proxies, monkeypatch) -> None:
    found = {"http": "socks4://proxy:1", "https": "http://proxy:2"}
    monkeypatch.setattr("urllib.request.getproxies", lambda: dict(found))
    environment.bypass_proxy()
    assert "http_proxy" not in proxies
    assert proxies["https_proxy"] == "http://proxy:2"
    assert "127.0.0.1" in proxies["no_proxy"]
    assert environment.inherited()["http_proxy"] == "socks4://proxy:1"


def test_a_broken_torch_is_no_gpu(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('[WinError 126] The specified module could not be found.')")
    code = "from alapp import environment; print(environment._gpu())"
    assert python(code, PYTHONPATH=str(tmp_path)) == "('', None)"


def test_prepare_twice_installs_one_hook() -> None:
    prepare()
    prepare()
    assert sum(type(finder).__name__ == "_TorchvisionFinder" for finder in sys.meta_path) == 1


IMPORT = (
    "import torch, torchvision; boxes = torch.tensor([[0., 0, 2, 2], [0, 0, 2, 2]]); "
    "print(torchvision.ops.nms(boxes, torch.tensor([.1, .9]), .5).tolist())"
)


def test_torchvision_works_in_a_process_that_imports_the_package_first() -> None:
    assert python(f"import alapp; {IMPORT}") == "[1]"


def test_torchvision_works_after_its_import_has_failed() -> None:
    code = "try:\n    import torchvision\nexcept RuntimeError:\n    pass\nimport alapp\n" + IMPORT
    assert python(code) == "[1]"


def test_torchvision_works_in_spawned_processes(tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(
        "import alapp\n"
        "import multiprocessing, runpy\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        # A function of the standard library: the child imports this package only through the main module.
        f"        pool.apply(exec, ({IMPORT!r},))\n"
    )
    result = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.stdout.strip(), result.returncode) == ("[1]", 0), result.stderr


def test_a_working_torchvision_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Extension:
        @staticmethod
        def _has_ops() -> bool:
            return True

    monkeypatch.setattr(environment, "_libraries", [])
    environment._define_operators(Extension)
    boxes = type("Boxes", (), {"_assert_has_ops": "untouched"})
    environment._allow_nms(boxes)
    assert boxes._assert_has_ops == "untouched"
    assert not environment.torchvision_remedied()


def naive_nms(boxes: list[list[float]], scores: list[float], threshold: float) -> list[int]:
    """The definition, box by box."""

    def iou(a: list[float], b: list[float]) -> float:
        width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
        height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
        both = width * height
        return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)

    kept: list[int] = []
    for index in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if all(iou(boxes[index], boxes[other]) <= threshold for other in kept):
            kept.append(index)
    return kept


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("count", [0, 1, 2, 150])
def test_nms_agrees_with_its_definition(count: int, threshold: float) -> None:
    import torch

    torch.manual_seed(count)
    corner = torch.randint(0, 40, (count, 2)).double()
    boxes = torch.cat([corner, corner + torch.randint(1, 25, (count, 2))], dim=1)
    scores = torch.randint(0, 30, (count,)).double()  # with ties
    kept = nms(boxes, scores, threshold)
    assert kept.dtype == torch.int64
    assert kept.tolist() == naive_nms(boxes.tolist(), scores.tolist(), threshold)


def test_nms_refuses_other_shapes() -> None:
    import torch

    with pytest.raises(ValueError, match=r"\(N, 4\)"):
        nms(torch.zeros(3, 5), torch.zeros(3), 0.5)


def test_machine_has_cores_and_memory() -> None:
    found = machine()
    assert 1 <= found.cores <= os.cpu_count()
    assert 0.1 < found.ram_gb < 1e5
    assert (found.gpu_gb is None) == (found.device == "cpu")
    assert machine() is found


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "250000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
    ],
)
def test_the_quota_of_a_container_counts(files: dict[str, str], cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_cgroup", lambda name: files.get(name, ""))
    monkeypatch.setattr(environment.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert environment.usable_cores() == cores


def test_the_hook_finds_the_module_that_python_finds() -> None:
    spec = importlib.util.find_spec("torchvision")
    assert spec is not None
    finder = environment._TorchvisionFinder()
    found = finder.find_spec("torchvision.extension", list(spec.submodule_search_locations))
    assert Path(found.origin).name == "extension.py"
    assert finder.find_spec("torchvision", None) is None
