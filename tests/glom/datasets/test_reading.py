"""Every kind of picture file becomes upright 8-bit RGB, or one clear line."""

from __future__ import annotations

import io
import os
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from glom.datasets.label_maps import read_mask
from glom.datasets.reading import read_image, reduced, to_rgb
from glom.errors import InputError
from tests.conftest import make_image
from tests.helpers_images import encoded, photo, png


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def message(source: object, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        read_image(source, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    assert text
    return text


def test_rgb_is_read_as_it_is(tmp_path: Path) -> None:
    original = photo()
    original.save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), (tmp_path / "a.png").read_bytes()):
        assert (pixels(read_image(source)) == np.asarray(original)).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"])
def test_formats(kind: str) -> None:
    original = photo()
    read = read_image(encoded(original, kind))
    assert read.size == original.size
    assert np.abs(pixels(read) - np.asarray(original)).mean() < 12


def test_greyscale_and_bilevel() -> None:
    grey = Image.fromarray(np.array([[0, 100, 255]], np.uint8))
    assert pixels(read_image(encoded(grey)))[0].tolist() == [[0] * 3, [100] * 3, [255] * 3]
    assert pixels(read_image(encoded(Image.new("1", (2, 1), 1))))[0].tolist() == [[255] * 3] * 2


@pytest.mark.parametrize(
    ("key", "expected"), [(None, [10, 20, 30]), (0, [255, 255, 255]), (bytes([102]), [157, 161, 165])]
)
def test_palette(key: int | bytes | None, expected: list[int]) -> None:
    image = Image.new("P", (2, 2), 0)
    image.putpalette([10, 20, 30, 200, 0, 0])
    options = {} if key is None else {"transparency": key}
    assert pixels(read_image(encoded(image, **options)))[0, 0].tolist() == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(("mode", "value"), [("RGBA", (200, 100, 0, 51)), ("LA", (100, 51))])
def test_alpha_is_composited(mode: str, value: tuple[int, ...]) -> None:
    data = encoded(Image.new(mode, (1, 1), value))
    colour = np.array(value[:-1] if mode == "RGBA" else value[:1] * 3)
    for background in ((255, 255, 255), (0, 0, 255)):
        expected = 0.2 * colour + 0.8 * np.array(background)
        assert np.abs(pixels(read_image(data, background=background))[0, 0] - expected).max() <= 1


@pytest.mark.parametrize("mode", ["La", "RGBa", "PA", "YCbCr", "HSV", "RGBX"])
def test_rare_modes(mode: str) -> None:
    source = Image.new("RGB", (2, 2), (255, 255, 255))
    step = {"La": "LA", "RGBa": "RGBA"}.get(mode)
    image = source.convert(step).convert(mode) if step else source.convert(mode)
    assert pixels(to_rgb(image)).min() >= 253


def test_key_colour_becomes_background() -> None:
    data = encoded(Image.new("RGB", (1, 1), (1, 2, 3)), transparency=(1, 2, 3))
    assert pixels(read_image(data))[0, 0].tolist() == [255] * 3


def test_cmyk() -> None:
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    assert Image.open(io.BytesIO(data)).mode == "CMYK"
    assert np.abs(pixels(read_image(data))[8, 8] - [255, 0, 0]).max() <= 4


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    values = np.array([[0, 257, 300, 32896, 65535]], np.uint16)
    read = pixels(read_image(encoded(Image.fromarray(values), kind)))
    assert read[0, :, 0].tolist() == [0, 1, 1, 128, 255]
    assert (read == read[..., :1]).all()


