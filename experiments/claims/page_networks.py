"""Tables of the pages about forward-forward networks, GLOM, learned prompts and masked autoencoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from experiments.claims.page_cells import lines, record, signed
from experiments.claims.run import Results

FF_3X1000 = (
    "published-strength",
    "seed-1",
    "seed-2",
    *(f"translation-seed-{s}" for s in range(3)),
    "held-out-cost-seed-0",
)
FF_RUNS = (  # a record's name, the record of its twin where that is another one, and the published error
    ("ff-supervised-paper", None, "1.36"),
    ("ff-supervised-3x1000", None, "1.44 (50,000 pictures)"),
    *((f"ff-supervised-3x1000-{name}", "ff-twin-3x1000-125-epochs", "1.44 (50,000 pictures)") for name in FF_3X1000),
    *(
        (f"ff-supervised-3x1000-input-dropout-seed-{s}", "ff-twin-3x1000-input-dropout", "1.44 (no dropout)")
        for s in range(3)
    ),
    ("ff-supervised-jittered-3x1000", None, "0.64 (4 x 2000, 500 epochs)"),
    ("ff-supervised-quick", None, ""),
    ("ff-unsupervised-paper-100-epochs", "ff-unsupervised-paper", "1.37 (100 epochs)"),
    ("ff-unsupervised-paper", None, "1.37 (100 epochs)"),
    ("ff-unsupervised-4x1000", None, ""),
    ("ff-recurrent-2x500", "ff-recurrent-twin-2x500", "1.31 (2,000 wide, 60 epochs)"),
    ("ff-recurrent-2x2000", "ff-recurrent-twin-2x2000", "1.31 (60 epochs)"),
    ("ff-recurrent-2x2000-24-epochs", "ff-recurrent-twin-2x2000", "1.31 (60 epochs)"),
    ("ff-recurrent-2x2000-40-epochs", "ff-recurrent-twin-2x2000", "1.31 (60 epochs)"),
    ("ff-local-min-25-epochs", None, "41 to 46 (twin 37 to 39)"),
    ("ff-local-max-25-epochs", "ff-local-min-25-epochs", "41 to 46 (twin 37 to 39)"),
    ("ff-conv-cwc-cifar10", "ff-conv-twin-cifar10-30-epochs", "21.89"),
    ("ff-conv-cwc-fashion-mnist", "ff-conv-twin-fashion-mnist", "7.69"),
    ("ff-conv-cwc-mnist", "ff-conv-twin-mnist", "0.58"),
)
FF_DATA = {"cifar10": "CIFAR-10", "fashion-mnist": "Fashion-MNIST", "mnist": "MNIST"}
GLOM_RUNS = ("mask-4000-steps", "mask", "denoise", "contrast", "forward-forward", "forward-forward-blobs")


def forward_forward(results: Results) -> str:
    """Errors of forward-forward networks, beside what was published and what backpropagation has."""
    rows = []
    for name, other, published in FF_RUNS:
        found = record(results, f"{name}.json")
        own = found["result"]
        twin = record(results, f"{other or name}.json")["result"]
        low, high = _share(own["test_error"], own["test_pictures"])
        beside = ("", "")
        if twin["baseline_test_error"] is not None:
            error, epochs = twin["baseline_test_error"], twin["baseline_epochs"]
            beside = (f"{error:.2f} ({epochs} epochs)", f"{own['test_error'] - error:+.2f}")
        second = next(iter(own["readouts"])) != "softmax"
        softmax = f"{own['readouts']['softmax']:.2f}" if second else ""
        error = f"{own['test_error']:.2f} [{low:.2f}, {high:.2f}]"
        what = _ff_name(found["settings"], found["machine"]["threads"])
        rows.append((what, published, error, softmax, *beside, f"`{name}.json`"))
    heads = ("run", "published", "here [95 %]", "one-pass softmax", "twin", "minus twin", "record")
    return lines(heads, ("---", "---", "--:", "--:", "--:", "--:", "---"), rows)


def _ff_name(settings: dict[str, Any], threads: int) -> str:
    """A run in words: what is not as in most runs is said."""
    widths = settings["widths"]
    if settings["mode"] == "conv":
        shape = "-".join(map(str, widths))
        return f"conv `{settings['objective']}`, {shape}, {settings['epochs']} epochs, {FF_DATA[settings['data']]}"
    local = settings["mode"] == "local"
    size = f"{len(widths)} x {1024 * widths[0] if local else widths[0]}"
    mode = "unsupervised + linear" if settings["mode"] == "unsupervised" else settings["mode"]
    more = [f"`--jitter {settings['jitter']}`"] if settings["jitter"] else []
    dropped = settings.get("input_dropout", 0.0)
    more += [f"`--input-dropout {dropped}`"] if dropped else []
    more += [f"CIFAR-10, `--sign {settings['sign']}`"] if local else []
    # 0.06 and 0.002 act as strongly here as 0.03 and 0.001 do in the published program.
    more += [f"`--peer 0.06 --decay {settings['decay']}`"] if settings["peer"] == 0.06 else []
    more += [f"`--iterations {settings['iterations']}`"] if mode == "recurrent" and settings["iterations"] != 8 else []
    more += [f"`--seed {settings['seed']}`"] if settings["seed"] else []
    more += ["fp32"] if settings["precision"] == "fp32" else []
    more += ["both cores"] if threads == 2 else []
    return ", ".join([mode, size, f"{settings['epochs']} epochs", *more])


def _share(percent: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of n, both in percent (Wilson 1927).

    Example:
        >>> [round(bound, 2) for bound in _share(1.37, 10_000)]
        [1.16, 1.62]
    """
    z, share = 1.959964, percent / 100
    middle, scale = share + z * z / (2 * n), 1 + z * z / n
    half = z * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return 100 * (middle - half) / scale, 100 * (middle + half) / scale


