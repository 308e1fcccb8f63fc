"""The poster's claims on islands, on the machine itself and on percepts as fields, each with what decides it."""

from __future__ import annotations

from experiments.claims.rules import ahead, flat, kept
from experiments.claims.run import Check, Claim, Evidence

ISLANDS, APM, FIELD = "Islands of agreement", "The machine: fold, unfold", "Percepts as fields"
NO_WEIGHTS = "the poster's pre-trained video transformer could not be had where the results were made"
NO_BASELINE = "no baseline on the same pictures, so it decides nothing"
EMERGE = "verdict/"
LITE = "islands-bsds500-efficientnet-lite0.json"
TINY = "islands-bsds500-mvit-v2-tiny.json"
OVERFIT = "overfit-bsds500.json"
SKIP = "results/students[name=apm]/"


def islands() -> list[Claim]:
    """What the panel on islands says."""
    weave = {
        f"{name}_{part}": f"emerge-{file}.json#{EMERGE}minus_{part}/0"
        for name, file in (("dense", "weave"), ("mean", "weave-mean"))
        for part in ("untrained", "pixels")
    }
    accuracies = {
        "dense_accuracy": "emerge-weave.json#accuracy/0",
        "mean_accuracy": "emerge-weave-mean.json#accuracy/0",
    }
    return [
        Claim(
            ISLANDS,
            "Islands of agreement that are objects arise in a video transformer trained by classification alone.",
            (
                _emerged(
                    "emerge-weave-class.json",
                    {**weave, **accuracies},
                    "class textures, MViT's own class token: ARI {ari:.3f}, {over_untrained:+.3f} "
                    "over the untrained network (95 % from {over_untrained_low:+.3f}), {over_pixels:+.3f} over colour "
                    "+ position (from {over_pixels_low:+.3f}), accuracy {accuracy:.3f}; every location classifying "
                    "{dense_untrained:+.3f} and {dense_pixels:+.3f} at {dense_accuracy:.3f}; by the mean of tokens "
                    "{mean_untrained:+.3f} and {mean_pixels:+.3f} at {mean_accuracy:.3f}",
                ),
            ),
        ),
        Claim(
            ISLANDS,
            "The same where only outlines tell the classes apart.",
            (
                _emerged(
                    "emerge-outline-long.json",
                    {},
                    "every location classifies: ARI {ari:.3f}, {over_untrained:+.3f} over the untrained network (95 % "
                    "from {over_untrained_low:+.3f}), {over_pixels:+.3f} over colour + position (from "
                    "{over_pixels_low:+.3f}), accuracy {accuracy:.4f}",
                ),
            ),
        ),
        Claim(
            ISLANDS,
            "In photographs, a pre-trained network's islands match people's outlines better than colour and place do.",
            (_outlined(LITE, "efficientnet-lite0, an ImageNet classifier (no video)"),),
        ),
        Claim(
            ISLANDS,
            "A video transformer that watches a photograph as a motionless video shows such islands layer by layer.",
            (_outlined(TINY, "mvit-v2-tiny"),),
        ),
        Claim(ISLANDS, "The published pictures of islands in MViT's layers.", untested=NO_WEIGHTS),
    ]  # fmt: skip


def _emerged(file: str, more: dict[str, str], says: str) -> Evidence:
    """Islands that grew in training, at a layer and cut chosen on the other half of the pictures."""
    gains = {
        f"over_{name}{end}": f"{EMERGE}minus_{name}/{i}"
        for name in ("untrained", "pixels")
        for i, end in enumerate(("", "_low"))
    }
    values = {"ari": EMERGE + "trained/ari/0", "accuracy": "accuracy/0", **gains, **more}
    checks = (*ahead("over_untrained_low", "over_pixels_low"), kept("accuracy"))
    return Evidence(file, values, checks, says, n=EMERGE + "n")


def _outlined(file: str, what: str) -> Evidence:
    """Islands against people's outlines, at a layer chosen on the other half of the pictures."""
    held = "held_out/"
    gains = {
        f"{name}{end}": f"{held}minus_{name}/covering/{i}"
        for name in ("pixels", "untrained")
        for i, end in enumerate(("", "_low", "_high"))
    }
    more = {
        "covering": held + "covering",
        "people": "human/covering",
        "edge": held + "boundary_f",
        "edge_pixels": "baselines/pixels/boundary_f",
    }
    return Evidence(
        file,
        {**gains, **more},
        ahead("pixels_low", "untrained_low"),
        f"{what}, its layer chosen on the other half of the pictures: covering {{covering:.3f}}, {{pixels:+.3f}} "
        "[{pixels_low:+.3f}, {pixels_high:+.3f}] over colour + position, {untrained:+.3f} [{untrained_low:+.3f}, "
        "{untrained_high:+.3f}] over the untrained network; boundary F {edge:.3f} where colour + position has "
        "{edge_pixels:.3f}; people cover {people:.3f}",
        lacking="was made before a layer was chosen on other pictures",
        n="n",
    )


