"""Runs under several conditions, one after the other."""

from __future__ import annotations

from experiments.adaptation.conditions import run_conditions
from experiments.adaptation.settings import TTTRun
from glom.adaptation.settings import settings_for


def test_every_condition_ends_with_all_of_its_pictures_done(tmp_path):
    base = TTTRun(data="cifar10-sample", ttt=settings_for("glom-tiny", iterations=1, queries=4), limit=3)
    last = {}
    for event in run_conditions(base, ["fog:3"], tmp_path / "out"):
        last[event.stage] = (event.done, event.total)
    assert last == {"clean": (3, 3), "fog:3": (3, 3)}
