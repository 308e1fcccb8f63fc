"""Ranks as arithmetic, a plan for large data sets, and a compiled step beside a plain one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from experiments.bench import compiled, ranks
from experiments.bench.plan import PARTS, Work, run
from experiments.bench.ranks_model import Costs, fitted, pays_until, simulated
from experiments.bench.settings import CompileSettings, PlanSettings, RanksSettings
from glom.errors import InputError

TRUE = Costs(fixed=0.05, column=3e-4, byte=1e-9, hop=2e-4, gradients=0, picture=0.5, start=0.0, cores=2)


class Told:
    """Stands for a process whose every answer is the model's."""

    def __init__(self, make: Any, rank: int, folder: str, settings: RanksSettings, wait: bool) -> None:
        self.rank, self.settings, self.asked = rank, settings, [("", 0, 0)]

    def __enter__(self) -> Told:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def begin(self, *asked: Any) -> None:
        self.asked.append(asked)

    def answer(self) -> float:
        what, world, count = self.asked[-1]
        crowd = TRUE.crowded(world)
        bytes_of = ranks._gradient_bytes(self.settings)
        moved = TRUE.byte * bytes_of * 2 * (world - 1) / max(world, 1)
        hops = TRUE.hop * 2 * (world - 1)
        return {
            "": lambda: 0.0,
            "columns": lambda: crowd * (TRUE.fixed + TRUE.column * -(-(count**2) // world) + moved + hops),
            "gradients": lambda: crowd * (moved + hops),
            "barrier": lambda: crowd * hops,
            "pictures": lambda: crowd * (TRUE.picture * count / world + hops),
        }[what]()


def test_what_ranks_cost_is_found_again_from_what_they_take(monkeypatch):
    monkeypatch.setattr(ranks, "Apart", Told)
    monkeypatch.setattr(ranks.psutil, "cpu_count", lambda logical: 2)
    found = ranks.run_ranks(RanksSettings(apm="apm-tiny", features=128, sides=(32, 224), rounds=1))
    assert found["columns_error"] < 1e-3 and found["samples_error"] < 1e-3
    assert found["costs"]["byte"] == pytest.approx(TRUE.byte, rel=0.01)
    assert found["costs"]["hop"] == pytest.approx(TRUE.hop, rel=0.01)
    assert len(found["checked"]) == 6  # the largest grid is only modelled
    small, large = found["columns"]
    assert [row["ranks"] for row in large["rows"]] == [2**n for n in range(11)]
    assert small["pay_until"] < large["pay_until"] < 1024 and small["fastest"] <= large["fastest"]
    slow = ranks.run_ranks(RanksSettings(apm="apm-tiny", features=128, sides=(32, 224), rounds=1, latency=1e6))
    assert slow["columns"][0]["fastest"] == 1 and slow["samples"]["rows"][-1]["seconds"] > 1000


def test_ranks_are_modelled_as_they_should_be():
    rows = simulated(lambda n: TRUE.samples(1000, 10, n) / TRUE.crowded(n), 128)
    assert rows[0]["speedup"] == 1 and rows[-1]["seconds"] == pytest.approx(10 * TRUE.picture, rel=0.1)  # one block
    assert pays_until(simulated(lambda n: 1.0, 64)) == 2  # half of what two would be at best, and less of four
    assert fitted([(2, 0, 0.4), (4, 0, 1.2)], lambda n: 1.0)[1] == pytest.approx(0.2)


def planned(**given: Any) -> Any:
    [event] = run(PlanSettings(**given))
    return event.result


def test_a_plan_adds_up_and_follows_its_assumptions():
    first = planned()
    assert [(r["pictures"], r["gpus"]) for r in first["rows"]] == [(p, g) for p in (50_000, 3_750_000) for g in (1, 8)]
    one, eight = first["rows"][:2]
    assert one["hours"] == pytest.approx(sum(one["by_part"][p] for p in PARTS[1:]), rel=1e-3)  # reading is beside it
    assert eight["hours"] == pytest.approx(one["hours"] / 8, rel=1e-3)
    assert one["cost"] == pytest.approx(sum(one["cost_by_part"].values()), rel=1e-3) == 2 * one["gpu_hours"]
    assert (
        first["work"]["encode_gmadds"] == pytest.approx(81, abs=1) and first["work"]["teacher_m"] == 304.0
    )  # ViT-L/14
    told = {a["setting"]: a["value"] for a in first["assumptions"]}
    assert {"tflops", "price", "read_rate", "draw_rate"} <= set(told) and told["gpus"] == [1, 8]
    slow = planned(read_rate=(1.0, 1.0), cores=1, gpus=(1,))["rows"][0]
    assert slow["bound"] == "reading" and slow["hours"] == pytest.approx(50_000 / 3600, rel=1e-3)
    assert one["bound"] == "adaptation" and planned(cores=1, gpus=(1,))["rows"][0]["bound"] == "drawing"
    drawn = {
        cores: planned(cores=cores, stack=32, gpus=(1,), link=1e9)["rows"][0]["by_part"]["drawing"]
        for cores in (1, 8, 64)
    }
    assert drawn[1] == pytest.approx(8 * drawn[8], rel=1e-3) == pytest.approx(32 * drawn[64], rel=1e-3)
    exact = planned(preset="exact", gpus=(1,))["rows"][0]
    assert exact["by_part"]["drawing"] == 0 and exact["gpu_gb"] < one["gpu_gb"], "one machine serves every picture"
    # A read-out asks the whole grid; a step only what is drawn.
    assert Work.of(PlanSettings()).step < Work.of(PlanSettings(preset="published")).step
    with pytest.raises(InputError, match="one number a data set each"):
        planned(pictures=(5,))


def test_the_plan_is_recomputed_by_its_command(call):
    code, out, error = call("bench", "plan", "--price", "4", "--gpus", "2", "--json")
    assert code == 0, error
    found = json.loads(out)
    assert [r["gpus"] for r in found["rows"]] == [2, 2]
    assert found["rows"][0]["cost"] == pytest.approx(8 * found["rows"][0]["hours"], rel=1e-3)
    code, out, error = call("bench", "plan")
    assert code == 0 and "--price" in out and "drawing" in out, error


def test_a_compiled_step_stands_beside_a_plain_one(monkeypatch):
    monkeypatch.setattr(compiled.torch, "compile", lambda work, dynamic: work)
    found = compiled.run_compiled(CompileSettings(machines=(("apm-tiny", 128, 2),), rounds=1, steps=1, queries=4))
    [row] = found["rows"]
    assert row["difference"] == 0 and row["seconds"]["plain"]["n"] == 1
    monkeypatch.setattr(compiled.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="needs a C\\+\\+ compiler"):
        compiled.run_compiled(CompileSettings())
