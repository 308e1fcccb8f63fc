"""`apm islands` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from commands.figures import redraw
from commands.islands import app
from experiments.islands.patch import figures
from experiments.islands.score import chosen_elsewhere, summarise
from probes.explorer import read_run
from probes.finer import WAYS, Fitting
from tests.conftest import in_process, make_image
from tests.helpers_results import cut_anywhere
from tests.probes.explorer.views import held

SMALL = ["--backbone", "glom-tiny", "--size", "32", "--quiet"]


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Run `apm islands ...` in this process: (exit code, standard output, standard error)."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return in_process(capsys, app, "islands")


def bsds(root: Path, count: int = 3, split: str = "val") -> Path:
    """A data set in bsds500's layout: three flat quadrants each, two annotators, one of whom sees two parts only."""
    folder = root / "bsds" / split
    folder.mkdir(parents=True)
    for i in range(count):
        labels = np.ones((40, 60), np.uint16)
        labels[:, 20 + 5 * i :] = 2
        labels[25:] = 3
        colours = np.random.default_rng(i).integers(0, 255, (4, 3), dtype=np.uint8)
        Image.fromarray(colours[labels]).save(folder / f"{i}.jpg", quality=95)
        np.savez(folder / f"{i}.npz", segmentations=np.stack([labels, np.minimum(labels, 2)]))
    return root / "bsds"


def masks(root: Path) -> Path:
    folder = root / "masks"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for i in range(3):
        labels = np.zeros((30, 30), np.uint8)
        labels[5:15, 5:25], labels[18:28, 5 + 3 * i : 20] = 1, 2
        make_image(i, (30, 30)).save(folder / "images" / f"p{i}.jpg")
        Image.fromarray(labels).save(folder / "masks" / f"p{i}.png")
    return folder


# -- score ---------------------------------------------------------------------------------------------------------


def test_score_gives_every_number_with_its_baselines(call, tmp_path):
    data, out = bsds(tmp_path), tmp_path / "run"
    code, text, _ = call("score", data, "--out", out, "--partition", "kmeans:3", "--grid", 16, "--json", *SMALL)
    assert code == 0
    result = json.loads(text)
    assert (result["n"], result["skipped"]) == (3, 0)
    assert [r["layer"] for r in result["layers"]] == [0, 1, 2, 3]
    wanted = {"ari", "fg_ari", "nmi", "covering", "boundary_f", "ci95"}
    rows = [*result["layers"], result["baselines"]["pixels"], *result["baselines"]["untrained"], result["human"]]
    for row in rows:
        assert wanted <= set(row)
        assert row["fg_ari"] is None  # nothing is background in this layout
        low, high = row["ci95"]["covering"]
        assert 0 <= low <= row["covering"] <= high <= 1
    assert result["human"]["covering"] > 0.6
    assert result["baselines"]["pixels"]["ari"] > 0.4  # flat colours give themselves away
    assert json.loads((out / "result.json").read_text()) == result
    assert len((out / "results.jsonl").read_text().splitlines()) == 3
    code, text, said = call("score", data / "val", "--out", tmp_path / "b", "--grid", 16, "--limit", 2, *SMALL)
    assert code == 0 and "people" in text
    assert max(map(len, text.splitlines())) <= 100
    chosen, pixels, twin = said.splitlines()[-3:]
    assert "chosen on the other half" in chosen
    assert "minus colour + position: " in pixels and "minus the untrained network: " in twin
    code, _, said = call("score", data / "val", "--out", tmp_path / "c", "--grid", 16, "--limit", 1, *SMALL)
    assert code == 0 and "one picture alone" in said and "minus" not in said


def picture(covering: list[float]) -> dict[str, Any]:
    """One scored picture with a layer for each covering; both baselines at 0.4."""
    rows = [dict.fromkeys(("ari", "nmi", "boundary_f"), 0.0) | {"covering": c, "fg_ari": None} for c in covering]
    plain = rows[0] | {"covering": 0.4}
    return {
        "status": "ok",
        "layers": rows,
        "baselines": {"pixels": plain, "untrained": [plain] * len(rows)},
        "human": None,
    }


def test_a_layer_is_chosen_on_other_pictures_than_it_is_scored_on():
    # On even pictures layer 0 is best, on odd ones layer 1: each half is scored where the other half is best.
    rows = [picture([0.9, 0.1] if i % 2 == 0 else [0.3, 0.7]) for i in range(6)]
    held = summarise(rows, [4, 7], ["a", "b"])["held_out"]
    assert held["layers"] == [7, 4] and held["covering"] == pytest.approx((0.1 + 0.3) / 2)
    assert held["minus_pixels"]["covering"][0] == held["minus_untrained"]["covering"][0] == pytest.approx(-0.2)
    assert summarise(rows[:1], [4, 7], ["a", "b"])["held_out"] is None


