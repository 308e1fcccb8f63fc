"""The poster's claims on islands, on the machine itself and on percepts as fields, each with what decides it."""

from __future__ import annotations

from experiments.claims import Check, Claim, Evidence

ISLANDS, APM, FIELD = "Islands of agreement", "The machine: fold, unfold", "Percepts as fields"
NO_WEIGHTS = "the poster's pre-trained video transformer could not be had where the results were made"
EMERGE = "verdict/"
LITE = "islands-bsds500-efficientnet-lite0.json"
TINY = "islands-bsds500-mvit-v2-tiny.json"
OVERFIT = "overfit-bsds500.json"
SKIP = "results/students[name=apm]/"


def islands() -> list[Claim]:
    """What the panel on islands says."""
    return [
        Claim(
            ISLANDS,
            "Islands of agreement that are objects arise in a video transformer trained by classification alone.",
            (
                Evidence(
                    "emerge-weave.json",
                    {
                        "ari": EMERGE + "trained/ari/0",
                        "over_untrained": EMERGE + "minus_untrained/0",
                        "over_untrained_low": EMERGE + "minus_untrained/1",
                        "over_pixels": EMERGE + "minus_pixels/0",
                        "over_pixels_low": EMERGE + "minus_pixels/1",
                        "accuracy": "accuracy/0",
                    },
                    (
                        Check("over_untrained_low", ">", 0.15),
                        Check("over_pixels_low", ">", 0.15),
                        Check("accuracy", ">=", 0.9),
                    ),
                    "composites whose classes have textures: ARI {ari:.3f}, {over_untrained:+.3f} over the untrained "
                    "network (95 % from {over_untrained_low:+.3f}), {over_pixels:+.3f} over colour + position (from "
                    "{over_pixels_low:+.3f}); accuracy {accuracy:.3f}",
                ),
            ),
        ),
        Claim(
            ISLANDS,
            "The same where only outlines tell the classes apart.",
            (
                Evidence(
                    "emerge-outline-long.json",
                    {
                        "ari": EMERGE + "trained/ari/0",
                        "over_untrained_low": EMERGE + "minus_untrained/1",
                        "over_pixels_low": EMERGE + "minus_pixels/1",
                        "accuracy": "accuracy/0",
                    },
                    (Check("over_untrained_low", ">", 0), Check("over_pixels_low", ">", 0)),
                    "ARI {ari:.3f}, gains' lower 95 % bounds {over_untrained_low:+.3f} and {over_pixels_low:+.3f}; "
                    "accuracy {accuracy:.3f}",
                ),
            ),
        ),
        Claim(
            ISLANDS,
            "In photographs, a pre-trained network's islands match people's outlines better than colour and place do.",
            (
                Evidence(
                    LITE,
                    {
                        "covering": "layers[layer=13]/covering",
                        "gain": "layers[layer=13]/minus_pixels/covering/0",
                        "gain_low": "layers[layer=13]/minus_pixels/covering/1",
                        "ari_low": "layers[layer=13]/minus_pixels/ari/1",
                        "people": "human/covering",
                    },
                    (Check("gain_low", ">", 0),),
                    "an ImageNet classifier (no video): covering {covering:.3f}, {gain:+.3f} over colour + position "
                    "(95 % from {gain_low:+.3f}); by ARI there is no gain (from {ari_low:+.3f}); people {people:.3f}",
                ),
            ),
        ),
        Claim(
            ISLANDS,
            "A video transformer that watches a photograph as a motionless video shows such islands layer by layer.",
            (
                Evidence(
                    TINY,
                    {
                        "covering": "layers[layer=3]/covering",
                        "gain": "layers[layer=3]/minus_pixels/covering/0",
                        "gain_low": "layers[layer=3]/minus_pixels/covering/1",
                        "trained_low": "layers[layer=3]/minus_untrained/ari/1",
                    },
                    (Check("gain_low", ">", 0), Check("trained_low", ">", 0)),
                    "mvit-v2-tiny, layer 3: covering {covering:.3f}, {gain:+.3f} over colour + position (95 % from "
                    "{gain_low:+.3f}); over the untrained network in ARI from {trained_low:+.3f}",
                ),
            ),
        ),
        Claim(ISLANDS, "The published pictures of islands in MViT's layers.", untested=NO_WEIGHTS),
    ]


def machine() -> list[Claim]:
    """What the panels on the machine itself say."""
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
                    (Check("speedup", ">=", 1.8),),
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
                    {"ratio": "ratio_224_over_7"},
                    (Check("ratio", "<=", 1.15),),
                    "published widths, one step: peak at 224 x 224 columns is {ratio:.3f} times that at 7 x 7",
                    True,
                    "apm bench memory --out benchmarks/results",
                ),
            ),
        ),
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
                    (Check("r2_low", ">", 0), Check("accuracy_kept", ">=", 0.9)),
                    "glom-tiny, stem to last stage: R² {r2:.3f} over the mean grid (95 % from {r2_low:.3f}), "
                    "{accuracy_kept:.2f} of the accuracy kept at {flops:.2f} of the skipped layers' FLOPs",
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
                    (Check("r2_low", ">", 0.25),),
                    "apm-cifar10 on held-out pictures: R² {r2:.3f} over the mean grid (95 % from {r2_low:.3f}); k-NN "
                    "accuracy {knn:.1f} % where the teacher has {own:.1f} %",
                ),
            ),
        ),
    ]


