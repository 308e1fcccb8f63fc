"""`apm bench reading`: pictures read and encoded, beside a plain loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.bench_common import OutFolder, Threads, figures_table, hand_out, measured, use_threads
from commands.common import Json, Quiet
from commands.options import options
from experiments.bench.reading_settings import ReadingBench

if TYPE_CHECKING:
    from glom.runs.events import Event


@options(ReadingBench)
def reading(
    settings: ReadingBench,
    out: OutFolder = None,
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Pictures a second: the network alone, a plain timm and torchvision loop, ours, ours with an adaptation each."""
    from experiments.adaptation.run import run
    from experiments.adaptation.settings import TTTRun
    from experiments.bench.reading import run_reading

    def adaptation(folder: Path) -> Iterator[Event[Any]]:
        s = settings
        request = TTTRun.of("exact", data=s.data, teacher=s.teacher, limit=s.limit, workers=s.workers, device=s.device)
        return run(request, folder)

    use_threads(threads)
    found = measured("reading", lambda tell: run_reading(settings, adaptation, tell), out, quiet)
    hand_out(found, out, as_json, quiet, _show)


def _show(value: Mapping[str, Any]) -> None:
    figures_table(
        dict(value),
        (
            ("model_alone", "pictures a second, the network alone", 1, ""),
            ("plain_loop", "a plain timm and torchvision loop", 1, ""),
            ("ours", "ours, the teacher alone", 1, ""),
            ("exact", "the same with ttt run --preset exact", 1, ""),
            ("ours_over_plain", "ours / plain, round by round", 3, f">= {value['wanted']}"),
            ("exact_over_ours", "exact / the teacher alone", 3, f">= {value['wanted_exact']}"),
        ),
    )
