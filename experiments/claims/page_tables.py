"""Tables of the pages, made from records alone: `<!-- table NAME -->` in a page names one of `TABLES`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from experiments.bench import report
from experiments.claims import page_fields, page_networks
from experiments.claims.page_cells import lines, p_value, record, signed, table, tables_of_data
from experiments.claims.run import Results
from glom.errors import InputError

SEVERITIES = "reproduce-table2-severities.json"
CLEAN = "apm-trained-clean.json"


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


TABLES: dict[str, Callable[[Results], str]] = {
    **{name: partial(table, spec) for name, spec in tables_of_data().items()},
    "severities": severities,
    "objective-glom-tiny": partial(objective, "objective-glom-tiny.json"),
    "objective-efficientnet-lite0": partial(objective, "objective-efficientnet-lite0.json"),
    "objective-conditions": conditions,
    "emergence": emergence,
    "execution": execution,
    "islands-efficientnet-lite0": partial(islands, "islands-bsds500-efficientnet-lite0.json"),
    "islands-mvit-v2-tiny": partial(islands, "islands-bsds500-mvit-v2-tiny.json"),
    "readings": readings,
    **page_fields.TABLES,
    **page_networks.TABLES,
}
