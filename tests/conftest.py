"""Shared fixtures: small pictures made here, a tiny machine, the data folder beside the checkout where there is one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before torch is loaded: small tensors gain nothing from threads that wait for one another, and lose much where others
# use the processor too.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from commands.ending import guard
from commands.ff import app as ff
from glom.runs.events import Event
from tests.helpers_ranks import ForkedRanks
from tests.helpers_results import checked

os.environ.setdefault("HF_HUB_OFFLINE", "1")
Event.__init__ = checked(Event.__init__)  # type: ignore[method-assign]
SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _alike() -> Iterator[None]:
    """Every test begins with the same random numbers and threads, whatever the one before it asked for."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def shared() -> Path:
    """The data folder beside the checkout; tests that need it are skipped elsewhere."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared/data beside this checkout")
    return SHARED


def in_process(capsys: pytest.CaptureFixture[str], app: typer.Typer, name: str) -> Callable[..., tuple[int, str, str]]:
    """A caller of `apm NAME ...` in this process: (exit code, standard output, standard error)."""
    root = typer.Typer()
    root.add_typer(app, name=name)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = guard(root, [name, *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the program in this process: (exit code, standard output, standard error)."""
    from cli import app

    def run(*arguments: object) -> tuple[int, str, str]:
        code = guard(app, [str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def call_ff(capsys, monkeypatch, tmp_path):
    """Run `apm ff ...` in this process: (exit code, standard output, standard error)."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("APM_DATA", raising=False)
    return in_process(capsys, ff, "ff")


def start(command: list[str], **env: str) -> subprocess.Popen[str]:
    """The program as a process of its own that heeds Ctrl-C, even where these tests run in a shell's background."""
    return subprocess.Popen(
        command,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell's children ignore it
    )


@pytest.fixture(scope="session")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkedRanks]:
    """The program as several ranks, without their start."""
    made = ForkedRanks(tmp_path_factory.mktemp("ranks"))
    yield made
    made.close()


def one_error(text: str) -> bool:
    """Whether standard error holds one error, one line long, and else only notes."""
    lines = text.splitlines()
    return text.count("error: ") == 1 and all(line.startswith(("note: ", "error: ")) for line in lines)


def untimed(table: dict) -> list[dict]:
    """A benchmark's rows without what a clock has said."""
    rows = [{k: v for k, v in r.items() if k not in ("seconds", "times", "within_budget")} for r in table["rows"]]
    return [r | {"intervals": r["intervals"] | {"within_budget": None}} for r in rows]


def make_image(seed: int = 0, size: tuple[int, int] = (32, 32)) -> Image.Image:
    """A smooth random RGB picture, (width, height)."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Two of CIFAR-10's classes, three pictures each."""
    root = tmp_path / "pictures"
    for c, name in enumerate(("cat", "ship")):
        (root / name).mkdir(parents=True)
        for i in range(3):
            make_image(10 * c + i).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium on the path")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser):
    """Open the page: errors and requests are collected; none of either may be there at the end."""
    contexts, wrong = [], []

    def open_page(path: Path, **settings: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1100, "height": 800}, **settings})
        contexts.append(context)
        shown = context.new_page()
        shown.set_default_timeout(20_000)
        shown.session = context.new_cdp_session(shown)
        shown.session.send("Performance.enable", {"timeDomain": "threadTicks"})
        shown.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
        shown.on("pageerror", lambda error: wrong.append(str(error)))
        shown.on("request", lambda r: None if r.url.startswith(("file:", "blob:")) else wrong.append(r.url))
        shown.goto(path.as_uri())
        shown.wait_for_selector("[data-ready=true]")
        settle(shown)
        return shown

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def busy(shown: Any) -> float:
    """Seconds of its own that a page has taken by now, whoever else uses the processor."""
    metrics = shown.session.send("Performance.getMetrics")["metrics"]
    return float(next(m["value"] for m in metrics if m["name"] == "TaskDuration"))


def settle(shown: Any) -> None:
    """Until what was asked for is drawn."""
    shown.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