def test_sixteen_bits_big_endian_by_hand() -> None:
    rows = b"\x00" + np.array([0, 65535, 32896], ">u2").tobytes()
    assert pixels(read_image(png(3, 1, 16, 0, rows)))[0, :, 0].tolist() == [0, 255, 128]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 65535]], np.int32), [0, 255]),
        (np.array([[-100, 0, 100]], np.int32), [0, 128, 255]),
        (np.array([[0, 1_000_000]], np.int32), [0, 255]),
        (np.array([[7, 7]], np.int32), [0, 0]),
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 100, 200]], np.float32), [0, 100, 200]),
        (np.array([[-1, 0, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 1e6]], np.float32), [0, 255]),
    ],
)
def test_wide_greyscale(values: np.ndarray, expected: list[int]) -> None:
    read = pixels(read_image(encoded(Image.fromarray(values), "TIFF")))
    assert read[0, :, 0].tolist() == expected


def test_float_with_nan_is_refused() -> None:
    assert "NaN" in message(encoded(Image.fromarray(np.array([[0, np.nan]], np.float32)), "TIFF"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_exif_rotation(orientation: int, kind: str) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 255  # white top left quarter
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    read = pixels(read_image(encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif)))
    assert read.shape == upright.shape
    assert np.abs(read - upright).max() < 40


def test_damaged_exif_is_no_obstacle() -> None:
    data = encoded(photo(), "JPEG", exif=b"Exif\x00\x00garbage that is no TIFF header")
    assert read_image(data).size == photo().size


def test_one_by_one() -> None:
    assert read_image(encoded(Image.new("RGB", (1, 1), (9, 8, 7)))).getpixel((0, 0)) == (9, 8, 7)


def test_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(50_000, 50_000, 8, 2, bytes(1000)))
    for source, where in ((path, str(path)), (path.read_bytes(), "image data")):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            text = message(source)
        assert text.startswith(where)
        assert "2,500,000,000 pixels" in text
        assert "64,000,000" in text


