"""The cache of grids: killed writers, full disks, and caches of something else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from glom.errors import InputError, RunError
from glom.teachers.grid_cache import INDEX, JOURNAL, SKIPPED, WRITTEN, Field, GridCache, default_root, key

ROOT = Path(__file__).parents[3]
WHO = {"teacher": "t", "fingerprint": "f1", "size": 32, "data": "d"}
FIELDS = {"grid": Field((2, 3, 4), "float16"), "picture": Field((5, 5, 3), "uint8")}


def values(first: int, count: int) -> dict[str, np.ndarray]:
    rows = np.arange(first, first + count)
    return {
        "grid": np.broadcast_to(rows[:, None, None, None] / 8, (count, 2, 3, 4)).astype(np.float32),
        "picture": np.broadcast_to(rows[:, None, None, None] % 251, (count, 5, 5, 3)).astype(np.uint8),
    }


def test_rows_come_back_in_any_order_of_writing(tmp_path):
    with GridCache(tmp_path, WHO, FIELDS, 10) as cache:
        cache.write(6, values(6, 4))
        cache.write(0, values(0, 3), [WRITTEN, SKIPPED, WRITTEN])
        assert cache.missing().tolist() == [3, 4, 5]
        assert cache.written().tolist() == [0, 2, 6, 7, 8, 9]
    again = GridCache(tmp_path, WHO, FIELDS, 10)
    assert again.path == cache.path
    assert again.read("grid")[[0, 7], 1, 2, 3].tolist() == [0, 7 / 8]
    assert again.read("picture")[9].tolist() == np.full((5, 5, 3), 9).tolist()


@pytest.mark.parametrize(
    "change",
    [{"fingerprint": "f2"}, {"teacher": "u"}, {"size": 64}, {"data": "other"}],
)
def test_a_cache_of_something_else_is_never_used(tmp_path, change):
    with GridCache(tmp_path, WHO, FIELDS, 4) as cache:
        cache.write(0, values(0, 4))
    other = GridCache(tmp_path, {**WHO, **change}, FIELDS, 4)  # found by its fingerprint: another folder
    assert other.path != cache.path and len(other.missing()) == 4
    with pytest.raises(InputError, match=f"something else.*{next(iter(change))}"):
        GridCache(cache.path, {**WHO, **change}, FIELDS, 4)  # pointed at by hand


def test_precision_and_rows_are_part_of_what_a_cache_is(tmp_path):
    cache = GridCache(tmp_path, WHO, FIELDS, 4)
    full = {**FIELDS, "grid": Field((2, 3, 4), "float32")}
    assert len({key(WHO, FIELDS, 4), key(WHO, full, 4), key(WHO, FIELDS, 5)}) == 3
    for fields, rows in ((full, 4), (FIELDS, 5)):
        with pytest.raises(InputError, match="something else"):
            GridCache(cache.path, WHO, fields, rows)


WRITER = """
import sys, time
import numpy as np
from pathlib import Path
from tests.glom.teachers.test_grid_cache import FIELDS, WHO, values
from glom.teachers.grid_cache import GridCache
with GridCache(Path(sys.argv[1]), WHO, FIELDS, 4000) as cache:
    for row in cache.missing().tolist():
        cache.write(row, values(row, 1))
"""


def test_a_killed_writer_leaves_no_half_row_and_is_gone_on_with(tmp_path):
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT)
        begun = len(GridCache(tmp_path, WHO, FIELDS, 4000).written())
        deadline = time.monotonic() + 60
        while len(GridCache(tmp_path, WHO, FIELDS, 4000).written()) < begun + 40 and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(InputError, match="another process"), GridCache(tmp_path, WHO, FIELDS, 4000):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    cache = GridCache(tmp_path, WHO, FIELDS, 4000)
    there = cache.written()
    assert 80 <= len(there) < 4000
    for name, wanted in values(0, 4000).items():
        assert np.array_equal(cache.read(name)[there], wanted.astype(FIELDS[name].dtype)[there])
    with cache:  # the lock went with its holder
        rest = cache.missing()
        cache.write(int(rest[0]), values(int(rest[0]), len(rest)))
    for name, wanted in values(0, 4000).items():
        assert np.array_equal(cache.read(name), wanted.astype(FIELDS[name].dtype))


def test_a_disk_that_fills_loses_nothing(tmp_path, monkeypatch):
    real, left = os.pwrite, [5]

    def short(descriptor, data, offset):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return real(descriptor, data, offset)

    with GridCache(tmp_path, WHO, FIELDS, 4) as cache:
        monkeypatch.setattr("os.pwrite", short)
        cache.write(0, values(0, 1))  # three writes: grid, picture, journal
        with pytest.raises(RunError, match="disk is full"):
            cache.write(1, values(1, 1))
    assert cache.written().tolist() == [0]
    monkeypatch.setattr("os.pwrite", real)
    with GridCache(tmp_path, WHO, FIELDS, 4) as cache:
        cache.write(1, values(1, 3))
    assert np.array_equal(cache.read("grid"), values(0, 4)["grid"].astype("float16"))


def test_no_room_is_said_before_anything_is_written(tmp_path):
    huge = {"grid": Field((1 << 20, 1 << 20, 64))}
    with pytest.raises(RunError, match=r"too full for the grids.*`no_cache`"):
        GridCache(tmp_path, WHO, huge, 1000)
    assert not list(tmp_path.glob("*/*.bin"))


def test_damage_is_noticed(tmp_path):
    cache = GridCache(tmp_path, WHO, FIELDS, 4)
    (cache.path / "grid.bin").write_bytes(b"short")
    with pytest.raises(InputError, match="damaged"):
        GridCache(tmp_path, WHO, FIELDS, 4)
    text = (cache.path / INDEX).read_text()
    (cache.path / INDEX).write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(InputError, match="newer format"):
        GridCache(tmp_path, WHO, FIELDS, 4)


def test_creation_that_was_killed_begins_again(tmp_path):
    cache = GridCache(tmp_path, WHO, FIELDS, 4)
    (cache.path / INDEX).unlink()
    (cache.path / JOURNAL).write_bytes(b"\x01")
    assert GridCache(tmp_path, WHO, FIELDS, 4).missing().tolist() == [0, 1, 2, 3]


def test_wrong_rows_are_refused(tmp_path, monkeypatch):
    with GridCache(tmp_path, WHO, FIELDS, 4) as cache:
        for first, rows in ((3, values(0, 2)), (0, {**values(0, 1), "grid": np.zeros((1, 2, 3, 5))})):
            with pytest.raises(InputError, match="cannot be"):
                cache.write(first, rows)
        with pytest.raises(InputError, match="not finite in float16"):
            cache.write(0, {**values(0, 1), "grid": np.full((1, 2, 3, 4), 1e6)})
    assert not len(cache.written())
    with pytest.raises(InputError, match="rows and fields"):
        GridCache(tmp_path, WHO, FIELDS, 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert default_root() == tmp_path / "x" / "glom-apm" / "grids"
