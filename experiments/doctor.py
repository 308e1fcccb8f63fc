"""What can be used on this machine, found by trying it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from glom.runs.events import Event


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, what was found, whether it works, and what to do if not."""

    name: str
    found: str
    ok: bool
    hint: str = ""


def examine() -> Iterator[Event[list[Check]]]:
    """Every check, in the order a person wants them. Never raises and never goes to the network."""
    checks: list[Check] = []
    parts = {"packages": _software, "hardware": _hardware, "teachers": _teachers, "corruptions": _corruptions}
    for done, (what, part) in enumerate(parts.items()):
        yield Event("examining", done, len(parts), values={"": what})
        checks += part()
    yield Event("examining", len(parts), len(parts), values={"": "disk"}, result=[*checks, _disk()])


def _software() -> list[Check]:
    from glom.runs.artifacts import versions

    found = versions()
    python = f"{found.pop('python')} ({sys.prefix})"
    checks = [Check("python", python, sys.version_info >= (3, 11), "")]
    checks.append(Check("packages", ", ".join(f"{k} {v}" for k, v in found.items()), True))
    checks += [imported(name, Path.cwd()) for name in ("glom", "probes", "experiments", "commands")]
    try:
        with warnings.catch_warnings():  # it scripts functions on import, which PyTorch frowns on
            warnings.simplefilter("ignore")
            import_module("pytorchvideo.models")
        checks.append(Check("pytorchvideo", "its models import", True))
    except Exception as error:
        checks.append(Check("pytorchvideo", f"does not import: {error}", False, "pip install pytorchvideo"))
    return checks


def imported(name: str, folder: Path) -> Check:
    """Where a package of this project is imported from, and whether one in `folder` would hide it there."""
    root = Path(__file__).resolve().parents[1]
    spec = find_spec(name)
    places = [Path(place).resolve() for place in (spec.submodule_search_locations or ())] if spec else []
    where = next(iter(places), None)
    if where != root / name:
        other = "another package named glom (PyPI's nested-data tool)" if name == "glom" else f"another {name}"
        hint = f"{other} is in the way: use a virtual environment, or start elsewhere"
        return Check(f"import {name}", f"not this project's: {where}", False, hint)
    own = next((path for path in (folder / name, folder / f"{name}.py") if path.exists()), None)
    if own is not None and folder.resolve() != root:
        hint = f"Python and notebooks started in {folder} would import that one: rename it, or start elsewhere"
        return Check(f"import {name}", f"{where}; but {own} has the same name", False, hint)
    return Check(f"import {name}", str(where), True)


def _hardware() -> list[Check]:
    import psutil
    import torch

    from glom.runs.artifacts import machine

    found = machine()
    memory = psutil.virtual_memory()
    cpu = f"{found['processor']}, {found['cores']} cores, torch uses {found['threads']} threads"
    checks = [
        Check("processor", cpu, True),
        Check("memory", f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free", True),
    ]
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        checks.append(Check("gpu", ", ".join(names), True))
    elif torch.backends.mps.is_available():
        checks.append(Check("gpu", "Apple mps", True))
    else:
        checks.append(Check("gpu", "none", False, "everything runs on the processor; large teachers will be slow"))
    distributed = torch.distributed.is_available()
    checks.append(Check("torch.distributed", "available" if distributed else "not built in", distributed))
    return checks


def _teachers() -> list[Check]:
    from glom.errors import GlomError
    from glom.teachers.registry import SHIPPED, load_teacher

    checks = []
    for name in SHIPPED:
        try:
            teacher = load_teacher(name, "cpu")
            checks.append(Check(f"teacher {name}", f"loads; token of {teacher.width}", True))
        except GlomError as error:
            checks.append(Check(f"teacher {name}", "does not load", False, str(error)))
    cache = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")) / "hub"
    models = sorted(p.name.removeprefix("models--").replace("--", "/") for p in cache.glob("models--*"))
    if models:
        checks.append(Check("downloaded models", ", ".join(models[:6]) + (" ..." if len(models) > 6 else ""), True))
    else:
        hint = "open_clip:, hf: and timm: teachers download on first use, or take a local file: timm:NAME@FILE"
        checks.append(Check("downloaded models", "none", False, hint))
    return checks


def _corruptions() -> list[Check]:
    try:
        from PIL import Image

        from glom.datasets.corruptions import corrupt, parse_corruption

        corrupt(Image.new("RGB", (32, 32), (90, 120, 60)), parse_corruption("fog:1@imagenet-c"), seed=0)
        return [Check("corruptions", "the 15 of ImageNet-C, Tiny ImageNet-C and CIFAR-10-C", True)]
    except Exception as error:
        return [Check("corruptions", f"do not work: {error}", False, "pip install imagecorruptions-imaug")]


def _disk() -> Check:
    free = shutil.disk_usage(tempfile.gettempdir()).free / 2**30
    return Check("disk", f"{free:.1f} GiB free for temporary files", free > 1, "" if free > 1 else "runs may not fit")
