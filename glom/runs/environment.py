"""What a run was made with: the command, the versions of what it depends on, the machine."""

from __future__ import annotations

import os
import platform
import re
import shlex
import sys
from pathlib import Path
from typing import Any


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results may depend on."""
    from importlib.metadata import PackageNotFoundError, version

    names = ("glom-apm", "torch", "torchvision", "open_clip_torch", "timm", "transformers", "numpy", "pillow")
    found = {"python": platform.python_version()}
    for name in (*names, "imagecorruptions-imaug"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Processor, threads and accelerator, as figures should state them."""
    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    found: dict[str, Any] = {"processor": model, "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name(0)
    return found


def command_line() -> str:
    """The command that repeats this run, as a person would type it."""
    program = Path(sys.argv[0]).name
    if program.endswith(".py") or program == "__main__.py":
        return "python " + shlex.join([program, *sys.argv[1:]])
    return shlex.join([program, *sys.argv[1:]])


def public_command(command: str | None = None) -> str:
    """`command_line`, or another command, for records that leave the machine: see `public_name`."""
    return shlex.join(public_name(word) for word in shlex.split(command or command_line()))


def public_name(word: str) -> str:
    """An argument whose files and folders go by their last names: "dtd:/a/b,mnist:/a" becomes "dtd:b,mnist:a"."""
    if "://" in word:
        return word
    parts = re.split(r"([,:=]|@(?=/))", word)
    return "".join(Path(part).name if Path(part).is_absolute() else part for part in parts)