def machine() -> list[Claim]:
    """What the panels on the machine itself say."""
    return [*_columns(), *_layers()]


def _columns() -> list[Claim]:
    curve = "curves[order={0}]/accuracy/{1}"
    orders = ("random", "raster", "centre", "spread")
    return [
        Claim(
            APM,
            "Columns can be unfolded in any order: the percept is the same.",
            (
                Evidence(
                    "fields-asynchrony-apm-cifar10.json",
                    {name: curve.format(name, -1) for name in orders}
                    | {f"{name}_first": curve.format(name, 0) for name in orders}
                    | {"first": "counts/0", "all": "locations"},
                    tuple(Check(name, relation, "random") for name in orders[1:] for relation in ("<=", ">=")),
                    "accuracy of the read-out after all {all} columns: {random:.3f} in random order, {raster:.3f} row "
                    "by row, {centre:.3f} from the centre, {spread:.3f} spread; after {first}: {random_first:.3f}, "
                    "{raster_first:.3f}, {centre_first:.3f}, {spread_first:.3f}",
                    n="n",
                ),
            ),
        ),
        Claim(
            APM,
            "Columns do not talk to each other: one picture's columns run on several devices at once.",
            (
                Evidence(
                    "scaling.json",
                    {"speedup": "columns_speedup", "ceiling": "columns_ceiling"},
                    (kept("speedup", "ceiling"),),
                    "two processes: {speedup:.2f} times as fast, where the machine allows {ceiling:.2f}",
                    command="apm bench scaling --out benchmarks/results",
                ),
            ),
        ),
        Claim(
            APM,
            "Memory does not grow with the number of columns.",
            (
                Evidence(
                    "memory.json",
                    {
                        "first": "rows[execution=plain][side=7]/activations_mib",
                        "last": "rows[execution=plain][side=128]/activations_mib",
                        "plain": "growth/plain/activations",
                        "streamed": "ratio_224_over_7",
                    },
                    (flat("last", "first"),),
                    "published widths, one step of the formula as released: what it keeps grows {plain:.0f} times from "
                    "7 x 7 to 128 x 128 columns ({first:.1f} to {last:.0f} MiB); streamed, which the released code "
                    "is not, the whole process's peak at 224 x 224 is {streamed:.3f} times that at 7 x 7",
                    True,
                    "apm bench memory --out benchmarks/results",
                ),
            ),
        ),
    ]


def _layers() -> list[Claim]:
    return [
        Claim(
            APM,
            "Layers can be skipped: a machine maps an early layer's grid straight to the last one's.",
            (
                Evidence(
                    "shortcut-glom-tiny.json",
                    {
                        "r2": SKIP + "r2",
                        "r2_low": SKIP + "r2_ci95/0",
                        "accuracy_kept": SKIP + "accuracy_kept",
                        "flops": SKIP + "flops_ratio",
                    },
                    (*ahead("r2_low"), kept("accuracy_kept")),
                    "glom-tiny, stem to last stage: R² {r2:.3f} over the mean grid (95 % from {r2_low:.3f}), "
                    "{accuracy_kept:.2f} of the accuracy kept at {flops:.2f} of the skipped layers' FLOPs",
                    n="results/n",
                ),
            ),
        ),
        Claim(
            APM,
            "A machine pre-trained on a teacher's grids gives its features in one pass.",
            (
                Evidence(
                    "grid-apm-cifar10.json",
                    {
                        "r2": "results/r2",
                        "r2_low": "results/r2_ci95/0",
                        "knn": "results/knn/apm",
                        "own": "results/knn/teacher",
                    },
                    (*ahead("r2_low"), kept("knn", "own")),
                    "apm-cifar10 on held-out pictures: R² {r2:.3f} over the mean grid (95 % from {r2_low:.3f}); k-NN "
                    "accuracy {knn:.1f} % where the teacher has {own:.1f} %",
                    n="results/n",
                ),
            ),
        ),
    ]