def test_layers_of_noise_gain_nothing():
    noise = np.random.default_rng(0).normal(0.4, 0.05, (60, 200))
    best, error = noise.mean(0).max() - 0.4, 0.05 / 60**0.5
    chosen, _ = chosen_elsewhere([[{"covering": c} for c in row] for row in noise])
    assert best > 2.5 * error > 2 * error > abs(np.mean([c["covering"] for c in chosen]) - 0.4)


def test_a_run_by_the_older_measure_is_neither_shown_nor_continued(call, tmp_path):
    data, out = bsds(tmp_path), tmp_path / "run"
    base = ["score", data, "--out", out, "--grid", 8, "--layers", "last", *SMALL]
    assert call(*base)[0] == 0
    manifest = json.loads((out / "manifest.json").read_text())
    del manifest["settings"]["measure"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    code, _, error = call("compare", out, out)
    assert code == 2 and "score it again" in error
    assert call(*base, "--resume")[0] == 2


def test_score_goes_on_where_it_was_killed(call, tmp_path):
    data = bsds(tmp_path)
    base = ["score", data, "--grid", 8, "--layers", "last", "--json", *SMALL]
    code, whole, _ = call(*base, "--out", tmp_path / "a")
    assert code == 0
    assert call(*base, "--out", tmp_path / "b")[0] == 0
    lines = tmp_path / "b" / "results.jsonl"
    kept = lines.read_text().splitlines(keepends=True)
    lines.write_text(kept[0] + kept[1][:50])
    assert call(*base, "--out", tmp_path / "b")[0] == 2
    code, resumed, _ = call(*base, "--out", tmp_path / "b", "--resume")
    assert code == 0 and json.loads(resumed) == json.loads(whole)
    assert lines.read_text() == (tmp_path / "a" / "results.jsonl").read_text()
    code, _, error = call(*base, "--out", tmp_path / "b", "--resume", "--partition", "kmeans:2")
    assert code == 2 and "holds another run" in error


def test_masks_folder_has_a_foreground_and_no_second_person(call, tmp_path):
    code, text, _ = call("score", masks(tmp_path), "--out", tmp_path / "run", "--grid", 8, "--json", *SMALL)
    result = json.loads(text)
    assert code == 0 and result["n"] == 3 and result["human"] is None
    assert all(r["fg_ari"] is not None for r in result["layers"])


def test_faulty_pairs_are_said_and_the_others_go_on(call, tmp_path):
    data = masks(tmp_path)
    Image.new("L", (9, 9), 1).save(data / "masks" / "p0.png")  # another size
    Image.new("L", (30, 30), 1).save(data / "masks" / "stranger.png")  # no picture
    make_image(7, (30, 30)).save(data / "images" / "alone.jpg")  # no mask
    (data / "masks" / "p2.png").write_bytes(b"no picture")
    arguments = ["--grid", 8, "--layers", "last", "--backbone", "glom-tiny", "--size", "32", "--json"]
    code, text, error = call("score", data, "--out", tmp_path / "run", *arguments)
    result = json.loads(text)
    assert code == 0 and (result["n"], result["skipped"]) == (1, 4)
    for part in ("p0.jpg: its outlines are 9x9", "stranger.png: no picture", "no alone.png", "p2.png: not an image"):
        assert part in error


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--layers", "9"], "layers 0 to 3"),
        (["--partition", "dbscan:3"], "--partition"),
        (["--backbone", "nothing"], "unknown backbone"),
        (["--split", "test"], "no split 'test'"),
        (["--grid", "1"], "--grid"),
        (["--frames", "4"], "not a video"),
    ],
)
def test_wrong_requests_for_scores(call, tmp_path, options, says):
    code, out, error = call("score", bsds(tmp_path), "--out", tmp_path / "run", *SMALL, *options)
    assert (code, out) == (2, "") and says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_no_data_no_score(call, tmp_path):
    (tmp_path / "empty").mkdir()
    for data in (tmp_path / "empty", tmp_path / "nowhere"):
        code, _, error = call("score", data, "--out", tmp_path / "run", *SMALL)
        assert code == 2 and error.startswith("error: ")
    data = bsds(tmp_path, 1)
    (data / "val" / "0.npz").write_bytes(b"PK")
    code, _, error = call("score", data, "--out", tmp_path / "run", *SMALL)
    assert code == 2 and "none of the 1 pictures" in error


