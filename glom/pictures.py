"""Pictures however they are at hand - a path, a file's bytes, a PIL picture, an array, a tensor - as RGB pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from glom.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import Tensor

Picture: TypeAlias = Union[str, Path, bytes, "Image", "NDArray[np.generic]", "Tensor"]

SHAPES = "(H, W), (H, W, 1), (H, W, 3), (H, W, 4), (3, H, W) or (1, H, W)"


def as_image(picture: Picture) -> Image:
    """One picture as upright 8-bit RGB.

    Args:
        picture: a path or a file's bytes (see `glom.datasets.reading.read_image`); a PIL picture of any mode, its EXIF
            rotation applied and transparency laid over white; an array or tensor of shape (H, W), (H, W, 1 | 3 | 4),
            (1 | 3, H, W), either whole numbers 0 to 255 or floats in [0, 1]. An array that could be read both ways,
            such as (3, 5, 3), is read with channels last, as PIL and NumPy lay pictures out.

    Returns:
        a PIL picture of mode "RGB".

    Raises:
        InputError: a file that cannot be read, another shape, no pixels at all, numbers outside the range, or anything
            that is no picture.

    Example:
        >>> import numpy as np
        >>> as_image(np.zeros((2, 5), np.uint8)).size
        (5, 2)
    """
    from PIL import Image

    from glom.datasets.reading import read_image, to_rgb, upright

    if isinstance(picture, str | Path | bytes):
        return read_image(picture)
    if isinstance(picture, Image.Image):
        if min(picture.size) < 1:
            raise InputError(f"the picture is {picture.width}x{picture.height} pixels; there is nothing to read")
        return to_rgb(upright(picture))
    return Image.fromarray(_pixels(picture))


def as_images(pictures: Picture | Sequence[Picture]) -> list[Image]:
    """Several pictures: a list or tuple of what `as_image` takes, a batch (B, 3, H, W) or (B, H, W, 3), or just one.

    Raises:
        InputError: as `as_image`, the picture's place in the list named; or an empty list.
    """
    if getattr(pictures, "ndim", 0) == 4:
        pictures = list(pictures)  # type: ignore[arg-type]
    if not isinstance(pictures, list | tuple):
        return [as_image(pictures)]  # type: ignore[arg-type]
    if not pictures:
        raise InputError("no pictures: give at least one")
    found = []
    for number, picture in enumerate(pictures):
        try:
            found.append(as_image(picture))
        except InputError as error:
            named = isinstance(picture, str | Path)
            raise error if named or len(pictures) == 1 else InputError(f"picture {number}: {error}") from None
    return found


def normalised(image: Image, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(x / 255 - mean) / std of an RGB picture, (3, H, W) in float32, on the CPU.

    Looked up, since a byte has 256 values: three passes of arithmetic take twice as long and give the same numbers.
    """
    import numpy as np
    import torch

    grey = torch.arange(256, dtype=torch.float32) / 255
    values = ((grey - torch.tensor(mean)[:, None]) / torch.tensor(std)[:, None]).numpy()
    pixels = np.asarray(image)
    made = np.empty((3, *pixels.shape[:2]), np.float32)
    for channel in range(3):
        np.take(values[channel], pixels[..., channel], out=made[channel], mode="clip")  # "raise" would copy first
    return torch.from_numpy(made)


def _pixels(picture: object) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of an array or tensor."""
    import numpy as np

    if hasattr(picture, "detach"):
        picture = picture.detach().cpu().float().numpy() if picture.is_floating_point() else picture.cpu().numpy()  # type: ignore[attr-defined]
    values = np.asarray(picture)
    if values.dtype.kind not in "uifb":
        raise InputError(f"a picture is a path, a PIL picture, an array or a tensor, not {type(picture).__name__}")
    if not values.size:
        raise InputError(f"the picture has shape {tuple(values.shape)}: there are no pixels in it")
    if values.ndim == 2:
        values = values[..., None]
    elif values.ndim == 3 and values.shape[-1] not in (1, 3, 4) and values.shape[0] in (1, 3):
        values = np.moveaxis(values, 0, -1)
    if values.ndim != 3 or values.shape[-1] not in (1, 3, 4):
        raise InputError(f"a picture of shape {tuple(values.shape)} cannot be read; give {SHAPES}")
    if values.dtype.kind == "b":
        values = values.astype(np.float32)
    top = 1 if values.dtype.kind == "f" else 255
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= top):  # NaN is neither
        advice = "divide by 255, or give uint8" if top == 1 and low >= 0 else "scale it, or undo its normalisation"
        raise InputError(
            f"a picture of {'floats lies in [0, 1]' if top == 1 else 'whole numbers lies in 0 to 255'}, this one in "
            f"[{float(low):g}, {float(high):g}]; {advice}"
        )
    if top == 1:
        values = values * 255.0
    colours = values[..., :3].astype(np.float64)
    if values.shape[-1] == 4:  # over white, as files are
        opaque = values[..., 3:].astype(np.float64) / 255
        colours = colours * opaque + 255 * (1 - opaque)
    if colours.shape[-1] == 1:
        colours = colours.repeat(3, axis=-1)
    return np.ascontiguousarray(colours.round().astype(np.uint8))
