"""`apm benchmark` takes its data sets by place, by name, or both; its settings file gives the run again."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

import experiments.comparison.run
from commands.benchmark import benchmark
from commands.ending import guard
from experiments.comparison.settings import BenchmarkSettings
from glom.settings import read_files, to_toml


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What `apm benchmark ...` would run."""
    app, found = typer.Typer(), []
    app.command("benchmark")(benchmark)
    app.command("other")(lambda: None)

    def run(settings, *rest, **more):
        found.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(experiments.comparison.run, "run", run)

    def call(*words: object) -> BenchmarkSettings:
        assert guard(app, ["benchmark", *map(str, words), "--out", str(tmp_path / "run")]) == 130
        return found[-1]

    return call


def test_data_sets_by_place_by_name_or_both(asked, image_folder):
    assert asked().data == ("cifar10-sample",)
    assert asked("-d", "cifar10-sample").data == ("cifar10-sample",)
    assert asked(image_folder, "cifar10-sample").data == (str(image_folder), "cifar10-sample")
    assert asked(image_folder, "--data", "cifar10-sample").data == (str(image_folder), "cifar10-sample")


def test_clean_is_no_corruption_and_a_settings_file_gives_the_same(asked, tmp_path):
    one = asked("--corruptions", "clean,fog:3", "-m", "zero-shot,zero", "--views", "augmix", "--second-teacher", "x")
    assert (one.corruptions, one.methods, one.augment, one.second) == (
        ("", "fog:3"),
        ("zero-shot", "zero"),
        "augmix",
        "x",
    )
    (tmp_path / "s.toml").write_text(to_toml(one), encoding="utf-8")
    assert BenchmarkSettings.of(**read_files(BenchmarkSettings, [Path(tmp_path / "s.toml")])) == one
    assert asked("--config", tmp_path / "s.toml") == one