def test_compare_pairs_runs_over_the_same_pictures(call, tmp_path):
    data = bsds(tmp_path)
    for name, more in (("a", []), ("b", ["--partition", "kmeans:3"]), ("c", ["--limit", 2])):
        assert call("score", data, "--out", tmp_path / name, "--grid", 8, *SMALL, *more)[0] == 0
    code, text, _ = call("compare", tmp_path / "a", tmp_path / "b", tmp_path / "c", "--json")
    result = json.loads(text)
    assert code == 0 and result["n"] == 2 and not result["same_data"]
    assert "minus_first" not in result["runs"][0]
    a, _, c = result["runs"]
    assert c["covering"] == a["covering"] and c["minus_first"]["covering"] == [0, 0, 0]
    assert len(a["layers"]) == 2  # one for each half of the pictures
    code, _, error = call("compare", tmp_path / "a", tmp_path / "b")
    assert code == 0 and "comparing" in error and "3/3" in error
    assert call("compare", tmp_path / "a", tmp_path / "b", "--quiet")[::2] == (0, "")
    other = bsds(tmp_path / "other", 1, "train")
    assert call("score", other, "--split", "train", "--out", tmp_path / "d", "--grid", 8, *SMALL)[0] == 0
    for folders in ([tmp_path / "a"], [tmp_path / "a", tmp_path], [tmp_path / "a", tmp_path / "d"]):
        code, _, error = call("compare", *folders)
        assert code == 2 and error.startswith("error: ")
    assert call("compare", tmp_path / "a", tmp_path / "b", "--by", "colour")[0] == 2


# -- show ----------------------------------------------------------------------------------------------------------


def test_show_writes_sheet_page_and_grids(call, tmp_path):
    picture = tmp_path / "a & b.png"
    make_image(1, (48, 32)).save(picture)
    out = tmp_path / "out"
    code, text, _ = call("show", picture, "--out", out, "--reduce", "pca", "--save-grids", "--json", *SMALL)
    assert code == 0
    [shown] = json.loads(text)["pictures"]
    assert shown["sheet"] == "a & b.png" and (out / shown["sheet"]).stat().st_size > 2000
    [picture] = held(out / shown["page"])["pictures"]
    [source] = picture["sources"]
    assert [(x["h"], x["w"]) for x in source["stages"]] == [(32, 32), (16, 16), (8, 8), (8, 8)]
    assert picture["name"] == "a & b.png" and all(x["error"] <= 0.02 for x in source["stages"])
    assert read_run(out)["pictures"][0]["sources"][0]["axes"] == source["axes"]
    with np.load(out / "a & b.npz") as grids:
        assert grids["layer_3"].shape == (1, 8, 8, 256)
    assert call("show", picture, "--out", out, "--reduce", "pca", "--save-grids", *SMALL)[0] == 2  # never overwritten


@pytest.mark.parametrize("reduce", ["tsne", "pca"])
def test_one_colour_and_faulty_pictures_among_good_ones(call, tmp_path, reduce):
    Image.new("RGB", (40, 40), (9, 80, 200)).save(tmp_path / "plain.png")
    make_image(1, (48, 32)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"nothing")
    paths = [tmp_path / n for n in ("plain.png", "bad.png", "gone.png", "good.png")]
    arguments = ["--layers", "last", "--reduce", reduce, "--backbone", "glom-tiny", "--size", "32", "--json"]
    code, text, error = call("show", *paths, "--out", tmp_path / "out", *arguments)
    result = json.loads(text)
    assert code == 0 and [Path(p["image"]).name for p in result["pictures"]] == ["plain.png", "good.png"]
    assert [Path(p["image"]).name for p in result["skipped"]] == ["bad.png", "gone.png"]
    assert error.count("skipped:") == 2
    assert len(held(tmp_path / "out" / "plain.html")["pictures"]) == 1


def test_joint_colours_over_layers_and_pictures(call, tmp_path):
    for i in range(2):
        make_image(i, (32, 32)).save(tmp_path / f"{i}.png")
    code, text, _ = call(
        "show",
        tmp_path / "0.png",
        tmp_path / "1.png",
        "--joint",
        "--grid",
        8,
        "--out",
        tmp_path / "o",
        "--json",
        *SMALL,
    )
    assert code == 0 and len(json.loads(text)["pictures"]) == 2
    assert "one code for all layers" in dict(held(tmp_path / "o" / "0.html")["facts"])["colours"]