def fields() -> list[Claim]:
    """What the panels on percepts as fields say."""
    row = "rows[name={0}]/"
    return [
        Claim(
            FIELD,
            "Overfit on one picture's token from random weights, the machine grows islands that follow the picture.",
            (
                Evidence(
                    OVERFIT,
                    {
                        "ari": row.format("token") + "ari/mean",
                        "own": row.format("token") + "specific/mean",
                        "own_low": row.format("token") + "specific/ci95/0",
                        "position_low": row.format("token") + "minus_position_code/ci95/0",
                        "noise": row.format("token") + "same_as_noise/mean",
                    },
                    (Check("own_low", ">", 0), Check("position_low", ">", 0)),
                    "ten photographs: ARI {ari:.3f} with people's outlines, {own:+.3f} more than with other pictures' "
                    "(95 % from {own_low:+.3f}); over the positional code alone from {position_low:+.3f}; ARI with the "
                    "islands of noise in the picture's place {noise:.2f}",
                ),
            ),
        ),
        Claim(
            FIELD,
            "The same where a column holds the local patch I(x, y).",
            (
                Evidence(
                    OVERFIT,
                    {
                        "ari": row.format("token+patch") + "ari/mean",
                        "own": row.format("token+patch") + "specific/mean",
                        "own_low": row.format("token+patch") + "specific/ci95/0",
                        "noise_low": row.format("token+patch") + "minus_noise/ci95/0",
                    },
                    (Check("own_low", ">", 0), Check("noise_low", ">", 0)),
                    "ten photographs: ARI {ari:.3f}, {own:+.3f} more than with other pictures' outlines (95 % from "
                    "{own_low:+.3f}), over the noise control from {noise_low:+.3f}",
                ),
            ),
        ),
        Claim(
            FIELD,
            "Colours of pictures in the wild can be decoded from one column.",
            (
                Evidence(
                    "decode.json",
                    {
                        "psnr": "psnr_mean",
                        "first": "images/0/psnr",
                        "second": "images/1/psnr",
                        "third": "images/2/psnr",
                    },
                    (Check("first", ">=", 30), Check("second", ">=", 30), Check("third", ">=", 30)),
                    "machines overfit on three BSDS500 photographs, 64 x 64 locations: {first:.1f}, {second:.1f} and "
                    "{third:.1f} dB",
                ),
            ),
        ),
        Claim(
            FIELD,
            "The same by a machine pre-trained on COCO, for pictures it has not seen.",
            untested="COCO and DINOv2's weights could not be had where the results were made",
        ),
        Claim(
            FIELD,
            "Between two pictures' columns lies a continuous field of percepts.",
            (
                Evidence(
                    "interpolate-apm-cifar10.json",
                    {"largest": "largest_step", "length": "length", "lipschitz": "lipschitz", "steps": "steps"},
                    (Check("largest", "<=", 0.25),),
                    "{steps} columns on the way: the largest of the steps is {largest:.2f} of the whole, the way "
                    "{length:.1f} times the distance of its ends, Lipschitz estimate {lipschitz:.1f}",
                ),
            ),
        ),
        Claim(
            FIELD,
            "Asked on finer grids than the teacher's, it is nearer the teacher at that resolution than bilinear.",
            (
                Evidence(
                    "upsample-grid.json",
                    {f"at{s}": f"scales[scale={s}]/minus_bilinear/{0}" for s in (2, 4, 8)}
                    | {f"at{s}_low": f"scales[scale={s}]/minus_bilinear/1" for s in (2, 4, 8)},
                    tuple(Check(f"at{s}_low", ">", 0) for s in (2, 4, 8)),
                    "overfit on the one grid: cosine over bilinear {at2:+.3f}, {at4:+.3f}, {at8:+.3f} at 2, 4 and 8 "
                    "times the teacher's",
                ),
            ),
        ),
        Claim(
            FIELD,
            "The same where the machine has learnt the grids of further views of the picture.",
            (
                Evidence(
                    "upsample-views.json",
                    {f"at{s}": f"scales[scale={s}]/minus_bilinear/0" for s in (2, 4, 8)}
                    | {f"at{s}_low": f"scales[scale={s}]/minus_bilinear/1" for s in (2, 4, 8)}
                    | {"average": "scales[scale=2]/minus_average/0"},
                    tuple(Check(f"at{s}_low", ">", 0) for s in (2, 4, 8)),
                    "cosine over bilinear {at2:+.3f}, {at4:+.3f}, {at8:+.3f}; over the same views averaged "
                    "{average:+.3f} at 2 times",
                ),
            ),
        ),
    ]