def ff_speed(results: Results) -> str:
    """Work of a forward-forward epoch a second, beside a large matrix product's."""
    names = {
        "trained_model_share": "published work, in the second epoch on MNIST: right, wrong and neutral rows through "
        "every layer, two gradients",
        "model_share": "published work, every row in its gradient",
        "large_share": "work done, every row in its gradient",
        "matmul_share": "time of a step's products alone, of the time of the step",
        "matmul_share_bf16": "the same in bf16",
    }
    both = [record(results, file) for file in ("ff.json", "ff-two-threads.json")]
    rows = [(text, *(_spread(found, key) for found in both)) for key, text in names.items()]
    rate = [f"{found['large_share'] / found['matmul_share']:.2f}" for found in both]
    rows.append(("rate of the step's products (third line over fourth)", *rate))
    heads = ("work counted, a second, beside the large product's", "one thread", "two")
    return lines(heads, ("---", "--:", "--:"), rows)


def _spread(found: dict[str, Any], key: str) -> str:
    """A median of ratios with the least and the largest."""
    return f"{found[key]:.2f} ({found['spread'][key]['min']:.2f} to {found['spread'][key]['max']:.2f})"


def glom_levels(results: Results) -> str:
    """Islands by level, and the best level's ARI beside both baselines, a row an objective."""
    every = [record(results, f"glom-{name}.json") for name in GLOM_RUNS]
    rows = []
    for name, found in zip(GLOM_RUNS, every, strict=True):
        levels = _each(found["levels"], "islands")
        best = [_best(found, key) for key in ("ari_wholes", "ari_parts")]
        rows.append(
            (f"{_objective(name)} ({found['steps']})", f"{found['training']['seconds'] / 60:.0f}", levels, *best)
        )
    first = every[0]
    plain = [_best({"levels": first["untrained"]}, key) for key in ("ari_wholes", "ari_parts")]
    rows.append(("untrained", "", _each(first["untrained"], "islands"), *plain))
    pixels = first["pixels"]
    spans = [f"{pixels[key]:.3f} {_bounds(pixels['ci95'][key])}" for key in ("ari_wholes", "ari_parts")]
    rows.append(("colour + position", "", "", *spans))
    heads = (
        "objective (steps)",
        "minutes",
        "islands, levels 1 / 2 / 3 / 4",
        "best ARI, wholes; minus colour + position [95 %]; minus untrained [95 %]",
        "the same, parts",
    )
    return lines(heads, ("---", "--:", "---", "---", "---"), rows)


def _objective(name: str) -> str:
    return {"mask-4000-steps": "`mask`", "forward-forward-blobs": "`forward-forward --negatives blobs`"}.get(
        name, f"`{name}`"
    )


def _each(levels: Sequence[dict[str, Any]], key: str, digits: int = 1) -> str:
    return " / ".join(f"{level[key]:.{digits}f}" for level in levels)


def _bounds(bounds: Sequence[float]) -> str:
    return f"[{', '.join(f'{x:.3f}' for x in bounds)}]"


def _best(found: dict[str, Any], key: str) -> str:
    """The level with the highest ARI, and what it has over both baselines at that level."""
    at = max(range(len(found["levels"])), key=lambda i: found["levels"][i][key])
    text = f"{found['levels'][at][key]:.3f} (level {at + 1})"
    gains = (
        [found["differences"][beside][at][key] for beside in ("pixels", "untrained")] if "differences" in found else []
    )
    return "; ".join([text, *(signed(gain[0], gain[1:], 3) for gain in gains)])


def glom_falls(results: Results) -> str:
    """Fewer islands from each level to the next, and the thresholds at which every level has fewer."""
    rows = []
    for name in GLOM_RUNS:
        found = record(results, f"glom-{name}.json")
        falls = [signed(f["islands"][0], f["islands"][1:]) for f in found["differences"]["fall"]]
        at = [t for t, both in found["thresholds"].items() if _falls(both["trained"])]
        raw = "yes" if _falls([level["islands_raw"] for level in found["levels"]]) else "no"
        rows.append((f"{_objective(name)} ({found['steps']})", *falls, ", ".join(at) or "none", raw))
    heads = (
        "objective (steps)",
        "fewer from level 1 to 2 [95 %]",
        "2 to 3",
        "3 to 4",
        "thresholds at which every level has fewer",
        "with the mean left in",
    )
    return lines(heads, ("---",) * 6, rows)


