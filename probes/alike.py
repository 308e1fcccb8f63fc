"""How alike two pictures are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.floating[Any]]


def psnr(found: Picture, truth: Picture) -> float:
    """Peak signal-to-noise ratio in dB: 10 log10 of 1 over the mean squared error of all pixels and channels.

    Args:
        found: colours of any shape, as they would be shown: what lies outside [0, 1] is clipped.
        truth: the same shape, in [0, 1].

    Returns:
        At most 120, which equal pictures have.

    Example:
        >>> round(psnr(np.full((2, 2, 3), 1.5), np.full((2, 2, 3), 0.9)), 6)
        20.0
    """
    error = float(np.mean((np.clip(found, 0, 1) - truth) ** 2, dtype=np.float64))
    return float(-10 * np.log10(max(error, 1e-12)))


def ssim(found: Picture, truth: Picture) -> float | None:
    """Structural similarity (Wang et al. 2004, scikit-image's, 7 x 7 windows) of two (h, w, 3) pictures in [0, 1].

    Smaller pictures get a smaller window; None below 3 pixels a side.
    """
    from skimage.metrics import structural_similarity

    window = min(7, *found.shape[:2])
    window -= 1 - window % 2
    if window < 3:
        return None
    return float(structural_similarity(truth, found, channel_axis=2, data_range=1.0, win_size=window))
