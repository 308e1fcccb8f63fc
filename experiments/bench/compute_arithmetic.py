"""Parameters and multiply-adds from first principles: every matrix product of a model, written down with its sizes.

A product (rows x inner) @ (inner x outer), done `times` times, costs rows inner outer times multiply-adds forward.
Its backward pass costs one such amount for each of its two operands whose gradient is wanted. Multiply-adds are counted
once; as floating-point operations they count two. Norms, activations and additions are left out, as
`torch.utils.flop_counter` leaves them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from glom.apm import APMConfig

GIGA = 1e9


@dataclass(frozen=True)
class Product:
    """One matrix product.

    Attributes:
        rows, inner, outer, times: its sizes, and how often it is done.
        back: operands that receive a gradient: 2, 1 (frozen weights, or an input that needs none) or 0.
        counted: False for a matrix-vector product, which `torch.utils.flop_counter` passes over.
    """

    name: str
    rows: int
    inner: int
    outer: int
    back: int = 2
    times: int = 1
    counted: bool = True

    @property
    def madds(self) -> int:
        """Multiply-adds of the forward pass."""
        return self.rows * self.inner * self.outer * self.times


@dataclass(frozen=True)
class Cost:
    """A model's parameters and products; costs of parts add."""

    parameters: int
    products: tuple[Product, ...]

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.parameters + other.parameters, self.products + other.products)

    def forward(self, counted_only: bool = False) -> int:
        """Multiply-adds of one forward pass."""
        return sum(p.madds for p in self.products if p.counted or not counted_only)

    def step(self, counted_only: bool = False) -> int:
        """Multiply-adds of one forward and one backward pass."""
        return sum(p.madds * (1 + p.back) for p in self.products if p.counted or not counted_only)


def _block(width: int, tokens: int, partners: int, times: int, back: int = 2) -> tuple[Product, ...]:
    """A block's products: attention of every token to so many partners, and a four times wider MLP."""
    return (
        Product("qkv", tokens, width, 3 * width, back, times),
        Product("scores", tokens, width, partners, 2, times),
        Product("mix", tokens, partners, width, 2, times),
        Product("out", tokens, width, width, back, times),
        Product("mlp 1", tokens, width, 4 * width, back, times),
        Product("mlp 2", tokens, 4 * width, width, back, times),
    )


def _chain(name: str, rows: int, *widths: int) -> list[Product]:
    """The products of linear layers one after another."""
    return [Product(f"{name} {i}", rows, *pair) for i, pair in enumerate(pairwise(widths), 1)]


def transformer(width: int, layers: int, tokens: int, batch: int = 1, frozen: bool = False) -> Cost:
    """`layers` pre-norm blocks with a four times wider MLP (Vaswani et al. 2017).

    A token costs 12 width^2 a layer in its linear layers and 2 tokens width in attention: linear and quadratic in their
    number. Parameters a layer: 12 width^2 + 13 width.
    """
    products = _block(width, tokens, tokens, batch * layers, 1 if frozen else 2)
    return Cost(layers * (12 * width**2 + 13 * width), products)


def clip_image(
    side: int = 14, patch: int = 16, width: int = 768, layers: int = 12, out: int = 512, batch: int = 1
) -> Cost:
    """CLIP's image tower: side x side patches and a class token (Radford et al. 2021)."""
    tokens, pixels = side * side + 1, 3 * patch * patch
    embedding = pixels * width + width + tokens * width + 2 * width
    ends = Cost(
        embedding + 2 * width + width * out,
        (
            Product("patches", side * side, pixels, width, 1, batch),
            Product("projection", 1, width, out, 2, batch),
        ),
    )
    return ends + transformer(width, layers, tokens, batch)


def clip_text(
    batch: int = 1,
    frozen: bool = False,
    context: int = 77,
    words: int = 49_408,
    width: int = 512,
    layers: int = 12,
    out: int = 512,
) -> Cost:
    """CLIP's text tower and the logit scale, for `batch` prompts. `frozen`: gradients reach the words alone."""
    ends = Cost(
        words * width + context * width + 2 * width + width * out + 1,
        (Product("projection", 1, width, out, 1 if frozen else 2, batch),),
    )
    return ends + transformer(width, layers, context, batch, frozen)