@pytest.mark.parametrize(
    ("options", "says"),
    [(["--reduce", "lda"], "--reduce"), (["--layers", "44"], "layers 0 to 3"), (["--grid", "900"], "--grid")],
)
def test_wrong_requests_to_show(call, tmp_path, options, says):
    make_image(1).save(tmp_path / "a.png")
    code, _, error = call("show", tmp_path / "a.png", "--out", tmp_path / "o", *SMALL, *options)
    assert code == 2 and says in error and not (tmp_path / "o").exists()


def test_pictures_smaller_than_a_patch(call, tmp_path):
    make_image(1, (8, 8)).save(tmp_path / "a.png")
    code, _, error = call(
        "show", tmp_path / "a.png", "--backbone", "timm:test_vit@random", "--out", tmp_path / "o", "--quiet"
    )
    assert code == 2 and "smaller than one patch" in error


def test_islands_are_outlined_counted_and_scored_where_there_are_outlines(call, tmp_path):
    data = bsds(tmp_path / "data", 1)
    [path] = sorted(data.rglob("*.jpg"))
    make_image(5, (48, 32)).save(tmp_path / "alone.jpg")
    options = ["--layers", "0,1,3", "--figure", "1,3", "--partition", "kmeans:3+parts", "--reduce", "pca", "--json"]
    code, text, _ = call(
        "show", path, tmp_path / "alone.jpg", "--backbone", "glom-tiny", "--out", tmp_path / "o", *options
    )
    assert code == 0
    first, second = json.loads(text)["pictures"]
    assert [row["layer"] for row in first["islands"]] == [1, 3]
    for row in first["islands"]:
        assert row["islands"] >= 1 and 0 < row["covering"] <= 1
        assert row["agreement_across"] is None or -1 <= row["agreement_across"] <= row["agreement_inside"] <= 1
    assert all(row["covering"] is None for row in second["islands"])
    for item in (first, second):
        file = tmp_path / "o" / item["figure"]
        assert Image.open(file).width > 600 and file.with_suffix(".svg").read_text().lstrip().startswith("<?xml")
    assert path.with_suffix(".npz").name in (tmp_path / "o" / first["figure"]).with_suffix(".svg").read_text()


def test_outlines_of_another_size_are_said_and_not_scored(call, tmp_path):
    make_image(1, (48, 32)).save(tmp_path / "a.jpg")
    Image.new("L", (9, 9), 3).save(tmp_path / "a.png")
    code, text, error = call(
        "show", tmp_path / "a.jpg", "--backbone", "glom-tiny", "--reduce", "pca", "--json", "--out", tmp_path / "o"
    )
    assert code == 0 and "9x9 pixels, the picture 48x32; not scored" in error
    assert all(row["covering"] is None for row in json.loads(text)["pictures"][0]["islands"])


def test_a_layer_that_is_not_finite_is_not_shown(call, tmp_path, monkeypatch):
    import experiments.islands.show as module

    watched, odd = module.feature_grids, iter([[], [1], [0, 1, 2, 3]])

    def some_nan(*arguments: Any, **options: Any):
        grids = watched(*arguments, **options)
        for layer in next(odd):
            grids[layer][0, 0, 0, 0] = np.nan
        return grids

    monkeypatch.setattr(module, "feature_grids", some_nan)
    for i, name in enumerate("abc"):
        make_image(i, (48, 32)).save(tmp_path / f"{name}.png")
    pictures = [tmp_path / f"{name}.png" for name in "abc"]
    options = ["--backbone", "glom-tiny", "--size", "32", "--reduce", "pca", "--figure", "1", "--json"]
    code, text, said = call("show", *pictures, "--out", tmp_path / "o", *options)
    result = json.loads(text)
    assert code == 0 and (result["layers"], result["left_out"]) == ([0, 2, 3], [1])
    assert [Path(p["image"]).name for p in result["pictures"]] == ["a.png", "b.png"]
    assert "b.png: not finite, and left out: layer 1" in said and "c.png: no layer of glom-tiny is finite" in said
    assert [row["layer"] for row in result["pictures"][0]["islands"]] == [0, 2, 3]
    assert len(held(tmp_path / "o" / "a.html")["pictures"][0]["sources"][0]["stages"]) == 3


@pytest.mark.parametrize(
    ("options", "says"),
    [(["--partition", "kmeans"], "--partition"), (["--layers", "0,1", "--figure", "3"], "not among the --layers read")],
)
def test_figures_that_cannot_be_drawn(call, tmp_path, options, says):
    make_image(1).save(tmp_path / "a.png")
    code, _, error = call("show", tmp_path / "a.png", "--backbone", "glom-tiny", "--out", tmp_path / "o", *options)
    assert code == 2 and says in error and not (tmp_path / "o").exists()