@pytest.mark.parametrize("side", [8_001, 10_000])
def test_between_our_limit_and_pillows(side: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert f"{side}x{side} pixels" in message(png(side, side, 8, 0, bytes(100)))


def test_the_limit_is_an_argument() -> None:
    data = encoded(photo(10, 10))
    assert read_image(data, max_pixels=100).size == (10, 10)
    assert "10x10" in message(data, max_pixels=99)


def test_real_bomb_that_would_decode() -> None:
    """9,000 x 9,000 black pixels are 80 KB as a file and 243 MB decoded."""
    rows = (b"\x00" + bytes(9_000 * 3)) * 9_000
    assert "refused before decoding" in message(png(9_000, 9_000, 8, 2, rows))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_truncated(kind: str, tmp_path: Path) -> None:
    data = encoded(photo(64, 64), kind)
    for share in (0.02, 0.3, 0.6):
        path = tmp_path / f"cut.{kind.lower()}"
        path.write_bytes(data[: max(4, int(len(data) * share))])
        assert message(path).startswith(str(path))
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_bytes_flipped_anywhere_give_a_picture_or_one_line() -> None:
    rng = np.random.default_rng(0)
    messages: list[str] = []
    for kind in ("JPEG", "PNG", "TIFF", "GIF", "BMP"):
        data = bytearray(encoded(photo(24, 24), kind))
        for _ in range(60):
            broken = bytearray(data)
            for place in rng.integers(0, len(data), 6):
                broken[place] = int(rng.integers(256))
            try:
                assert read_image(bytes(broken), max_pixels=1_000_000).mode == "RGB"
            except InputError as error:
                messages.append(str(error))
    assert messages
    assert not any("\n" in message for message in messages)


def test_bad_files(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "figure.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    assert "empty (0 bytes)" in message(tmp_path / "empty.jpg")
    assert "empty" in message(b"")
    assert "not an image" in message(tmp_path / "text.jpg")
    assert "not an image" in message(tmp_path / "figure.png")
    assert "no such file" in message(tmp_path / "missing.jpg")
    assert "a folder" in message(tmp_path)
    assert "x/y: not an image" in message(b"junk", name="x/y")
    assert "cannot be read" in message("a\0b.jpg")
    assert "cannot be read" in message(tmp_path / ("x" * 300))
    message(tmp_path / "two\nlines.jpg")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "not a regular file" in message(tmp_path / "pipe.jpg")


def test_threads_read_at_once() -> None:
    data, seen = encoded(photo()), []
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: seen.append(read_image(data).tobytes())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len(set(seen)) == 1
    assert list(warnings.filters) == before


def chunk(kind: bytes, data: bytes, good: bool = True) -> bytes:
    """One chunk of a PNG, its checksum right or wrong."""
    check = zlib.crc32(kind + data) ^ (not good)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


BIG = zlib.compress(b"a" * (2 << 20))
SIDE_CHUNKS = {
    "text": chunk(b"zTXt", b"Raw profile\0\0" + BIG),
    "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BIG),
    "ICC": chunk(b"iCCP", b"icc\0\0" + BIG),
    "many": b"".join(chunk(b"zTXt", b"k%d\0\0" % i + zlib.compress(b"a" * 1_000_000)) for i in range(70)),
    **{
        kind.decode(): chunk(kind, b"a\0b", good=False)
        for kind in (b"tEXt", b"zTXt", b"iTXt", b"pHYs", b"tIME", b"gAMA")
    },
}


@pytest.mark.parametrize("name", SIDE_CHUNKS)
@pytest.mark.parametrize("before", [True, False], ids=["before the pixels", "after them"])
def test_a_png_is_read_whatever_stands_beside_its_pixels(name: str, before: bool) -> None:
    image = photo(20, 30)
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = encoded(image, "PNG", exif=exif)
    place = 33 if before else len(plain) - 12  # behind IHDR, or before IEND
    found = read_image(plain[:place] + SIDE_CHUNKS[name] + plain[place:])
    assert np.array_equal(np.asarray(found), np.asarray(image.transpose(Image.Transpose.ROTATE_270)))


@pytest.mark.parametrize("name", SIDE_CHUNKS)
def test_a_mask_is_read_whatever_stands_beside_its_pixels(name: str, tmp_path: Path) -> None:
    labels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    plain = encoded(Image.fromarray(labels), "PNG")
    (tmp_path / "mask.png").write_bytes(plain[:33] + SIDE_CHUNKS[name] + plain[33:])
    assert np.array_equal(read_mask(tmp_path / "mask.png"), labels)


def test_damaged_pixels_stay_refused_beside_other_chunks() -> None:
    plain = encoded(photo(64, 64))
    broken = bytearray(plain)
    broken[60] ^= 255  # in the pixels: their checksum fails
    for data in (bytes(broken), plain[: len(plain) // 2]):
        assert message(data[:33] + SIDE_CHUNKS["tEXt"] + data[33:])


def test_the_limit_of_pixels_can_be_raised_and_the_error_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (b"\x00" + bytes(20_000 // 8)) * 9_000
    data = png(20_000, 9_000, 1, 0, rows)  # 180 million: above Pillow's own limit as well
    assert "APM_MAX_PIXELS=N raises it" in message(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # put back afterwards
    monkeypatch.setenv("APM_MAX_PIXELS", "200000000")
    assert read_image(data).crop((0, 0, 10, 10)).size == (10, 10)
    monkeypatch.setenv("APM_MAX_PIXELS", "many")
    assert "APM_MAX_PIXELS must be a number" in message(data)


def test_a_large_jpeg_is_decoded_reduced_only_where_that_is_asked_for(tmp_path):
    path, small = tmp_path / "large.jpg", tmp_path / "small.png"
    make_image(1, (640, 480)).save(path, quality=95)
    make_image(1, (640, 480)).save(small)
    whole = read_image(path)
    with reduced(100):
        quarter = read_image(path)
        assert read_image(small).size == (640, 480)  # no JPEG
        with reduced(0):
            assert read_image(path).size == (640, 480)
    assert quarter.size == (160, 120)  # an eighth would be less than 100
    with reduced(481):
        assert read_image(path).tobytes() == whole.tobytes()
    near = np.asarray(whole.resize((160, 120), Image.Resampling.BOX), float) - np.asarray(quarter, float)
    assert 0 < np.abs(near).mean() < 2
    assert read_image(path).tobytes() == whole.tobytes()
