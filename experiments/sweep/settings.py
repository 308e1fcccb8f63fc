"""What a sweep is asked for, and what Slurm is."""

from __future__ import annotations

from dataclasses import dataclass

from glom.settings import Settings, setting

EXECUTORS = ("local", "slurm", "debug")


@dataclass(frozen=True, kw_only=True)
class SweepSettings(Settings):
    """Where a sweep's runs are made. None of it changes a result."""

    file: str = setting(help="A sweep file; see docs/sweeps.md.", argument=True, metavar="FILE.toml")
    executor: str = setting("local", "Processes here, Slurm's queue, or this very process.", choices=EXECUTORS)
    jobs: int = setting(1, "Runs at a time.", least=1)


@dataclass(frozen=True, kw_only=True)
class SlurmSettings(Settings):
    """The table `slurm` of a sweep file: what every run asks the queue for, by the names of sbatch's options."""

    partition: str | None = setting(None, "Where the job runs.")
    time: int = setting(60, "Minutes until a job is put back into the queue, to go on from where it was.", least=1)
    requeues: int = setting(8, "Time-outs after which it is not put back again.", least=0)
    cpus_per_task: int | None = setting(None, "Cores.", least=1)
    gpus_per_node: int | None = setting(None, "GPUs.", least=1)
    mem: str | None = setting(None, "Memory, as 16GB.")
    account: str | None = setting(None, "Who pays.")
    qos: str | None = setting(None, "Quality of service.")
    constraint: str | None = setting(None, "What a node must have.")
    exclude: str | None = setting(None, "Nodes to pass over.")
    nodelist: str | None = setting(None, "Nodes to take.")
    gres: str | None = setting(None, "Generic resources, as gpu:1.")
    dependency: str | None = setting(None, "What has to come before.")
    comment: str | None = setting(None, "For the queue's list.")
    signal_delay_s: int = setting(90, "Seconds between the warning and the end.", least=1)
    setup: tuple[str, ...] = setting((), "Lines of shell before each job.")