def _falls(counts: Sequence[float]) -> bool:
    return all(low > high for low, high in pairwise(counts))


def glom_thresholds(results: Results) -> str:
    """Islands by level of the longest training, a row a threshold."""
    found = record(results, f"glom-{GLOM_RUNS[0]}.json")
    rows = [
        (t, *(" / ".join(f"{x:.1f}" for x in both[k]) for k in ("trained", "untrained")))
        for t, both in found["thresholds"].items()
    ]
    own = f"{found['threshold']:g}, the level's mean left in"
    rows.append((own, *(_each(found[key], "islands_raw") for key in ("levels", "untrained"))))
    return lines(("threshold", "trained, levels 1 / 2 / 3 / 4", "untrained"), ("---",) * 3, rows)


def glom_told_apart(results: Results) -> str:
    """How many real pictures each level of a forward-forward GLOM tells from what they are asked beside."""
    asked = {
        "hybrid": "hybrids with a seam",
        "hybrid_soft_seam": "hybrids, the seam faded over 16 rows",
        "own_top_moved": "the picture, its top half moved sideways",
        "blobs": "blends through large soft blobs",
    }
    rows = []
    for name, trained in (("forward-forward", "hybrids"), ("forward-forward-blobs", "blends")):
        task = record(results, f"glom-{name}.json")["task"]
        for key, text in asked.items():
            if key in task["trained_told_apart"]:
                cells = (task[f"{who}_told_apart"][key] for who in ("trained", "untrained"))
                rows.append((trained, text, *(" / ".join(f"{100 * x:.1f}" for x in each) for each in cells)))
    heads = ("trained against", "told from (%)", "levels 1 / 2 / 3 / 4", "untrained")
    return lines(heads, ("---",) * 4, rows)


def prompt_settings(results: Results) -> str:
    """Top-1 on held-out training pictures by context, a row an optimiser, a rate and a length."""
    found = record(results, "few-shot-settings.json")["rows"]
    names: dict[str | int, str] = {"a photo of a": "'a photo of a'", 4: "4 drawn vectors", 16: "16 drawn vectors"}
    by: dict[tuple[str, float, int], dict[str | int, float]] = {}
    for r in found:
        s = r["settings"]
        by.setdefault((s["optimiser"], s["lr"], s["epochs"]), {})[s["words"]] = r["top1"]
    titles = {"sgd": "SGD", "adam": "Adam"}
    rows = [
        (f"{titles[optimiser]}, {lr:g}", str(epochs), *(f"{by[optimiser, lr, epochs][words]:.1f}" for words in names))
        for optimiser, lr, epochs in sorted(by, key=lambda key: (key[0] != "sgd", *key[1:]))
    ]
    return lines(("optimiser, rate", "epochs", *names.values()), ("---", *["--:"] * 4), rows)


def glom_ellipses(results: Results) -> str:
    """Part, whole, pose and islands in the world of ellipses: a row an update, then one a condition."""
    found = record(results, "glom-ellipses.json")
    named = [(f"update {row['iteration']}", row) for row in found["iterations"]]
    named += [(f"noise {row['jitter']:g}", row) for row in found["noise"]]
    named += [("turned {:.0f} to {:.0f} degrees".format(*row["degrees"]), row) for row in found["turned"]]
    named += [("size, stretch, shear {:g} to {:g} times as trained".format(*r["times"]), r) for r in found["shaped"]]
    named += [("untrained", found["untrained"]), ("places alone", found["places"]), ("by chance", found["chance"])]
    measures = ("whole", "part", "pose_error", "cos_within", "cos_between", "ari")

    def cell(row: dict[str, Any], measure: str) -> str:
        if measure not in row:
            return ""
        return f"{row[measure]:.3f} {_bounds(row['ci95'][measure])}" if "ci95" in row else f"{row[measure]:.3f}"

    heads = ("after", "kind of whole", "part", "pose, variance left over", "cosine within", "between", "ARI of wholes")
    rows = [(name, *(cell(row, m) for m in measures)) for name, row in named]
    return lines(heads, ("---", *["--:"] * 6), rows)


TABLES: dict[str, Callable[[Results], str]] = {
    "forward-forward": forward_forward,
    "ff-speed": ff_speed,
    "glom-levels": glom_levels,
    "glom-ellipses": glom_ellipses,
    "glom-falls": glom_falls,
    "glom-thresholds": glom_thresholds,
    "glom-told-apart": glom_told_apart,
    "prompt-settings": prompt_settings,
}
