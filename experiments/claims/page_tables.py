"""Tables of the pages, made from records alone: `<!-- table NAME -->` in a page names one of `TABLES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from experiments.bench import report
from experiments.claims import page_networks
from experiments.claims.page_cells import lines, p_value, record, signed, spanned, table, tables_of_data
from experiments.claims.run import Results
from glom.errors import InputError

SEVERITIES = "reproduce-table2-severities.json"
CLEAN = "apm-trained-clean.json"
CHOSEN = tuple(
    (data, net)
    for data in ("bsds500", "coco-objects")
    for net in ("efficientnet-lite0", "mvit-v2-tiny", "mvit-v2-photo")
)

PUBLISHED = {  # FG-ARI and mBO in percent. AKOrN, attention model: autonomousvision/akorn, scripts/synths.md;
    "tetrominoes": (  # slot attention (Locatello et al. 2020): as Emami et al. 2021, table 1, quotes it
        ("AKOrN, published", "88.6 ± 1.7", "56.4 ± 0.9"),
        ("the same, up-tiled × 4", "93.1 ± 0.3", "56.3 ± 0.0"),
        ("slot attention, published", "99.5 ± 0.2", "-"),
    ),
    "multi-dsprites": (
        ("AKOrN, published", "78.3 ± 1.3", "63.0 ± 1.8"),
        ("the same, up-tiled × 4", "87.1 ± 1.0", "60.2 ± 1.9"),
        ("slot attention, published", "91.3 ± 0.3", "-"),
    ),
}


def severities(results: Results) -> str:
    """The trained machine beside its teacher, a row a severity."""
    found = results.get(SEVERITIES)
    if found is None:
        command = "apm reproduce table2 --methods zero-shot,apm-trained --severities 1,2,3,4,5"
        return f"Not recorded yet: `{command}` ({SEVERITIES}).\n"
    averages = [r for r in found["rows"] if r["kind"] == "average"]
    clean = {r["method"]: r for r in record(results, CLEAN)["rows"]}
    own = clean["apm-trained"]
    gain = signed(own["difference"], own["difference_ci95"])
    measured = (f"{clean[name]['measured']:.1f}" for name in ("zero-shot", "apm-trained"))
    rows = [("CIFAR-10, the same pictures, clean", *measured, gain)]
    for own in (r for r in averages if r["method"] == "apm-trained"):
        [teacher] = [r for r in averages if r["method"] == "zero-shot" and r["dataset"] == own["dataset"]]
        gain = signed(own["gain"]["measured"], own["gain"]["ci95"])
        rows.append((own["dataset"], f"{teacher['measured']:.1f}", f"{own['measured']:.1f}", gain))
    return lines(("pictures", "teacher", "`apm-trained`", "difference [95 %]"), ("---", "--:", "--:", "---"), rows)


def execution(results: Results) -> str:
    """What a test-time step costs beside the published loop."""
    return report.markdown({name: record(results, f"{name}.json") for name in report.BENCHES})


def objective(file: str, results: Results) -> str:
    """What a study of objectives confirmed on other pictures than it chose on."""
    found = record(results, file)["confirmation"]
    rows = []
    for r in found["rows"]:
        best = min(r["minus_controls"].items(), key=lambda item: item[1]["difference"], default=None)
        over = f"{signed(best[1]['difference'], best[1]['ci95'])} over `{best[0]}`" if best else ""
        rows.append(
            (
                f"`{r['candidate']}`",
                f"{r['top1']:.1f}",
                signed(r["difference"], r["ci95"]),
                p_value(r.get("p_holm")),
                over,
            )
        )
    heads = (
        "candidate",
        "top-1",
        "minus teacher [95 %]",
        f"p (Holm, {found['tried']})",
        "minus its best control [95 %]",
    )
    return lines(heads, ("---", "--:", "---", "---", "---"), rows)


def unseen(file: str, results: Results) -> str:
    """What the confirmed candidates gain over their teacher on data sets that no choice has seen, a column a set."""
    found = record(results, file)["confirmation"]
    held = _unseen_sets(found)
    rows = []
    for n, row in enumerate(found["unseen"]["rows"]):
        cells = (signed(one["rows"][n]["difference"], one["rows"][n]["ci95"]) for one in held.values())
        rows.append((f"`{row['candidate']}`", *cells))
    heads = (f"{name} ({one['pictures']}; {one['teacher_top1']:.1f})" for name, one in held.items())
    return lines(("candidate", *heads), ("---",) * (1 + len(held)), rows)


def adds(file: str, results: Results) -> str:
    """What overfitting adds on these sets to the best plain use of the same information, and what a test could see."""
    found = record(results, file)["confirmation"]
    held = _unseen_sets(found)
    rows = []
    for n, row in enumerate(found["unseen"]["rows"]):
        if row["kind"] != "apm":
            continue
        cells = []
        for one in held.values():
            name, least = min(one["rows"][n]["minus_controls"].items(), key=lambda item: item[1]["difference"])
            cells.append(f"{signed(least['difference'], least['ci95'])} `{name}`")
        needed = row["needed"]
        power = ("" if row["detectable"] is None else f"{row['detectable']:.1f}", f"{needed:,}" if needed else "")
        rows.append((f"`{row['candidate']}`", *cells, *power))
    heads = ("candidate", *held, "seen with 80 % power", "pictures needed")
    return lines(heads, ("---",) * (1 + len(held)) + ("--:", "--:"), rows)


def _unseen_sets(found: Any) -> dict[str, Any]:
    """{short name: the set's summary} of the further data sets, and all of them together."""
    names = [name.rpartition("@")[0] or name for name in found["settings"]["on"]]
    return {name.rpartition("/")[2]: found["sets"][name] for name in names} | {"all": found["unseen"]}


def conditions(results: Results) -> str:
    """What the trained machine gains over the teacher under each condition."""
    found = record(results, "objective-glom-tiny.json")["confirmation"]
    names = ("prior-0", "prior-5", "prior-mean")
    by = {r["candidate"]: r["conditions"] for r in found["rows"]}
    own = found["teacher_conditions"]
    rows = [(c, f"{own[c]:.1f}", *(f"{by[name][c]:+.1f}" for name in names)) for c in sorted(own)]
    return lines(("condition", "teacher", *(f"`{name}`" for name in names)), ("---", *["--:"] * 4), rows)


def emergence(results: Results) -> str:
    """Islands that grew in training, a row a recipe."""
    rows = []
    for name in ("weave", "weave-mean", "weave-class", "outline", "outline-long"):
        r = record(results, f"emerge-{name}.json")
        own, accuracy = r["verdict"]["trained"], 100 * r["accuracy"][0]
        gains = (signed(v[0], v[1:], 3) for v in (r["verdict"]["minus_untrained"], r["verdict"]["minus_pixels"]))
        low, high = own["ari"][1:]
        best = f"{own['ari'][0]:.3f} [{low:.3f}, {high:.3f}], {own['layer']}, {own['cut']}"
        failed = [what for what, met in r["verdict"]["reached"].items() if not met and what != "all"]
        rows.append((f"`{name}`", f"{r['steps']:,}", f"{accuracy:.2f}", best, *gains, "; ".join(failed) or "nothing"))
    heads = (
        "recipe",
        "steps",
        "accuracy (%)",
        "trained at its best",
        "minus untrained",
        "minus colour + position",
        "missed",
    )
    return lines(heads, ("---", "--:", "--:", "---", "---", "---", "---"), rows)


def emergence_ablation(results: Results) -> str:
    """One thing changed at a time in the training of islands, beside both baselines."""
    rows = []
    for r in record(results, "emerge-ablation.json")["rows"]:
        own = r["trained"]
        place = f"{spanned(own['ari'][0], own['ari'][1:], 3)}, {own['layer']}, {own['cut']}"
        gains = (signed(r[key][0], r[key][1:], 3) for key in ("minus_untrained", "minus_pixels"))
        rows.append((f"`{r['change']}`", f"{100 * r['accuracy'][0]:.1f}", place, *gains))
    heads = ("change", "accuracy (%)", "ARI at its best", "minus untrained", "minus colour + position")
    return lines(heads, ("---", "--:", "---", "---", "---"), rows)


def islands(file: str, results: Results) -> str:
    """Islands against people's outlines: the layer chosen elsewhere, both baselines, people; then every layer."""
    found = record(results, file)
    held = found.get("held_out")
    if held is None:
        raise InputError(f"{file} was made before a layer was chosen on other pictures")
    rows = [
        (f"layer {_layers(held['layers'])}, chosen on other pictures", held),
        ("colour + position", found["baselines"]["pixels"]),
        (f"untrained, layer {_layers(held['untrained']['layers'])}, chosen likewise", held["untrained"]),
        ("people", found["human"]),
        *((f"layer {r['layer']}", r) for r in found["layers"]),
    ]
    keys = ("ari", "nmi", "boundary_f", "covering_best")
    cells = [
        (
            name,
            f"{r['covering']:.3f} [{', '.join(f'{x:.3f}' for x in r['ci95']['covering'])}]",
            *(f"{r[key]:.3f}" for key in keys),
        )
        for name, r in rows
    ]
    return lines(("", "covering", "ARI", "NMI", "boundary F", "best person's covering"), ("---",) * 6, cells)


def layer_and_cut(chosen: Mapping[str, Any]) -> str:
    """Nothing of what has none: slots, people."""
    layer = f"{chosen['layer']}, " if "layer" in chosen else ""
    return f"{layer}`{chosen['partition']}`" if "partition" in chosen else ""


def islands_chosen(results: Results) -> str:
    """Layer and cut chosen on training pictures: the network, both baselines, and what it gains on them."""
    rows = []
    for data, backbone in CHOSEN:
        whole = record(results, f"islands-chosen-{data}-{backbone}.json")
        found = whole["chosen"]
        each = [
            (f"{backbone}, {found['n']} of {data}, chosen on {found['on']['n']}", found, None),
            ("colour + position", found["pixels"], found["minus_pixels"]),
            ("untrained", found["untrained"], found["minus_untrained"]),
        ]
        if "slot_attention" in whole:
            each.append(("slot attention", whole["slot_attention"], whole["slot_attention"]["islands_minus"]))
            each += [("people", whole["human"], None)] if whole["human"] else []
        for name, r, gains in each:
            own = [f"{r[key]:.3f}" for key in ("covering", "mbo", "ari")]
            gained = [signed(gains[k]["mean"], gains[k]["ci95"], 3) if gains else "" for k in ("covering", "mbo")]
            rows.append((name, layer_and_cut(r), *own, *gained))
    heads = ("", "layer, cut", "covering", "mBO", "ARI", "network's gain in covering", "in mBO")
    return lines(heads, ("---", "---", *("--:",) * 3, "---", "---"), rows)


def islands_made(results: Results) -> str:
    """Islands on the made sets beside both baselines and slot attention on the same pictures, and published figures."""
    rows = []
    for data, published in PUBLISHED.items():
        found = record(results, f"islands-chosen-{data}-mvit-v2-tiny.json")
        own, slots = found["chosen"], found["slot_attention"]
        each = (
            (f"mvit-v2-tiny, {own['n']} of {data}, chosen on {own['on']['n']}", own, None),
            ("colour + position", own["pixels"], own["minus_pixels"]),
            ("untrained", own["untrained"], own["minus_untrained"]),
            ("slot attention here, trained on the set", slots, slots["islands_minus"]),
        )
        for name, r, gains in each:
            values = [spanned(100 * r[key], [100 * x for x in r["ci95"][key]], 1) for key in ("fg_ari", "mbo")]
            gained = [""] * 2
            if gains:
                both = (gains[key] for key in ("fg_ari", "mbo"))
                gained = [signed(100 * gain["mean"], [100 * x for x in gain["ci95"]]) for gain in both]
            rows.append((name, layer_and_cut(r), *values, *gained))
        rows += [(name, "", *printed, "", "") for name, *printed in published]
    heads = ("%", "layer, cut", "FG-ARI", "mBO", "islands' gain in FG-ARI", "in mBO")
    return lines(heads, ("---", "---", "--:", "--:", "---", "---"), rows)


def _layers(numbers: Sequence[int]) -> str:
    return " and ".join(str(n) for n in dict.fromkeys(numbers))


def readings(results: Results) -> str:
    """The nearest reading of every printed number of table 4."""
    names = {
        "params_m": "M parameters",
        "gflops_ideal": "GFLOPs, ideal",
        "gflops_measured": "GFLOPs, measured",
        "memory_ideal_gb": "GB, ideal",
        "memory_measured_gb": "GB, measured",
    }
    rows = [
        (
            r["model"],
            r["t"],
            names[key],
            f"{near['published']:g}",
            near["reading"],
            f"{near['value']:.1f}",
            f"{near['off_percent']:+.1f} %",
            str(near["searched"]),
            str(near["close"]),
        )
        for r in record(results, "compute.json")["rows"]
        for key, near in r["nearest"].items()
    ]
    heads = ("model", "t", "number", "printed", "nearest reading", "gives", "off", "tried", "close")
    return lines(heads, ("---",) * 9, rows)


def upsample(results: Results) -> str:
    """The machine between the teacher's locations, beside both baselines, a column a scale."""
    views = record(results, "upsample-views.json")["scales"]
    grid = record(results, "upsample-grid.json")["scales"]
    rows = [
        (name, *(f"{s[key]:.3f}" for s in scales))
        for name, scales, key in (
            ("APM", views, "cosine"),
            ("bilinear", views, "cosine_bilinear"),
            ("the same views, averaged", views, "cosine_average"),
            ("APM, one grid and no views", grid, "cosine"),
        )
    ]
    rows += [
        (name, *(signed(s[key][0], s[key][1:], 3) for s in scales))
        for name, scales, key in (
            ("APM over bilinear", views, "minus_bilinear"),
            ("APM over the average", views, "minus_average"),
            ("one grid: APM over bilinear", grid, "minus_bilinear"),
        )
    ]
    rows += [
        (name, *(f"{s[key]:.2f}" for s in views))
        for name, key in (
            ("R²: APM", "r2"),
            ("R²: bilinear", "r2_bilinear"),
            ("R²: the same views, averaged", "r2_average"),
        )
    ]
    return lines(("", *(f"{s['scale']} x" for s in views)), ("---",) * (1 + len(views)), rows)


def matrix(file: str, results: Results) -> str:
    """R² of every student between every two layers: rows from, columns to."""
    found = record(results, file)["results"]
    students, layers = found["students"], found["layers"]
    pairs: dict[tuple[int, int], Any] = {(p["from"], p["to"]): p for p in found["pairs"]}
    rows = []
    for start in layers[:-1]:
        between = (pairs.get((start, end)) for end in layers[1:])
        cells = (" / ".join(f"{p[s]['r2']:.3f}" for s in students) if p else "" for p in between)
        rows.append((f"from {start}", *cells))
    return lines((" / ".join(students), *(f"to {end}" for end in layers[1:])), ("---",) * len(layers), rows)


def channels(results: Results) -> str:
    """Numbers that the fold keeps a patch, and what they buy."""
    rows = []
    for count in (1, 2, 4, 12):
        found = record(results, f"grid-channels-{count}.json")
        own, apm = found["results"], found["settings"]["apm"]
        rows.append(
            (
                str(apm["channels"]),
                f"{100 * apm['channels'] / (3 * apm['patch'] ** 2):.0f} %",
                spanned(own["r2"], own["r2_ci95"], 3),
                spanned(own["rgb"]["psnr"], own["rgb"]["psnr_ci95"], 1),
                f"{own['parameters'] / 1e6:.1f} M",
            )
        )
    heads = ("scalars a 2 x 2 patch", "of the picture's numbers", "R² [95 %]", "PSNR, dB [95 %]", "parameters")
    return lines(heads, ("--:",) * 5, rows)


TABLES: dict[str, Callable[[Results], str]] = {
    **{name: partial(table, spec) for name, spec in tables_of_data().items()},
    "severities": severities,
    "objective-glom-tiny": partial(objective, "objective-glom-tiny.json"),
    "objective-efficientnet-lite0": partial(objective, "objective-efficientnet-lite0.json"),
    "objective-conditions": conditions,
    "objective-shift": partial(objective, "objective-shift.json"),
    "objective-shift-unseen": partial(unseen, "objective-shift.json"),
    "objective-shift-adds": partial(adds, "objective-shift.json"),
    "emergence": emergence,
    "emergence-ablation": emergence_ablation,
    "execution": execution,
    "islands-efficientnet-lite0": partial(islands, "islands-bsds500-efficientnet-lite0.json"),
    "islands-mvit-v2-tiny": partial(islands, "islands-bsds500-mvit-v2-tiny.json"),
    "islands-chosen": islands_chosen,
    "islands-made": islands_made,
    "readings": readings,
    "upsample": upsample,
    **{
        f"shortcut-matrix-{name}": partial(matrix, f"shortcut-matrix-{name}.json")
        for name in ("glom-tiny", "mvit-v2-tiny")
    },
    "grid-channels": channels,
    **page_networks.TABLES,
}
