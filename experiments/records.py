"""Where the recorded results are: `benchmarks/results`, in a clone and in an installed package alike."""

from __future__ import annotations

from pathlib import Path

from glom.errors import InputError

ROOT = Path(__file__).resolve().parents[1]  # the clone, or site-packages
RECORDS = ROOT / "benchmarks" / "results"


def records_folder(asked: str = "") -> Path:
    """The folder asked for, or the one that ships. Raises `InputError` where there is none."""
    folder = Path(asked) if asked else RECORDS
    if not folder.is_dir():
        hint = "name the folder that holds result files with --results"
        raise InputError(f"{folder} is not a folder; {hint} (the project's repository has them in benchmarks/results)")
    return folder
