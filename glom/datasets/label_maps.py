"""Outlines in files: (annotators, H, W) label maps from BSDS500's `.mat` or `.npz`, (H, W) from a mask picture."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glom.datasets.labels import whole_array
from glom.datasets.reading import array_trouble, one_line, read_stored
from glom.errors import InputError

Maps = NDArray[np.int64]
VOID = -1  # what nobody labelled


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

    Of indexed colour 255 is void, as PASCAL VOC has it.

    Raises:
        InputError: it cannot be read.
    """
    image = read_stored(path)
    if image.mode in ("1", "L", "P") or image.mode.startswith("I"):
        labels = np.asarray(image).astype(np.int64)
        return np.where(labels == 255, VOID, labels) if image.mode == "P" else labels
    return _numbers(image, (65536, 256, 1))


def read_ids(path: Path) -> Maps:
    """Panoptic ids as COCO codes them, red + 256 green + 65536 blue: (H, W). Raises `InputError` for another mask."""
    image = read_stored(path)
    if image.mode not in ("RGB", "RGBA"):
        raise InputError(f"{one_line(path.name)}: panoptic ids are coded in red, green and blue; this is {image.mode}")
    return _numbers(image, (1, 256, 65536))


def _numbers(image: Image.Image, weights: tuple[int, int, int]) -> Maps:
    return np.asarray(image.convert("RGB")).astype(np.int64) @ np.array(weights, np.int64)
