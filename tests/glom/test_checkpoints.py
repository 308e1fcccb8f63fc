"""APM checkpoints: what goes in comes out, and what is no APM's is refused in one line."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import save_file

from glom.apm import APM, preset
from glom.checkpoints import FILE, SHIPPED, load_apm, read_header, save_apm
from glom.columns import grid_queries
from glom.errors import InputError, RunError

CONFIG = preset("apm-tiny", features=16, trunk=(24, 16), readout="mean", local_patch=3, channels=2, rgb=(8,))


def test_a_machine_comes_back_with_its_configuration_and_meta(tmp_path):
    apm, meta = APM(CONFIG), {"teacher": "glom-tiny", "grid": [8, 8], "results": {"r2": 0.5}}
    path = save_apm(tmp_path, apm, meta)
    assert path == tmp_path / FILE
    for place in (path, tmp_path, str(path)):
        again, known = load_apm(place)
        assert again.config == CONFIG and known == meta and not again.training
        x, q = torch.randn(2, 3, 32, 32), grid_queries(3, 4)
        assert torch.equal(again(x, q).features, apm(x, q).features)
    assert read_header(path) == (CONFIG, meta)


def test_half_precision_halves_the_file_and_hardly_moves_the_answer(tmp_path):
    apm = APM(CONFIG)
    full, half = save_apm(tmp_path / "a", apm), save_apm(tmp_path / "b", apm, precision="fp16")
    assert half.stat().st_size < 0.6 * full.stat().st_size
    x = torch.randn(1, 3, 32, 32)
    again, _ = load_apm(half)
    assert again.feature_head.weight.dtype == torch.float32
    torch.testing.assert_close(again(x).features, apm(x).features, rtol=1e-2, atol=5e-3)


def header(**changes):
    values = {"architecture": "apm", "version": "1", "config": json.dumps(asdict(CONFIG)), "meta": "{}", **changes}
    return {k: v for k, v in values.items() if v is not None}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": "2"}, "format '2'"),
        ({"version": "next"}, "format 'next'"),
        ({"architecture": "glom"}, "another architecture"),
        ({"architecture": None}, "weights which do not say"),
        ({"config": None}, "damaged"),
        ({"config": "{"}, "damaged"),
        ({"config": '{"wings": 2}'}, "unknown here: wings"),
        ({"config": json.dumps({**asdict(CONFIG), "trunk": [9]})}, "does not fit"),
        ({"config": json.dumps({**asdict(CONFIG), "activation": "step"})}, "activation"),
    ],
)
def test_other_files_are_one_clear_line(tmp_path, changes, says):
    state = {k: v.contiguous() for k, v in APM(CONFIG).state_dict().items()}
    save_file(state, tmp_path / FILE, metadata=header(**changes))
    with pytest.raises(InputError) as raised:
        load_apm(tmp_path)
    assert says in str(raised.value) and "\n" not in str(raised.value)


def test_truncated_missing_and_unknown(tmp_path):
    path = save_apm(tmp_path, APM(CONFIG))
    path.write_bytes(path.read_bytes()[:200])
    for place, says in ((path, "truncated"), (tmp_path / "no.safetensors", "no such"), ("apm-cifar", "apm-cifar10")):
        with pytest.raises(InputError, match=says):
            load_apm(place)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=FILE):
        load_apm(tmp_path / "empty")


def test_a_write_that_fails_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    apm = APM(CONFIG)
    before = save_apm(tmp_path, apm).read_bytes()
    with torch.no_grad():
        apm.feature_head.bias.fill_(1)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match="disk is full"):
        save_apm(tmp_path, apm)
    assert (tmp_path / FILE).read_bytes() == before
    assert [x.name for x in tmp_path.iterdir()] == [FILE]


def test_what_cannot_be_saved_is_said(tmp_path):
    apm = APM(CONFIG)
    with pytest.raises(InputError, match="JSON"):
        save_apm(tmp_path, apm, {"teacher": object()})
    with pytest.raises(InputError, match="fp17"):
        save_apm(tmp_path, apm, precision="fp17")
    with torch.no_grad():
        apm.feature_head.bias.fill_(1e6)
    with pytest.raises(InputError, match="not finite in fp16"):
        save_apm(tmp_path, apm, precision="fp16")
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_checkpoints_load_and_belong_to_their_teacher(name):
    from glom.teachers.registry import load_teacher

    apm, meta = load_apm(name)
    teacher = load_teacher(meta["teacher"], "cpu")
    assert meta["teacher_fingerprint"] == teacher.fingerprint
    assert teacher.grid(torch.zeros(1, 3, 32, 32)).shape[1:] == (*meta["grid"], apm.config.features)
    assert sum(p.numel() for p in apm.parameters()) * 2 < 6_000_000
