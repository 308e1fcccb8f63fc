"""What a run found, as tables."""

from __future__ import annotations

from probes.explorer.tables import lines_table, result_tables


def columns(table: dict) -> dict[str, list]:
    return {column["title"]: column["values"] for column in table["columns"]}


def test_every_list_of_a_result_is_a_table_with_its_intervals():
    layers = [
        {"layer": "a", "ari": [0.2, 0.1, 0.3], "ci95": {"top1": [1, 2]}, "held": {"nmi": 0.5, "deep": {"x": {"y": 1}}}},
        {"layer": "b", "ari": [0.4, 0.3, 0.5], "top1": 91.0, "top1_ci95": [90, 92], "ok": True},
    ]
    time = {"median": 2.0, "min": 1.0, "max": 3.0, "n": 3}
    result = {"n": 7, "r2": 0.123456789, "time": time, "layers": layers, "baselines": {"untrained": layers[:1]}}
    single, first, second = result_tables({**result, "settings": {"seed": 1}, "curve": [0.1] * 9})
    assert (single["name"], first["name"], second["name"]) == ("what it found", "layers", "baselines, untrained")
    assert columns(single)["found"] == ["7", "0.123457", "2"] and columns(single)["interval"][2] == "1 to 3"
    assert columns(first) == {
        "layer": ["a", "b"], "ari": [0.2, 0.4], "held nmi": [0.5, None], "top1": [None, 91.0], "ok": [None, "yes"],
    }  # fmt: skip
    ranges = {column["title"]: column.get("ranges") for column in first["columns"]}
    assert ranges["ari"] == [[0.1, 0.3], [0.3, 0.5]] and ranges["top1"] == [None, [90, 92]]
    assert result_tables({"settings": {"a": 1}, "nothing": None}) == []


def test_numbers_have_the_digits_that_they_need():
    table = lines_table("x", [{"id": "a", "small": 2e-6, "large": 1234.5, "zero": 0.0, "mixed": "word"}, {"mixed": 1}])
    assert table is not None
    digits = {column["title"]: column["digits"] for column in table["columns"] if column["kind"] == "number"}
    assert digits == {"small": 9, "large": 0, "zero": 1}
    assert (
        columns(table)["mixed"] == ["word", "1"] and lines_table("x", [{"index": 0, "deep": {"a": {"b": {}}}}]) is None
    )
