"""Safe image reading: any ordinary picture file becomes an upright 8-bit RGB picture, anything else one clear error."""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from glom.errors import InputError

MAX_PIXELS = 64_000_000
RAISED = "APM_MAX_PIXELS"  # the environment variable that sets another limit
WHITE = (255, 255, 255)

# Raster formats decoded inside Pillow; EPS is left out because Pillow hands it to an external interpreter.
FORMATS = ("JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
ENDINGS = "jpg jpeg jpe jfif png gif bmp dib tif tiff webp ppm pgm pbm pnm jp2 avif"
SUFFIXES = frozenset(f".{ending}" for ending in ENDINGS.split())

# The side that JPEGs are decoded to at least; 0: as they are. See `reduced`.
_LEAST: ContextVar[int] = ContextVar("least", default=0)

# The warning filter is process-wide: only one thread at a time may exchange it.
_OPENING = threading.Lock()


def read_image(
    source: str | Path | bytes,
    max_pixels: int | None = None,
    background: tuple[int, int, int] = WHITE,
    name: str = "image data",
) -> Image.Image:
    """Read one picture as upright 8-bit RGB.

    The EXIF rotation is applied; the first frame is taken of animations. Transparency (alpha channels, transparent
    palette entries and key colours) is composited over `background`. CMYK is converted without a colour profile.
    Deeper greyscale is scaled, never clipped: 16-bit by 255/65535; 32-bit integers as 16-bit where they fit in its
    range, otherwise from their own lowest..highest; floats from [0, 1], else from [0, 255] where they fit, otherwise
    from their own lowest..highest. Of a PNG that Pillow refuses for its words,
    its colour profile or other chunks that are no part of the picture (over 1 MB, or with a wrong checksum), what the
    pixels and an EXIF rotation need is read.

    Args:
        source: a path, or the file's bytes.
        max_pixels: width times height above which the file is refused from its header, before any decoding; None for
            `pixel_limit()`. Pillow's own limit is lifted as far.
        background: (R, G, B) in 0-255.
        name: what to call `source` in errors where it is bytes.

    Returns:
        A picture of mode "RGB".

    Raises:
        InputError: missing, a folder, empty, truncated, not an image, too large, or not convertible to RGB.

    Example:
        >>> data = io.BytesIO()
        >>> Image.new("L", (2, 1), 128).save(data, "PNG")
        >>> read_image(data.getvalue()).getpixel((0, 0))
        (128, 128, 128)
    """
    return _from(source, max_pixels, name, lambda image: to_rgb(upright(image), background))


@contextmanager
def reduced(least: int) -> Iterator[None]:
    """JPEGs that are read inside this are decoded at 1/2, 1/4 or 1/8 where both sides stay at least `least` pixels.

    The decoder leaves the fine frequencies out (Pillow's `draft`), which is several times as quick for a large
    photograph; pixels then differ slightly from those of the whole one resized. 0: nothing is.
    """
    before = _LEAST.set(least)
    try:
        yield
    finally:
        _LEAST.reset(before)


def read_stored(path: Path, max_pixels: int | None = None) -> Image.Image:
    """A picture as it is stored, neither turned nor converted: for masks, whose values mean something.

    Raises:
        InputError: as `read_image`.
    """
    return _from(path, max_pixels, "", Image.Image.copy)


def pixel_limit() -> int:
    """The most pixels a picture may have: `MAX_PIXELS`, or what the environment variable APM_MAX_PIXELS says.

    Raises:
        InputError: the variable holds no whole number of at least 1.
    """
    said = os.environ.get(RAISED, "").replace("_", "")
    if said and not (said.isascii() and said.isdecimal() and int(said)):
        raise InputError(f"{RAISED} must be a number of pixels, at least 1, got '{one_line(said)}'")
    return int(said or MAX_PIXELS)


def too_large(where: str, pixels: str, limit: int) -> InputError:
    """The error of a picture above the limit, with the way to raise it."""
    return InputError(
        f"{where}: {pixels} pixels is more than the limit of {limit:,}; refused before decoding ({RAISED}=N raises it)"
    )


def _from(
    source: str | Path | bytes, max_pixels: int | None, name: str, finish: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    limit = pixel_limit() if max_pixels is None else max_pixels
    if isinstance(source, bytes):
        if not source:
            raise InputError(f"{name}: the file is empty (0 bytes)")
        return _read(io.BytesIO(source), name, limit, finish)
    path = Path(source)
    check_file(path)
    where = one_line(path)
    try:
        with path.open("rb") as file:
            return _read(file, where, limit, finish)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise InputError(f"{where}: cannot be read ({reason})") from error


def check_file(path: Path) -> None:
    """See that a picture's file is there, without opening it. Raises `InputError`: missing, a folder, empty."""
    where = one_line(path)
    try:
        found = path.stat()
    except FileNotFoundError:
        raise InputError(f"{where}: no such file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise InputError(f"{where}: cannot be read ({reason})") from error
    if stat.S_ISDIR(found.st_mode):
        raise InputError(f"{where}: a folder, not an image file")
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{where}: not a regular file")
    if found.st_size == 0:
        raise InputError(f"{where}: the file is empty (0 bytes)")


def one_line(text: object) -> str:
    """`text` without line breaks or other control characters, so that an error stays one line."""
    return re.sub(r"[\x00-\x1f\x7f]+", " ", str(text)).strip()


def array_trouble(error: Exception) -> str:
    """Why numpy could not load an array, in one line. Its advice to unpickle the file is left out: nothing here is.

    Example:
        >>> array_trouble(ValueError("Object arrays cannot be loaded when allow_pickle=False"))
        'damaged, or not an array of numbers'
    """
    said = one_line(error)
    return "damaged, or not an array of numbers" if "pickle" in said else said[:120]


def _read(file: IO[bytes], where: str, limit: int, finish: Callable[[Image.Image], Image.Image]) -> Image.Image:
    try:
        return _decoded(file, where, limit, finish)
    except InputError as error:
        bare = _bare_png(file)
        if bare is None:
            raise
        try:
            return _decoded(io.BytesIO(bare), where, limit, finish)
        except InputError:
            raise error from None


def _bare_png(file: IO[bytes]) -> bytes | None:
    """A PNG without what is no part of the picture: chunks that a decoder needs stay, transparency and EXIF where their
    checksums hold. None for other files, or where nothing is left out. (PNG, third edition, sections 5 and 11.)
    """
    file.seek(0)
    start = file.read(8)
    if start != b"\x89PNG\r\n\x1a\n":
        return None
    rest, kept, place = file.read(), [start], 0
    while place + 12 <= len(rest):
        length, kind = struct.unpack_from(">I4s", rest, place)
        end = place + 12 + length
        needed = not kind[0] & 32  # upper case: critical
        if not needed and kind in (b"tRNS", b"eXIf"):
            needed = rest[end - 4 : end] == zlib.crc32(rest[place + 4 : end - 4]).to_bytes(4, "big")
        if needed:
            kept.append(rest[place:end])
        place = end
    bare = b"".join([*kept, rest[place:]])
    return bare if len(bare) < len(start) + len(rest) else None


def _decoded(file: IO[bytes], where: str, limit: int, finish: Callable[[Image.Image], Image.Image]) -> Image.Image:
    image = _open(file, where, limit)
    with image:
        width, height = image.size
        if width < 1 or height < 1:
            raise InputError(f"{where}: the picture is {width}x{height} pixels; there is nothing to read")
        if width * height > limit:
            raise too_large(where, f"{width}x{height}", limit)
        # Decoders raise nearly anything on hostile bytes, so every kind becomes the one error a run records.
        try:
            if (least := _LEAST.get()) and image.format == "JPEG":
                image.draft(image.mode, (least, least))
            image.load()
        except Exception as error:
            raise InputError(f"{where}: damaged or truncated ({one_line(error) or type(error).__name__})") from error
        try:
            return finish(image)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        except Exception as error:
            raise InputError(f"{where}: mode {image.mode} cannot be turned into RGB ({one_line(error)})") from error


def _open(file: IO[bytes], where: str, limit: int) -> Image.Image:
    """Read the header alone."""
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    try:
        # What Pillow would warn of, a large picture or damaged metadata, is refused or passed over by the rules here.
        with _OPENING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if Image.MAX_IMAGE_PIXELS is not None and limit > Image.MAX_IMAGE_PIXELS:
                Image.MAX_IMAGE_PIXELS = limit  # for good: Pillow asks again where a part is cut out
            return Image.open(file, formats=formats)
    except UnidentifiedImageError:
        raise InputError(f"{where}: not an image in a format that can be read ({', '.join(formats)})") from None
    except Image.DecompressionBombError as error:
        count = re.search(r"\((\d+) pixels\)", str(error))
        pixels = f"{int(count[1]):,}" if count else "too many"
        raise too_large(where, pixels, limit) from None
    except Exception as error:
        raise InputError(f"{where}: damaged header ({one_line(error) or type(error).__name__})") from error


def upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        # Damaged metadata does not make the pixels unreadable; without a valid rotation there is none to apply.
        return image


def to_rgb(image: Image.Image, background: tuple[int, int, int] = WHITE) -> Image.Image:
    """A decoded picture of any Pillow mode -> mode "RGB", by the rules of `read_image`.

    Raises:
        InputError: a float picture with NaN or infinite pixels.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return _wide_to_rgb(image, background)
    if image.has_transparency_data or image.mode in ("La", "RGBa"):
        if image.mode == "La":
            image = image.convert("LA")
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (*background, 255)), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _wide_to_rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Greyscale of more than 8 bits ("I;16*", "I", "F") -> RGB."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError("the picture has NaN or infinite pixels")
    low, high = float(values.min()), float(values.max())
    if image.mode != "F" and low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    elif image.mode == "F" and low >= 0 and high <= 255:
        low, high = 0.0, 1.0 if high <= 1 else 255.0
    scaled = np.rint((values - low) * 255.0 / ((high - low) or 1.0)).astype(np.uint8)
    grey = np.repeat(scaled[..., None], 3, axis=-1)
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey[values == key] = background
    return Image.fromarray(grey, "RGB")
