"""Pictures one after another: a GIF by Pillow, or an MP4 by ffmpeg where there is one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glom.errors import InputError, RunError, unknown
from glom.runs.artifacts import disk_error

Frame = NDArray[np.uint8]
FORMATS = ("gif", "mp4")
LAST = 2.0  # seconds a GIF rests on its last frame before it begins again


def check_format(name: str) -> str:
    """`gif`, `mp4`, or a file name with such an ending -> the format; before hours of work, not after.

    Raises:
        InputError: another format, or one whose encoder is missing.
    """
    kind = name.rpartition(".")[2].lower()
    if kind not in FORMATS:
        raise unknown("film format", kind, FORMATS)
    if kind == "mp4":
        encoder()
    return kind


def encoder() -> str:
    """Where ffmpeg is: on the path, or in the package imageio-ffmpeg. Raises `InputError` where it is in neither."""
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise InputError(
            "a .mp4 needs ffmpeg, which is not here: pip install imageio-ffmpeg, or choose .gif"
        ) from error


def write_film(frames: Sequence[Frame], path: Path, fps: float = 4.0) -> Path:
    """Write frames as a film; the ending of `path` says which kind.

    Args:
        frames: (h, w, 3) uint8 each, all of one size.
        path: `.gif` (loops, resting on its last frame) or `.mp4` (H.264; odd sides gain a line of their last pixels).
        fps: frames a second.

    Raises:
        InputError: no frames, frames of several shapes, an fps out of (0, 100], a format or an encoder there is not.
        RunError: the file could not be written.
    """
    kind = check_format(path.name)
    if not len(frames):
        raise InputError("a film needs at least one frame")
    shapes = {np.asarray(f).shape for f in frames}
    [shape] = shapes if len(shapes) == 1 else [()]
    if len(shape) != 3 or shape[2] != 3 or any(np.asarray(f).dtype != np.uint8 for f in frames):
        raise InputError(f"frames must all be (h, w, 3) uint8 of one size, got {sorted(shapes)}")
    if not 0 < fps <= 100:
        raise InputError(f"a film has more than 0 and at most 100 frames a second, got {fps}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "gif":
            _write_gif(frames, path, fps)
        else:
            _write_mp4(frames, path, fps)
    except OSError as error:
        raise disk_error(error, path) from error
    return path


def colours_film(frames: Sequence[Frame], times: int, fps: float, path: Path) -> Path:
    """Small frames, (h, w, 3) uint8 each, as a film, every cell `times` pixels wide. Raises as `write_film`."""
    return write_film([frame.repeat(times, axis=0).repeat(times, axis=1) for frame in frames], path, fps)


def _write_gif(frames: Sequence[Frame], path: Path, fps: float) -> None:
    # One palette for all frames, fitted to pixels of all of them: a colour does not flicker from frame to frame.
    pixels = np.concatenate([np.asarray(f).reshape(-1, 3) for f in frames])
    some = pixels[:: max(1, len(pixels) // 250_000)]
    side = int(np.ceil(np.sqrt(len(some))))
    sheet = np.resize(some, (side, side, 3)).astype(np.uint8)
    palette = Image.fromarray(sheet).quantize(256, method=Image.Quantize.MEDIANCUT)
    pictures = [Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
    durations = [round(1000 / fps)] * (len(pictures) - 1) + [round(1000 * max(LAST, 1 / fps))]
    pictures[0].save(path, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0)


def _write_mp4(frames: Sequence[Frame], path: Path, fps: float) -> None:
    first = np.asarray(frames[0])
    pad = ((0, first.shape[0] % 2), (0, first.shape[1] % 2), (0, 0))
    height, width = first.shape[0] + pad[0][1], first.shape[1] + pad[1][1]
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:g}", "-i", "-"]
    target = ["-an", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "16", "-movflags", "+faststart", str(path)]
    raw = b"".join(np.pad(f, pad, mode="edge").tobytes() for f in frames)
    done = subprocess.run(
        [encoder(), "-y", "-loglevel", "error", *source, *target], input=raw, capture_output=True, check=False
    )
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise RunError(f"{path} could not be encoded by ffmpeg ({last}); choose .gif")
