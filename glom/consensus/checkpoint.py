"""A GLOM on disk: tensors alone, and what is needed to build it beside them.

DIR/glom.safetensors   weights; its metadata holds the format, the settings, the objective and the step
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from glom.consensus.columns import Columns
from glom.consensus.config import GlomConfig
from glom.consensus.ellipses import EllipseGlom
from glom.consensus.model import Glom
from glom.datasets.ellipse_settings import EllipseSettings
from glom.errors import InputError
from glom.runs.saving import save_tensors
from glom.runs.seeds import fixed_seed
from glom.weights import check_finite, check_state

FORMAT = 1
WEIGHTS = "glom.safetensors"


def save_glom(folder: Path, glom: Columns, facts: Mapping[str, Any]) -> Path:
    """Write the weights with their settings and `facts` (plain values); the old file stays until the new one is whole.

    Raises:
        InputError: weights that are not finite; nothing is written.
        RunError: the disk is full or the file cannot be written.
    """
    path = folder / WEIGHTS
    state = glom.state_dict()
    check_finite(state, path)
    about = {"format": str(FORMAT), "config": json.dumps(glom.config.as_dict()), "facts": json.dumps(dict(facts))}
    save_tensors(path, state, about)
    return path


def load_glom(folder: str | Path) -> tuple[Glom, dict[str, Any]]:
    """A GLOM trained on pictures, on the CPU and ready to look, and its facts.

    Args:
        folder: the run folder of a training, or the `.safetensors` file itself.

    Raises:
        InputError: nothing there, no GLOM, another format or version, damaged weights, or one that sees ellipses.
    """
    glom, facts = load_columns(folder)
    if not isinstance(glom, Glom):
        raise InputError(
            f"{folder} was trained in the world of ellipses and sees no pictures; `apm glom score` takes it"
        )
    return glom, facts


def load_columns(folder: str | Path) -> tuple[Glom | EllipseGlom, dict[str, Any]]:
    """The same, whichever world it was trained in: the facts of one trained on ellipses hold their settings."""
    path = Path(folder)
    path = path / WEIGHTS if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"{folder} holds no trained GLOM (no {WEIGHTS}); give the folder that `apm glom train` wrote")
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
        state = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is not a safetensors file, or is truncated") from error
    if "config" not in about or not about.get("format", "").isdigit():
        raise InputError(f"{path} holds no GLOM: its settings are missing")
    if int(about["format"]) != FORMAT:
        raise InputError(f"{path} has format {about['format']}, this version reads format {FORMAT}; train it again")
    try:
        config, facts = json.loads(about["config"]), json.loads(about.get("facts", "{}"))
    except ValueError as error:
        raise InputError(f"{path} holds no GLOM: its settings cannot be read") from error
    with fixed_seed():
        glom = _built(GlomConfig.from_dict(config), facts, path)
    check_state(glom, state, path)
    glom.load_state_dict(state)
    return glom.eval(), facts


def _built(config: GlomConfig, facts: Mapping[str, Any], path: Path) -> Glom | EllipseGlom:
    if "ellipses" not in facts:
        return Glom(config)
    try:
        return EllipseGlom(config, EllipseSettings(**facts["ellipses"]))
    except TypeError as error:
        raise InputError(f"{path} holds no GLOM: these are no settings of ellipses: {error}") from error
