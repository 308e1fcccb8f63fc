"""Sweeps: from a file to runs, each made once whatever is killed, and one table with paired comparisons."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from commands.sweep import begin, command_of
from commands.sweep import call as program
from experiments.folding.settings import BASE, FoldingSettings, settings_of
from experiments.sweep.job import Job, end, state_of
from experiments.sweep.plan import Sweep, plan, read_sweep
from experiments.sweep.report import report
from experiments.sweep.run import run
from experiments.sweep.settings import SweepSettings
from glom.errors import InputError
from glom.runs.artifacts import read_json, read_lines, read_result, read_results, write_json
from glom.runs.statistics import mcnemar_exact
from tests.conftest import one_error, start
from tests.experiments.sweep.light import stopped_in_a_destructor, stopped_once

ROOT = Path(__file__).parents[3]
TWELVE = """
command = "ttt run"
seeds = [0, 1, 2]
[settings]
data = "cifar10-sample"
limit = 1
[grid]
iterations = [1, 2]
lr = [0.001, 0.002]
"""


def planned(folder: Path, text: str, **settings: object) -> Sweep:
    path = folder / "sweep.toml"
    path.write_text(text)
    content = read_sweep(path)
    return plan(SweepSettings(file=str(path), **settings), content, command_of(content["command"]))


def test_twelve_runs_killed_in_the_middle_are_twelve_and_none_twice(tmp_path, call):
    file, out = tmp_path / "sweep.toml", tmp_path / "out"
    file.write_text(TWELVE)
    arguments = [sys.executable, "cli.py", "sweep", str(file), "--out", str(out), "--quiet"]
    process = start(arguments, HF_HUB_OFFLINE="1")
    until = time.monotonic() + 240
    try:
        while not (list(out.glob("states/*.json")) and len(list(out.glob("runs/.*.lock"))) > 1):  # the second has begun
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()  # its job lives on, and is waited for
    before = {path: path.stat().st_mtime_ns for path in out.glob("states/*.json")}
    assert 1 <= len(before) < 12
    asked = ("sweep", file, "--out", out, "--executor", "debug", "--quiet", "--json")
    code, text, error = call(*asked)
    assert code == 2 and "--resume" in error  # a held folder is refused
    code, text, error = call(*asked, "--resume")
    assert code == 0, error
    result = json.loads(text)
    assert (result["runs"], result["done"], result["failed"], len(result["rows"])) == (12, 12, 0, 4)
    lines = read_lines(out / "results.jsonl")
    assert len(lines) == 12 == len({line["id"] for line in lines}) == len(list((out / "runs").iterdir())) - 12
    assert all(len(read_lines(folder / "results.jsonl")) == 1 for folder in out.glob("runs/[!.]*"))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert all((folder / "settings.toml").is_file() for folder in out.glob("runs/[!.]*"))
    commands = {read_json(folder / "manifest.json")["command"].split()[:3] == ["apm", "ttt", "run"]
                for folder in out.glob("runs/[!.]*")}  # fmt: skip
    assert commands == {True}
    assert call(*asked, "--resume")[0] == 0 and read_lines(out / "results.jsonl") == lines
    code, text, error = call("sweep", "figure", out, "--x", "lr", "--y", "teacher_top1", "--by", "iterations")
    assert code == 0 and (out / "figure.png").stat().st_size > 10_000
    for wrong, says in ((["--x", "lrr", "--y", "n"], "lr"), (["--x", "lr", "--y", "teacher_top"], "teacher_top1")):
        code, text, error = call("sweep", "figure", out, *wrong, "--quiet")
        assert code == 2 and says in error and one_error(error)


def test_what_becomes_of_a_dead_worker_is_told_to_each_run(tmp_path, call):
    (tmp_path / "s.toml").write_text(
        'command = "ttt run"\n[settings]\ndata = "cifar10-sample"\nlimit = 1\nworkers = 1\niterations = 1\n'
    )
    asked = ("--executor", "debug", "--quiet", "--on-dead-worker", "continue")
    code, _, error = call("sweep", tmp_path / "s.toml", "--out", tmp_path / "out", *asked)
    assert code == 0, error
    (folder,) = (tmp_path / "out").glob("runs/[!.]*")
    assert "--on-dead-worker continue" in read_json(folder / "manifest.json")["command"]
    (tmp_path / "b.toml").write_text('command = "ablate folding"\n')
    code, _, error = call("sweep", tmp_path / "b.toml", "--out", tmp_path / "none", *asked)
    assert code == 2 and one_error(error) and "ablate folding" in error and not (tmp_path / "none").exists()


def test_failed_runs_are_listed_and_run_again_on_request(tmp_path, call, image_folder):
    text = 'command = "ttt run"\n[settings]\niterations = 1\nlimit = 1\n'
    text += f'[grid]\ndata = ["cifar10-sample", "{image_folder}x"]\n'
    (tmp_path / "s.toml").write_text(text)
    asked = ("sweep", tmp_path / "s.toml", "--out", tmp_path / "out", "--executor", "debug", "--quiet", "--json")
    code, text, error = call(*asked)
    assert code == 1 and "1 of 2 runs failed" in error and "--retry" in error
    result = json.loads(text)
    assert (result["done"], result["failed"]) == (1, 1)
    (failed,) = result["rows"][1]["errors"].values()
    assert "picturesx" in failed
    assert call(*asked, "--resume")[0] == 1  # not run again unasked
    assert len(read_lines(tmp_path / "out" / "results.jsonl")) == 2
    image_folder.rename(f"{image_folder}x")
    code, text, error = call(*asked, "--retry")
    assert code == 0 and json.loads(text)["failed"] == 0, error
    code, text, error = call("sweep", "report", tmp_path / "out", "--measure", "teacher_top1")
    assert code == 0 and "2 runs, 2 done, 0 failed" in text and "reading runs" in error and "comparing" in error
    code, text, error = call("sweep", "figure", tmp_path / "out", "--x", "data", "--y", "teacher_top1", "--quiet")
    assert code == 0 and error.startswith("figure: ")


def test_the_folding_ablation_is_a_sweep_with_the_same_numbers(tmp_path, call):
    content = read_sweep(ROOT / "experiments" / "folding" / "sweep.toml")
    every = [BASE if s.axis == BASE else s.key for s in settings_of(FoldingSettings())]
    assert content["grid"]["axis"] == every
    recorded = json.loads((ROOT / "benchmarks" / "results" / "folding.json").read_text())
    asked = content["settings"]
    assert (recorded["pictures"], recorded["seeds"]) == (asked["limit"], asked["seeds"])
    assert recorded["iterations"] == asked["iterations"]
    content["settings"] |= {"limit": 1, "iterations": 1, "seeds": 2}
    content["grid"] = {"axis": ["base", "patch=1x1"]}
    settings = SweepSettings(file="sweep.toml", executor="debug")
    request = plan(settings, content, command_of(content["command"]))
    *_, last = run(request, tmp_path / "sweep")
    options = ["--axis", "base,patch=1x1", "--limit", 1, "--iterations", 1, "--seeds", 2, "--quiet"]
    assert call("ablate", "folding", *options, "--out", tmp_path / "one")[0] == 0
    one = sorted(map(json.dumps, read_results(tmp_path / "one")))
    assert one == sorted(
        json.dumps(r) for name in (tmp_path / "sweep" / "runs").glob("[!.]*") for r in read_results(name)
    )
    for row, own in zip(last.result["rows"], read_result(tmp_path / "one")["rows"], strict=True):
        for measure, value in row["measures"].items():
            assert value["mean"] == pytest.approx(own["measures"][measure]["mean"])
            if not row["base"]:
                assert value["minus_base"] == pytest.approx(own["measures"][measure]["minus_base"][0])


def test_a_job_that_loses_its_machine_goes_on(tmp_path):
    """What submitit does at a time limit or a pre-emption, by its local executor."""
    import submitit

    job = Job(tmp_path, "a", ("x", "--out", str(tmp_path / "runs" / "a")), True, begin, stopped_once, {})
    executor = submitit.LocalExecutor(tmp_path / "jobs")
    executor.update_parameters(timeout_min=5)
    submitted = executor.submit(job)
    until = time.monotonic() + 60
    while not (tmp_path / "runs" / "a" / "begun").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    task = [int(p.name) for p in Path("/proc").glob("[0-9]*") if _parent(p) == int(submitted.job_id)]
    os.kill(task[0], signal.SIGUSR2)
    assert submitted.result() == "done" and state_of(tmp_path, "a")["status"] == "done"
    assert (tmp_path / "runs" / "a" / "ended").read_text().endswith("--resume")


def test_a_job_that_is_stopped_inside_a_destructor_stops(tmp_path):
    """Python drops what a signal raises there."""
    import submitit

    job = Job(tmp_path, "a", ("x",), True, begin, stopped_in_a_destructor, {})
    executor = submitit.LocalExecutor(tmp_path / "jobs")
    executor.update_parameters(timeout_min=5)
    assert executor.submit(job).result() == "interrupted" and state_of(tmp_path, "a") is None


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def test_slurm_is_asked_for_what_the_file_says_and_its_queue_is_not_filled_twice(tmp_path, monkeypatch):
    tools = tmp_path / "bin"
    tools.mkdir()
    states = 'echo "JobID|State|NodeList"; echo "7_0|PENDING|"; echo "7_1|PENDING|"'
    taken = f'cp "$1" {tmp_path}/asked.sh; echo "Submitted batch job 7"'
    for name, does in {"srun": "", "sbatch": taken, "sacct": states}.items():
        (tools / name).write_text(f"#!/bin/sh\n{does}\n")
        (tools / name).chmod(0o755)
    text = TWELVE.replace("seeds = [0, 1, 2]\n", "").replace("iterations = [1, 2]", "iterations = [1]")
    text += '[slurm]\npartition = "gpu"\ntime = 30\ngpus_per_node = 1\nsetup = ["module load cuda"]\n'
    with pytest.raises(InputError, match="no Slurm on this machine"):
        next(run(planned(tmp_path, text, executor="slurm"), tmp_path / "out"))
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    events = run(planned(tmp_path, text, executor="slurm", jobs=2), tmp_path / "out")
    assert next(events).total == 2
    monkeypatch.setattr("experiments.sweep.run.time.sleep", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        next(events)
    asked = (tmp_path / "asked.sh").read_text()
    for line in ("--partition=gpu", "--time=30", "--gpus-per-node=1", "--array=0-1%2", "module load cuda"):
        assert line in asked
    (tmp_path / "asked.sh").unlink()
    again = run(planned(tmp_path, text, executor="slurm", jobs=2), tmp_path / "out", resume=True)
    next(again)
    with pytest.raises(KeyboardInterrupt):
        next(again)
    assert not (tmp_path / "asked.sh").exists()


def test_grids_lists_and_draws_stand_together(tmp_path):
    text = """command = "ttt run"
    [settings]
    data = "cifar10-sample"
    [[list]]
    objective = "token-mse"
    [[list]]
    preset = "exact"
    [random]
    runs = 3
    seed = 1
    lr = { low = 1e-4, high = 1e-2, log = true }
    iterations = { low = 5, high = 9 }
    """
    sweep = planned(tmp_path, text)
    assert len(sweep.runs) == 6 == len({one.name for one in sweep.runs})
    drawn = [one.varied for one in sweep.runs]
    assert all(1e-4 <= v["lr"] <= 1e-2 and type(v["iterations"]) is int and 5 <= v["iterations"] <= 9 for v in drawn)
    assert [v["lr"] for v in drawn[:3]] == [v["lr"] for v in drawn[3:]] and len({v["lr"] for v in drawn}) == 3
    assert [one.name for one in planned(tmp_path, text).runs] == [one.name for one in sweep.runs]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "`command` has to be given"),
        ("command = 3", "command is a text"),
        ('command = "ttt rum"', "ttt run"),
        ('command = "ttt"', "cannot be swept"),
        ('command = "ttt report"', "cannot be swept"),
        ('command = "bench execution"', "cannot be swept"),
        ('command = "sweep run"', "cannot be swept"),
        ('command = "ttt run"\n[grid]\nitertions = [1]', "did you mean iterations"),
        ('command = "ttt run"\ncomand = 2', "did you mean command"),
        ('command = "ttt run"\n[grid]\nlr = 3', "lr is a list of values"),
        ('command = "ttt run"\n[grid]\nlr = []', "lr is a list of values"),
        ('command = "ttt run"\n[settings]\ndata = "a"\n[grid]\nlr = ["fast"]', "lr is a number"),
        ('command = "ttt run"\n[settings]\ndata = "a"\n[grid]\nlr = [1.0, 1.0]', "asks twice"),
        ('command = "ttt run"\n[grid]\nlr = [1.0]', "`data` has to be given"),
        ('command = "ttt run"\nseeds = ["a"]', "seeds is a list of whole numbers"),
        ('command = "ttt run"\nseeds = []\n[random]\nlr = [1.0]', "random needs `runs`"),
        ('command = "ttt run"\n[random]\nruns = 2\nlr = { low = 2, high = 1 }', "low, high"),
        ('command = "ttt run"\n[settings]\ndata = "a"\n[base]\nlr = 1.0', "none of the sweep's settings"),
        ('command = "ttt run"\n[settings]\ndata = "a"\n[slurm]\npartitoin = "x"', "did you mean partition"),
        ('command = "ttt run"\n[settings]\ndata = "a"\n[slurm]\ntime = "1h"', "time is a whole number"),
        ("command = ", "not a sweep file"),
    ],
)
def test_wrong_files_are_refused_in_a_line(tmp_path, text, says):
    with pytest.raises(InputError) as error:
        planned(tmp_path, text)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_thousand_million_runs_are_refused_by_count(tmp_path, call):
    many = ", ".join(map(str, range(1, 1001)))
    text = f'command = "ttt run"\nseeds = [{many}]\n[settings]\ndata = "a"\n'
    (tmp_path / "s.toml").write_text(f"{text}[grid]\niterations = [{many}]\nlimit = [{many}]\n")
    begun = time.monotonic()
    code, out, error = call("sweep", tmp_path / "s.toml", "--out", tmp_path / "out")
    assert (code, out) == (2, "") and "1,000,000,000 runs" in error and one_error(error)
    assert time.monotonic() - begun < 2 and not (tmp_path / "out").exists()


def test_differences_are_paired_by_sample_or_by_seed_and_corrected(tmp_path):
    right = {"a": [1] * 20 + [0] * 20, "b": [1] * 26 + [0] * 14, "c": [1] * 20 + [0] * 20}
    runs = []
    for name, values in right.items():
        for seed in (0, 1):
            run = f"{name}{seed}"
            runs.append({"name": run, "settings": {"x": name}, "seed": seed})
            folder = tmp_path / "runs" / run
            folder.mkdir(parents=True)
            lines = [json.dumps({"id": str(n), "right": bool(v), "label": 3}) for n, v in enumerate(values)]
            (folder / "results.jsonl").write_text("\n".join(lines) + "\n")
            write_json(folder / "result.json", {"loss": ord(name) - 97 + 0.5 * seed, "rows": [{"name": "r", "n": 4}]})
            end(tmp_path, run, "done")
    write_json(tmp_path / "plan.json", {"command": "ttt run", "runs": runs})
    found = report(tmp_path, ["right", "loss", "rows.r.n"])
    base, other, same = (row["measures"] for row in found["rows"])
    assert base["right"]["minus_base"] is None and other["rows.r.n"]["mean"] == 4
    assert other["right"]["minus_base"] == pytest.approx(0.15) and other["right"]["pairs"] == 40
    p = mcnemar_exact(right["b"], right["a"])
    assert other["right"]["p"] == p and other["right"]["p_holm"] == 2 * p  # two comparisons
    low, high = other["right"]["ci95"]
    assert 0 < low < 0.15 < high and same["right"]["p"] == 1
    assert other["loss"]["minus_base"] == 1 and other["loss"]["pairs"] == 2 and other["loss"]["ci95"] is None
    assert set(report(tmp_path)["rows"][0]["measures"]) == {"loss"}
    with pytest.raises(InputError, match="right"):
        report(tmp_path, ["rigth"])
    with pytest.raises(InputError, match="no sweep"):
        report(tmp_path / "runs")


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("states/a.json", '{"stat": "done", "error": ""}', "does not say what became of a run"),
        ("states/a.json", '{"status": "dune", "error": ""}', "does not say what became of a run"),
        ("states/a.json", '["done"]', "does not say what became of a run"),
        ("plan.json", '{"command": "ttt run", "runs": [{"name": "a", "settings": {}}]}', "is no plan of a sweep"),
        ("plan.json", '{"command": "ttt run", "runs": [{"name": "a", "settings": {}, "seed": "0"}]}', "is no plan"),
    ],
)
def test_a_damaged_sweep_is_said_by_its_file(call, tmp_path, file, text, says):
    (tmp_path / "states").mkdir()
    plan = {"command": "ttt run", "runs": [{"name": "a", "settings": {}, "seed": 0}]}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert call("sweep", "report", tmp_path, "--json")[0] == 0
    (tmp_path / file).write_text(text)
    code, _, error = call("sweep", "report", tmp_path)
    assert code == 2 and says in error and Path(file).name in error and one_error(error)


def test_the_program_is_found_in_any_process():
    import pickle

    assert pickle.loads(pickle.dumps(program)) is program
