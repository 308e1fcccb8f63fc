"""Outlines in files: (annotators, H, W) label maps from BSDS500's `.mat` or `.npz`, (H, W) from a mask picture."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glom.datasets.labels import whole_array
from glom.datasets.reading import array_trouble, one_line, read_stored
from glom.errors import InputError

Maps = NDArray[np.int64]


def read_npz(path: Path) -> Maps:
    """`segmentations` (annotators, H, W) of integers. Raises `InputError` for anything else."""
    where = one_line(path.name)
    try:
        with np.load(path, allow_pickle=False) as archive:
            maps = archive["segmentations"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{where}: holds no readable array segmentations ({array_trouble(error)})") from error
    whole = whole_array(maps)
    if maps.ndim != 3 or not maps.size or whole is None:
        raise InputError(f"{where}: segmentations must be (annotators, H, W) integers, got {maps.dtype} {maps.shape}")
    return whole.astype(np.int64)


def read_mat(path: Path) -> Maps:
    """BSDS500's own files: a cell `groundTruth` of structs with `Segmentation` (H, W), one an annotator.

    Raises:
        InputError: anything else.
    """
    from scipy.io import loadmat

    where = one_line(path.name)
    # Readers of Matlab's files raise nearly anything on damaged bytes.
    try:
        cells = loadmat(path)["groundTruth"].ravel()
        maps = np.stack([np.asarray(cell["Segmentation"].ravel()[0]) for cell in cells])
    except Exception as error:
        raise InputError(f"{where}: holds no readable cell `groundTruth` ({one_line(error)[:80]})") from error
    whole = whole_array(maps)
    if maps.ndim != 3 or not maps.size or whole is None:
        raise InputError(f"{where}: each Segmentation must be (H, W) integers, got {maps.dtype} {maps.shape}")
    return whole.astype(np.int64)


def read_mask(path: Path) -> Maps:
    """A mask picture -> (H, W) labels: palette indices, grey values, or in colour one label a colour, black being 0.

    Raises:
        InputError: it cannot be read.
    """
    image = read_stored(path)
    if image.mode in ("1", "L", "P") or image.mode.startswith("I"):
        return np.asarray(image).astype(np.int64)
    colours = np.asarray(image.convert("RGB")).astype(np.int64)
    return colours[..., 0] * 65536 + colours[..., 1] * 256 + colours[..., 2]
