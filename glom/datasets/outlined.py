"""One picture's outlines, where they lie beside it."""

from __future__ import annotations

from pathlib import Path

from glom.datasets.segmented import SegmentedPicture


def outlines_beside(path: Path) -> SegmentedPicture | None:
    """The picture with the outlines kept beside it: NAME.npz, NAME.png, or masks/NAME.png for images/NAME.jpg.

    Returns:
        None where there are none, and for a picture that is not there.

    Example:
        >>> outlines_beside(Path("nowhere/cat.jpg")) is None
        True
    """
    apart = path.parent.with_name("masks") / f"{path.stem}.png" if path.parent.name == "images" else path
    for truth, background in ((path.with_suffix(".npz"), None), (path.with_suffix(".png"), 0), (apart, 0)):
        if truth != path and truth.is_file():
            return SegmentedPicture(path.stem, path, truth, background)
    return None