def swin_b(image_size: int = 224, classes: int = 1000) -> Cost:
    """Swin-B (Liu et al. 2021): windows of 7 x 7, depths 2, 2, 18, 2, widths 128 to 1024.

    Attention inside a window makes its products linear in the number of tokens: 49 partners each. Sizes must divide
    into windows at every stage, as 224 does.
    """
    width, window, stages = 128, 7, ((2, 4), (2, 8), (18, 16), (2, 32))
    side = image_size // 4
    parameters = 48 * width + width + 2 * width
    products = [Product("patches", side * side, 48, width, 1)]
    for number, (depth, heads) in enumerate(stages):
        parameters += depth * (12 * width**2 + 13 * width + (2 * window - 1) ** 2 * heads)
        products += _block(width, side * side, window * window, depth)
        if number < len(stages) - 1:
            side //= 2
            parameters += 8 * width + 8 * width**2
            products.append(Product("merge", side * side, 4 * width, 2 * width))
            width *= 2
    parameters += 2 * width + width * classes + classes
    return Cost(parameters, (*products, Product("classes", 1, width, classes)))


def _linear(*widths: int) -> int:
    """Parameters of linear layers one after another."""
    return sum(inner * outer + outer for inner, outer in pairwise(widths))


def apm_parameters(config: APMConfig) -> int:
    """Parameters of an APM without a local patch."""
    D, F = _column(config), config.features
    total = config.channels * (3 * config.patch**2 + 1) + _linear(2 * D, *config.trunk, F)
    if config.rgb is not None:
        total += _linear(F + 2 * D, *config.rgb, 3)
    if config.readout == "attention":
        total += F + _linear(F, 3 * F) + _linear(F, F)
    return total


def _column(config: APMConfig) -> int:
    return config.channels * (config.image_size // config.patch) ** 2


def _fold(config: APMConfig) -> Product:
    return Product("fold", _column(config) // config.channels, 3 * config.patch**2, config.channels, 1)


def apm_plain(config: APMConfig, side: int, colours: bool = False) -> Cost:
    """An APM's token over side x side columns, as the formula says it: every location meets every matrix."""
    N, D, F = side * side, _column(config), config.features
    products = [_fold(config), *_chain("trunk", N, 2 * D, *config.trunk, F)]
    if colours:
        products += _chain("colours", N, F + 2 * D, *(config.rgb or ()), 3)
    if config.readout == "attention":
        products += [
            Product("query", 1, F, F),
            Product("keys and values", N, F, 2 * F),
            Product("scores", 1, F, N),
            Product("mix", 1, N, F),
            Product("out", 1, F, F),
        ]
    return Cost(apm_parameters(config), tuple(products))


def apm_columns(config: APMConfig, columns: int) -> Cost:
    """Trunk and feature head over so many columns, without the fold and without a read-out."""
    products = _chain("layer", columns, 2 * _column(config), *config.trunk, config.features)
    return Cost(apm_parameters(config), tuple(products))


def apm_folded(config: APMConfig, side: int, points: int = 0) -> Cost:
    """The same token by folded execution (`glom.execution.folded`), whose symbols these are.

    `points`: so many locations with `side` places along either axis, not a grid of side x side.
    The first layer becomes one vector and two rows a side; W_F, W_K and W_V meet as many vectors as there are heads.
    """
    N, D, F, H = points or side * side, _column(config), config.features, config.heads
    first, last = config.trunk[0], config.trunk[-1]
    products = [
        _fold(config),
        Product("W_T T", 1, D, first),
        Product("W_x p_x", side, D // 2, first, 1),
        Product("W_y p_y", side, D // 2, first, 1),
        *_chain("trunk", N, *config.trunk),
    ]
    if config.readout == "mean":
        return Cost(apm_parameters(config), (*products, Product("features", 1, last, F)))
    products += [
        Product("W_Q q", 1, F, F, counted=False),
        Product("c", 1, F, F),
        Product("a", H, F, last),
        Product("scores of h", N, last, H),
        Product("scores of p", side, F // 2, H, 1, 2),
        Product("sum of h", H, N, last),
        Product("sum of p", H, side, F // 2, 1, 2),
        Product("features", H, last, F),
        Product("W_V", 1, F, F),
        Product("out", 1, F, F),
    ]
    return Cost(apm_parameters(config), tuple(products))
