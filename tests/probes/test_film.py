"""Frames become films that play; what cannot is said in one line."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glom.errors import InputError, RunError
from probes.figures.emergence import film_frame, flat_colours
from probes.figures.film import check_format, encoder, write_film


def frames(count: int = 4, height: int = 21, width: int = 33) -> list[np.ndarray]:
    """A white square that walks over a colour ramp."""
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.linspace(0, 200, width).astype(np.uint8), 90
    made = []
    for i in range(count):
        frame = ramp.copy()
        frame[5:10, 4 * i : 4 * i + 5] = 255
        made.append(frame)
    return made


def fake_ffmpeg(folder: Path, monkeypatch, code: int = 0) -> Path:
    """A program called ffmpeg that writes down what it is told and given."""
    folder.mkdir()
    script = folder / "ffmpeg"
    body = (
        f"#!{sys.executable}\nimport sys\nraw = sys.stdin.buffer.read()\n"
        f"open(sys.argv[-1], 'w').write(' '.join(sys.argv[1:]) + ' bytes=' + str(len(raw)))\n"
        f"sys.stderr.write('something\\nno such encoder\\n')\nsys.exit({code})\n"
    )
    script.write_text(body)
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))
    return script


def test_gif_plays_every_frame_in_its_colours(tmp_path):
    made = frames()
    path = write_film(made, tmp_path / "new" / "a.gif", fps=5)
    with Image.open(path) as film:
        assert film.n_frames == 4 and film.size == (33, 21) and film.info["loop"] == 0
        durations = []
        for i, frame in enumerate(made):
            film.seek(i)
            durations.append(film.info["duration"])
            assert np.abs(np.asarray(film.convert("RGB")).astype(int) - frame).mean() < 3
    assert durations == [200, 200, 200, 2000]


def test_a_colour_does_not_flicker(tmp_path):
    """One palette for the film: what stands still is the same in every frame."""
    with Image.open(write_film(frames(), tmp_path / "a.gif")) as film:
        corners = []
        for i in range(film.n_frames):
            film.seek(i)
            corners.append(np.asarray(film.convert("RGB"))[15:])
    assert all(np.array_equal(corners[0], c) for c in corners[1:])


def test_one_frame_is_a_film(tmp_path):
    with Image.open(write_film(frames(1), tmp_path / "a.gif")) as film:
        assert film.n_frames == 1


def test_mp4_goes_to_ffmpeg_with_even_sides(tmp_path, monkeypatch):
    fake_ffmpeg(tmp_path / "bin", monkeypatch)
    told = write_film(frames(), tmp_path / "a.mp4", fps=12.5).read_text()
    assert "-s 34x22" in told and "-r 12.5" in told and f"bytes={4 * 34 * 22 * 3}" in told


def test_mp4_that_fails_says_what_ffmpeg_said(tmp_path, monkeypatch):
    fake_ffmpeg(tmp_path / "bin", monkeypatch, code=1)
    with pytest.raises(RunError, match="no such encoder"):
        write_film(frames(), tmp_path / "a.mp4")


def test_mp4_without_an_encoder(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    for call in (encoder, lambda: check_format("mp4"), lambda: write_film(frames(), tmp_path / "a.mp4")):
        with pytest.raises(InputError, match="pip install imageio-ffmpeg"):
            call()
    assert check_format("gif") == "gif"


@pytest.mark.parametrize(
    ("made", "name", "fps", "says"),
    [
        ([], "a.gif", 4, "at least one frame"),
        (frames(2) + frames(1, 9, 9), "a.gif", 4, "of one size"),
        ([np.zeros((4, 4), np.uint8)], "a.gif", 4, "h, w, 3"),
        ([np.zeros((4, 4, 3))], "a.gif", 4, "uint8"),
        (frames(), "a.avi", 4, "unknown film format 'avi'"),
        (frames(), "a.gif", 0, "frames a second"),
    ],
)
def test_wrong_films(tmp_path, made, name, fps, says):
    with pytest.raises(InputError, match=says):
        write_film(made, tmp_path / name, fps)
    assert not list(tmp_path.iterdir())


def test_a_frame_has_a_panel_for_each_layer():
    image = np.zeros((8, 8, 3), np.uint8)
    red = np.tile(np.uint8([255, 0, 0]), (4, 4, 1))
    one, two = film_frame(image, [("a", red)], "step 1"), film_frame(image, [("a", red), ("b", red)], "step 1")
    assert one.shape[0] == two.shape[0] and two.shape[1] > one.shape[1] and one.dtype == np.uint8
    assert (one == (255, 0, 0)).all(-1).sum() == 144 * 144


def test_islands_take_the_mean_colour_of_their_places():
    colours = np.float32([[[0, 0, 0], [1, 1, 1]], [[0.5, 0, 0], [0.5, 0, 0]]])
    flat = flat_colours(np.array([[0, 0], [1, 1]]), colours)
    assert np.allclose(flat[0], 0.5) and np.allclose(flat[1], [0.5, 0, 0])