def fields() -> list[Claim]:
    """What the panels on percepts as fields say."""
    return [*_one_picture(), *_between(), *_finer()]


def _one_picture() -> list[Claim]:
    return [
        Claim(
            FIELD,
            "Overfit on one picture's token from random weights, the machine grows islands that follow the picture.",
            (_overfit("token"),),
        ),
        Claim(FIELD, "The same where a column holds the local patch I(x, y).", (_overfit("token+patch"),)),
        Claim(
            FIELD,
            "Colours of pictures in the wild can be decoded from one column.",
            (
                Evidence(
                    "decode.json",
                    {"first": "images/0/psnr", "second": "images/1/psnr", "third": "images/2/psnr"},
                    (),
                    "machines overfit on three BSDS500 photographs, 64 x 64 locations: {first:.1f}, {second:.1f} and "
                    "{third:.1f} dB",
                ),
            ),
            NO_BASELINE,
        ),
        Claim(
            FIELD,
            "The same by a machine pre-trained on COCO, for pictures it has not seen.",
            untested="COCO and DINOv2's weights could not be had where the results were made",
        ),
    ]


def _between() -> list[Claim]:
    return [
        Claim(
            FIELD,
            "Between two pictures' columns lies a continuous field of percepts.",
            (
                Evidence(
                    "interpolate-apm-cifar10.json",
                    {"largest": "largest_step", "length": "length", "lipschitz": "lipschitz", "steps": "steps"},
                    (),
                    "one pair of pictures, {steps} columns on the way: the largest of the steps is {largest:.2f} of "
                    "the whole, the way {length:.1f} times the distance of its ends, Lipschitz {lipschitz:.1f}",
                ),
            ),
            NO_BASELINE,
        ),
    ]


def _finer() -> list[Claim]:
    return [
        Claim(
            FIELD,
            "Asked on finer grids than the teacher's, it is nearer the teacher at that resolution than bilinear.",
            (
                Evidence(
                    "upsample-grid.json",
                    _scales("minus_bilinear", "at"),
                    ahead(*(f"at{s}_low" for s in (2, 4, 8))),
                    "overfit on the one grid: cosine over bilinear {at2:+.3f}, {at4:+.3f}, {at8:+.3f} at 2, 4 and 8 "
                    "times the teacher's, {pictures} pictures",
                    n="n",
                ),
            ),
        ),
        Claim(
            FIELD,
            "The same where the machine has learnt the grids of further views of the picture.",
            (
                Evidence(
                    "upsample-views.json",
                    {**_scales("minus_bilinear", "at"), **_scales("minus_average", "average")},
                    ahead(*(f"{name}{s}_low" for name in ("at", "average") for s in (2, 4, 8))),
                    "cosine over bilinear {at2:+.3f}, {at4:+.3f}, {at8:+.3f}; over the same views averaged "
                    "{average2:+.3f} [{average2_low:+.3f}, {average2_high:+.3f}], {average4:+.3f}, {average8:+.3f}; "
                    "{pictures} pictures",
                    n="n",
                ),
            ),
        ),
    ]


def _overfit(name: str) -> Evidence:
    """Islands of a machine overfit on one picture, over every baseline that the rules name."""
    row = f"rows[name={name}]/"
    gains = {"own": "specific", "position": "minus_position_code", "noise": "minus_noise"}
    values = {name: f"{row}{path}/mean" for name, path in gains.items()}
    values |= {f"{name}_low": f"{row}{path}/ci95/0" for name, path in gains.items()}
    return Evidence(
        OVERFIT,
        {"ari": row + "ari/mean", **values},
        ahead("own_low", "position_low", "noise_low"),
        "{pictures} photographs: ARI {ari:.3f} with people's outlines, {own:+.3f} over that with other pictures' (95 % "
        "from {own_low:+.3f}), {position:+.3f} over the positional code's (from {position_low:+.3f}), {noise:+.3f} "
        "over noise in the picture's place (from {noise_low:+.3f})",
        n="n",
    )


def _scales(gain: str, name: str) -> dict[str, str]:
    """A gain and its interval at 2, 4 and 8 times the teacher's grid."""
    ends = enumerate(("", "_low", "_high"))
    return {f"{name}{s}{end}": f"scales[scale={s}]/{gain}/{i}" for i, end in ends for s in (2, 4, 8)}
