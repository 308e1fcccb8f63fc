"""What is said though nothing failed: once on standard error, and in the run's manifest."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import typer

from commands.ending import guard
from glom.runs.artifacts import RunFolder, read_json
from glom.runs.notices import heard, listening, notice


def test_a_listener_hears_each_notice_once() -> None:
    shown: list[str] = []
    with listening(shown.append):
        for text in ("a", "b", "a"):
            notice(text)
        assert heard() == shown == ["a", "b"]
    assert heard() == []


def test_without_a_listener_a_notice_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "glom"):
        notice("2 files were passed over")
    assert "2 files were passed over" in caplog.text


def test_a_run_keeps_what_was_said_before_and_during_it(tmp_path: Path) -> None:
    with listening(lambda text: None):
        notice("before")
        with RunFolder(tmp_path / "run", "test", {}) as folder:
            notice("during")
            folder.finish()
    assert read_json(tmp_path / "run" / "manifest.json")["notices"] == ["before", "during"]
    with RunFolder(tmp_path / "quiet", "test", {}) as folder:
        folder.finish()
    assert "notices" not in read_json(tmp_path / "quiet" / "manifest.json")


@pytest.mark.parametrize(("rank", "expected"), [("0", "note: something\n"), ("1", "")])
def test_a_command_says_it_on_standard_error(
    rank: str, expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    app = typer.Typer()

    @app.command()
    def command() -> None:
        notice("something")
        notice("something")

    assert guard(app, []) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", expected)
