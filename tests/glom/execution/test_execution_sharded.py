"""Columns over ranks: every rank ends with one process's answer and gradients; a rank that dies ends the job."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from glom.apm import APMConfig, AsynchronousPerceptionMachine, Percept
from glom.columns import grid_queries
from glom.errors import InputError, RunError
from glom.execution import choose, init_group, run, sync_gradients

SMALL = APMConfig(features=8, image_size=8, patch=2, cells=4, trunk=(9, 8), heads=2, rgb=(5,))
EVERYTHING = ("features", "rgb", "token")


def ragged(count: int) -> Tensor:
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(count), dtype=torch.float64)


def grid(height: int, width: int) -> Tensor:
    return grid_queries(height, width, dtype=torch.float64)


# (config, queries, outputs, chunk): grids that split evenly and not, both ways to pool, fewer locations than ranks.
CASES: list[tuple[APMConfig, Tensor, tuple[str, ...], int | None]] = [
    (SMALL, grid(4, 6), ("token",), None),
    (SMALL, grid(5, 7), EVERYTHING, None),
    (SMALL, grid(5, 7), EVERYTHING, 3),
    (SMALL, ragged(11), ("rgb", "token"), None),
    (replace(SMALL, rgb_relu=True), ragged(11), ("rgb", "token"), 3),
    (SMALL, ragged(11), ("token",), 2),
    (SMALL, ragged(1), EVERYTHING, None),
    (SMALL, ragged(1), ("token",), 4),
    (replace(SMALL, readout="mean", activation="gelu", local_patch=2), grid(3, 3), EVERYTHING, None),
    (replace(SMALL, readout="mean"), ragged(2), ("token",), None),
    (replace(SMALL, readout="location"), grid(4, 4), ("token",), None),
    (replace(SMALL, readout="location", trunk=(7,)), grid(4, 4), ("rgb", "token"), 5),
]


def loss_of(percept: Percept, outputs: tuple[str, ...]) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for i, name in enumerate(outputs):
        value: Tensor = getattr(percept, name)
        weights = torch.linspace(0.5, 1.5, value.numel(), dtype=torch.float64).view_as(value)
        total = total + ((value - 0.3 * (i + 1)) ** 2 * weights).mean()
    return total


def join(rank: int, ranks: int, folder: str, seconds: float = 60.0) -> dist.ProcessGroup:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", ranks)
    # The loopback address serves as the host's name everywhere.
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks, timeout=timedelta(seconds=seconds))
    group = init_group()
    assert group is dist.group.WORLD
    return group


def compare(rank: int, ranks: int, folder: str) -> None:
    """On every rank: sharded equals plain, outputs, parameters' gradients and the pictures'."""
    group = join(rank, ranks, folder)
    assert choose(AsynchronousPerceptionMachine(SMALL), 1, 16, group=group).execution == "sharded"
    for config, queries, outputs, chunk in CASES:
        apm = AsynchronousPerceptionMachine(config).double()
        apm.reset(torch.Generator().manual_seed(0), "default")
        g = torch.Generator().manual_seed(1)
        images = torch.randn(2, 3, 8, 8, generator=g, dtype=torch.float64).requires_grad_()
        leaves = {**dict(apm.named_parameters()), "images": images}
        plain = run(apm, images, queries, outputs, "plain")
        loss_of(plain, outputs).backward()
        expected = {name: None if x.grad is None else x.grad.clone() for name, x in leaves.items()}
        for leaf in leaves.values():
            leaf.grad = None
        found = run(apm, images, queries, outputs, "sharded", chunk=chunk, group=group)
        loss_of(found, outputs).backward()
        sync_gradients(apm, group, [images])
        for name in outputs:
            a, b = getattr(plain, name), getattr(found, name)
            assert a.shape == b.shape, name
            assert (a - b).norm() <= 1e-10 * (a.norm() + 1e-6), name
        size = max(float(x.norm()) for x in expected.values() if x is not None)
        for name, leaf in leaves.items():
            a_, b_ = expected[name], leaf.grad
            assert (a_ is None) == (b_ is None), name
            if a_ is not None and b_ is not None:
                assert (a_ - b_).norm() <= 1e-10 * (a_.norm() + 1e-3 * size), (name, outputs, chunk)
    dist.destroy_process_group()


def die(rank: int, ranks: int, folder: str) -> None:
    """Rank 1 leaves after one iteration; rank 0 writes down what it is told, and when."""
    group = join(rank, ranks, folder, seconds=20.0)
    apm = AsynchronousPerceptionMachine(SMALL).double()
    apm.reset(torch.Generator().manual_seed(0), "default")
    images = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    run(apm, images, execution="sharded", group=group)
    if rank == 1:
        os._exit(0)
    try:
        for _ in range(3):
            run(apm, images, execution="sharded", group=group)
    except RunError as error:
        Path(folder, "said").write_text(str(error))
    os._exit(0)


@pytest.mark.parametrize("ranks", [2, 3])
def test_sharded_equals_one_process(ranks: int, tmp_path: Path) -> None:
    mp.spawn(compare, (ranks, str(tmp_path)), nprocs=ranks)  # type: ignore[no-untyped-call]


def test_a_rank_that_dies_ends_the_job_with_a_message(tmp_path: Path) -> None:
    mp.spawn(die, (2, str(tmp_path)), nprocs=2)  # type: ignore[no-untyped-call]
    said = (tmp_path / "said").read_text()
    assert said.startswith("rank 0: another rank died or did not answer while merging")
    assert "\n" not in said


def test_init_group_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="started by torchrun; the environment lacks RANK"):
        init_group("gloo")
    with pytest.raises(InputError, match="unknown backend 'glo'; did you mean gloo"):
        init_group("glo")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="nccl needs a CUDA GPU"):
        init_group("nccl")


def test_init_group_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29531"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RunError, match="rank 1: another rank died or did not answer while joining"):
        init_group("gloo", timeout=1.0)
