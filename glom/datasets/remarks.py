"""What must be known about a data set wherever a number on it stands."""

from __future__ import annotations

from pathlib import Path

REMARKS = {
    "imagenet-sample": (
        "imagenet-sample is not a test set: efficientnet-lite0 has 75.1 % on ImageNet's validation split and 88.8 % on "
        "these 500 pictures, so that they are pictures it was trained on, or easy ones"
    )
}


def remark(spec: str) -> str:
    """The remark on a data set named by a folder or `NAME:ROOT`; "" where there is none.

    Example:
        >>> remark("cifar10-sample")
        ''
    """
    names = {Path(spec).name, spec.partition(":")[0]}
    return next((text for name, text in REMARKS.items() if name in names), "")