def test_finer_grids_are_outlined_beside_the_networks_and_scored(call, tmp_path, monkeypatch):
    monkeypatch.setattr("probes.finer.Fitting", lambda: Fitting(views=1, iterations=2))
    pictures = sorted((bsds(tmp_path) / "val").glob("*.jpg"))[:2]
    out, record = tmp_path / "run", tmp_path / "r.json"
    base = ["show", *pictures, "--layers", "0", "--reduce", "pca", "--partition", "kmeans:3", *SMALL]
    code, text, error = call(*base, "--finer", 2, "--out", out, "--json", "--record", record)
    assert code == 0, error
    result = json.loads(text)
    [layer] = result["finer"]
    assert (layer["layer"], layer["n"], list(layer["ways"])) == (0, 2, ["network", *WAYS])
    assert set(layer["minus_bilinear"]) == {"network", "guided", "average", "apm"}
    for picture in result["pictures"]:
        assert [row["way"] for row in picture["finer"]] == ["network", *WAYS]
    for way, found in layer["ways"].items():
        rows = [row for picture in result["pictures"] for row in picture["finer"] if row["way"] == way]
        assert found["covering"] == pytest.approx(np.mean([row["covering"] for row in rows]))
    for ending in ("png", "svg"):
        assert (out / "finer" / "0" / f"layer-0.{ending}").stat().st_size > 5000
    assert json.loads(record.read_text())["finer"] == result["finer"]
    drawn = {path: path.read_bytes() for path in out.rglob("*.png")}
    assert len(drawn) == 6
    for path in drawn:
        path.unlink()
    assert redraw(out)["figures"] == 10 and all(path.read_bytes() == before for path, before in drawn.items())
    for more, says in ((["--finer", 1], "2 or more"), (["--finer", 2, "--partition", "tree"], "28 x 28")):
        code, _, error = call(*base, *more, "--out", tmp_path / "x")
        assert code == 2 and says in error and error.count("\n") == 1


def test_a_patch_says_what_changed_and_draws_it(call, tmp_path):
    make_image(0, (60, 40)).save(tmp_path / "a.png")
    make_image(1, (30, 30)).save(tmp_path / "b.png")
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:40] = 1
    Image.fromarray(mask).save(tmp_path / "m.png")
    Image.fromarray(mask.T.copy()).save(tmp_path / "turned.png")
    base = ["patch", tmp_path / "a.png", "--backbone", "mvit-v2-tiny", "--size", 32, "--quiet", "--json"]
    out = tmp_path / "run"
    more = ["--layer", "blocks.1", "--region", tmp_path / "m.png", "--value", tmp_path / "b.png"]
    code, text, error = call(*base, *more, "--out", out)
    assert code == 0, error
    result = json.loads(text)
    assert [row["layer"] for row in result["layers"]] == [1, 2, 3, 4, 5] and result["locations"] == [8, 64]
    first = result["layers"][0]
    assert first["cosine_outside"] == pytest.approx(1, abs=1e-6) and first["cosine_inside"] < 0.999
    before, after = (result["classes"][when] for when in ("before", "after"))
    assert len(before) == len(after) == 5 and before != after
    drawn = (out / "patch.png").read_bytes()
    (out / "patch.png").unlink()
    assert figures(out) == [out / "patch.png", out / "patch.svg"] and (out / "patch.png").read_bytes() == drawn
    [source] = read_run(out)["pictures"][0]["sources"]
    assert source["name"] == "mvit-v2-tiny" and len(source["stages"]) == 5 and source["said"] == before
    [patch] = source["patches"]
    assert (patch["first"], len(patch["stages"]), int(patch["cells"].sum())) == (0, 5, 8) and patch["said"] == after
    cut_anywhere(out)
    for layer, region, value, says in (
        ("blocks.11", "all", "zero", "did you mean blocks.1"),
        ("9", "all", "zero", "layers 0 to 5"),
        ("1", "0.5,1.5", "zero", "outside"),
        ("1", tmp_path / "turned.png", "zero", "40x60"),
        ("1", "left", "zero", "--region"),
        ("1", "all", "zero.png", "unknown value"),
    ):
        wrong = ["--layer", layer, "--region", region, "--value", value, "--out", tmp_path / "x"]
        code, _, error = call(*base, *wrong)
        assert code == 2 and says in error and error.count("\n") == 1, error
