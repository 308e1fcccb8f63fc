"""The program as ranks that cost no start: forks of one process, which has everything loaded."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.forked import fork, program

ROOT = Path(__file__).parents[1]
LOADED = (
    "cli", "torch.distributed", "experiments.adaptation.run", "experiments.comparison.run", "experiments.islands.score",
    "experiments.pretraining.train", "commands.ttt", "commands.benchmark", "commands.grid", "commands.islands",
    "commands.teachers", "glom.teachers.tiny",
)  # fmt: skip


class ForkedRanks:
    """`ranks(2, "ttt", "run", ...)` is the program as two ranks on this machine."""

    def __init__(self, place: Path) -> None:
        self.place, self.number = place, 0
        self.server: subprocess.Popen[str] | None = None

    def __call__(
        self, world: int, *arguments: object, first: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """What they came to, as `subprocess.run` tells it: the worst exit code, the first rank's output, every error.

        Args:
            world: how many; 1: none but this process, without a group.
            first: code that each of them runs before.
        """
        if self.server is None:
            env = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
            words = [sys.executable, "-m", "tests.helpers_ranks"]
            pipe = subprocess.PIPE
            self.server = subprocess.Popen(words, cwd=ROOT, env=env, stdin=pipe, stdout=pipe, text=True)
        self.number += 1
        place = self.place / str(self.number)
        place.mkdir(parents=True)
        words = [str(word) for word in arguments]
        request = {"place": str(place), "world": world, "words": words, "first": first}
        assert self.server.stdin is not None and self.server.stdout is not None
        print(json.dumps(request | {"environment": environment}), file=self.server.stdin, flush=True)
        codes = json.loads(self.server.stdout.readline())
        said = [(place / f"{rank}.err").read_text() for rank in range(world)]
        worst = next((code for code in codes if code), 0)
        return subprocess.CompletedProcess(words, worst, (place / "0.out").read_text(), "".join(said))

    def close(self) -> None:
        """End the process that they are forked from."""
        if self.server is not None and self.server.stdin is not None:
            self.server.stdin.close()
            self.server.wait(10)


def ended(request: dict[str, Any], seconds: float = 120.0) -> list[int]:
    """Fork the ranks; the exit code of each, 124 for one that did not end in time."""
    place, world = Path(request["place"]), request["world"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def call(rank: int) -> int:
        out = os.open(place / f"{rank}.out", os.O_WRONLY | os.O_CREAT)
        os.dup2(out, 1)
        exec(request["first"], {})
        return program(request["words"])()

    forks = []
    for rank in range(world):
        group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
        own = {name: str(value) for name, value in group.items()}
        own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
        environment = {**(own if world > 1 else {}), **request["environment"]}
        forks.append(fork(lambda rank=rank: call(rank), place / f"{rank}.err", environment))
    codes = []
    for one in forks:
        found = one.wait(seconds)
        if found is None:
            one.kill()
        codes.append(124 if found is None else found[0])
    return codes


def serve() -> None:
    """Answer requests, a line each, until there are no more."""
    import torch

    torch.set_num_threads(1)
    for name in LOADED:
        import_module(name)
    for line in sys.stdin:
        print(json.dumps(ended(json.loads(line))), flush=True)


if __name__ == "__main__":
    serve()
