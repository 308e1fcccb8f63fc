"""The teacher: a frozen encoder that turns pictures into tokens, and where it can into grids and classes.

Checked input, float32 output, a head from text or from a classifier; a family's adapter adds the encoder.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from PIL import Image
from torch import Tensor, nn

from glom.errors import InputError
from glom.hubs import first_line
from glom.pictures import Picture, as_images, normalised
from glom.teachers.heads import Channels, ZeroShotHead
from glom.teachers.superclasses import Superclasses, SuperclassHead
from glom.teachers.zero_shot import Templates, check_classes, class_embeddings, select_rows
from glom.transforms import transforms as T
from glom.weights import state_sha256

# A strip of more than this many pixels after resizing its shorter side is cut first; ordinary pictures never are.
MAX_RESIZED = 16_000_000
ENCODED = 32  # pictures encoded at a time
# Pixels read at a time on a processor, 8 pictures of 224 x 224: 64 at once take 1.2 to 2 times as long, as nothing that
# a layer makes of them stays in a cache, and a GiB and more.
AT_ONCE = 8 * 224 * 224


def a_few_each(images: Tensor) -> Sequence[Tensor]:
    """(B, 3, S, S) -> the same in parts of `AT_ONCE` pixels, of a picture at least."""
    return images.split(max(1, AT_ONCE // (images.shape[-1] * images.shape[-2])))


@dataclass(frozen=True)
class Runtime:
    """Where a teacher runs, and in what precision."""

    device: torch.device
    dtype: torch.dtype
    precision: str


class Teacher(ABC):
    """What every adapter offers. All outputs are float32 on `device`, whatever precision the encoder runs in.

    Attributes:
        name: what loads it again, e.g. `open_clip:ViT-L-14@openai`.
        width: F, the length of its token.
        image_size: side of the square picture `preprocess` returns, in pixels.
        mean, std: of its normalisation, for pixels in [0, 1].
        device: where it runs. precision: `fp32`, `bf16` or `fp16`.
        has_grid: whether `grid` works.
        has_text: whether `zero_shot_head` takes arbitrary class names (False: the classifier's own classes only).
        no_text: why `has_text` is False.
        classes: the classifier's own class names, or None. superclasses: what they are gathered into, or None.
        by_batch: whether the pictures of a batch change each other's tokens and grids, as in an adapted copy they may.
        notes: what loading had to assume, one sentence each.
        fingerprint: sha256 over architecture, preprocessing, weights and precision: equal exactly when the outputs are.
    """

    has_grid: bool = True
    has_text: bool = False
    no_text: str = "it has no text encoder"
    classes: tuple[str, ...] | None = None
    crops: bool = True  # whether preprocessing resizes the shorter side and crops, rather than squashing
    stems_from: str | None = None  # of an adapted copy: the fingerprint of the teacher it was
    by_batch: bool = False
    scale: float = 1.0
    logit_bias: float | None = None
    superclasses: Superclasses | None = None  # what a classifier's classes are gathered into, see `align.gathered`
    gathered_head: SuperclassHead | None = None

    def __init__(
        self,
        name: str,
        model: nn.Module,
        transform: Callable[[Image.Image], Tensor],
        width: int,
        runtime: Runtime,
        identity: str,
    ) -> None:
        """Freeze `model` and move it.

        Args:
            name: what loads it again.
            model: the encoder, in float32.
            transform: an RGB picture -> (3, S, S).
            width: F.
            runtime: device and precision.
            identity: architecture and preprocessing; with weights and precision it makes the fingerprint.
        """
        self.name, self.width, self.precision = name, width, runtime.precision
        self.device, self._dtype = runtime.device, runtime.dtype
        self.notes: list[str] = []
        self._model = model.eval().requires_grad_(False).to(runtime.device, runtime.dtype)
        self._transform, self._identity = transform, identity
        self._classifier: tuple[Tensor, Tensor | None] | None = None
        self.image_size = _side(name, transform)
        self.mean, self.std = normalisation(transform)

    # -- what a family adds ---------------------------------------------------------------------------------------

    @abstractmethod
    def _token(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in the encoder's precision -> (B, F)."""

    @abstractmethod
    def _grid(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in the encoder's precision -> (B, h, w, F_grid). Only called where `has_grid`."""

    def _texts(self, sentences: list[str]) -> Tensor:
        """N sentences -> (N, F). Only called where `has_text`."""
        raise InputError(f"{self.name} cannot read text: {self.no_text}")

    # -- what all share -----------------------------------------------------------------------------------------------

    def preprocess(self, image: Image.Image) -> Tensor:
        """`image`, of any size and mode -> (3, image_size, image_size), float32, on the CPU.

        One of exactly the input size is read whole, as it is: it is a crop already (`glom.teachers.views.seen`, the
        views of a picture, ImageNet-C's files), and resizing it once more would cut its border off.
        """
        if image.mode != "RGB":  # of one that is, a copy would be made
            image = image.convert("RGB")
        if image.size == (self.image_size, self.image_size) and not self._keeps_own_size:
            return normalised(image, self.mean, self.std)
        if self.crops:
            image = _cut_strip(image, self.image_size)
        return self._transform(image).float()

    @cached_property
    def _keeps_own_size(self) -> bool:
        """Whether preprocessing leaves the pixels of a picture of the input size where they are."""
        size = self.image_size
        ramp = torch.arange(size) * 255 // size
        pattern = torch.stack(
            [ramp[:, None].expand(size, size), ramp.expand(size, size), (ramp * 7 % 256).expand(size, size)]
        )
        image = Image.fromarray(pattern.permute(1, 2, 0).to(torch.uint8).numpy())
        return torch.allclose(self._transform(image).float(), normalised(image, self.mean, self.std), atol=1e-4)

    def resized(self, size: int) -> Self:
        """This teacher reading `size` px a side: the whole picture squeezed onto the square, normalised as ever.

        Position codes are interpolated by the architecture itself: transformers' models and convolutional networks can.
        The weights are shared.

        Raises:
            InputError: a size this architecture cannot read.
        """
        if size < 1:
            raise InputError(f"a teacher's picture needs a side of at least 1 px, got {size}")
        if size == self.image_size:
            return self
        twin = copy.copy(self)
        # The fingerprint was computed for the other size, if it was; the identity now names this one.
        twin.__dict__.pop("fingerprint", None)
        stated = isinstance(self._transform, T.Compose)  # its steps are in the identity; what was probed is not
        twin._identity = f"{self._identity} squeezed to {size}" + (
            "" if stated else f", mean {self.mean}, std {self.std}"
        )
        twin.image_size, twin.crops = size, False
        bicubic = T.InterpolationMode.BICUBIC
        twin._transform = T.Compose([T.Resize((size, size), bicubic), T.ToTensor(), T.Normalize(self.mean, self.std)])
        try:
            blank = twin.preprocess(Image.new("RGB", (size, size)))[None]
            twin.token(blank)
            if self.has_grid:
                twin.grid(blank)
        except (RuntimeError, ValueError, AssertionError) as error:
            own = self.image_size
            raise InputError(f"{self.name} cannot read {size} px ({first_line(error)}); it reads {own} px") from error
        return twin

    def token(self, images: Tensor) -> Tensor:
        """`images` (B, 3, S, S) -> (B, F) float32: the raw token. Raises `InputError` for pictures of another shape."""
        with torch.inference_mode():
            tokens = [self._token(part).float() for part in self._parts(images)]
        return torch.cat(tokens)  # an ordinary tensor: one made in inference mode could not stand in a loss

    def _parts(self, images: Tensor) -> Sequence[Tensor]:
        """Pictures to be read at a time; all where they change each other's answers, and on a device."""
        images = self._checked(images)
        if self.by_batch or images.device.type != "cpu":
            return [images]
        return a_few_each(images)

    def token_with_grad(self, images: Tensor) -> Tensor:
        """`images` (B, 3, S, S) -> (B, F) in the encoder's precision, with its graph: for methods that train it."""
        return self._token(self._checked(images))

    def texts_with_grad(self, sentences: Sequence[str]) -> Tensor:
        """N sentences -> (N, F) in the encoder's precision, inside the autograd graph. Only where `has_text`."""
        return self._texts(list(sentences))

    def grid(self, images: Tensor) -> Tensor:
        """`images` (B, 3, S, S) -> (B, h, w, F_grid) float32. Raises `InputError` where it cannot."""
        if not self.has_grid:
            raise InputError(f"{self.name} has no feature grid; choose a teacher with one, or an objective without")
        with torch.inference_mode():
            grids = [self._grid(part).float() for part in self._parts(images)]
        return torch.cat(grids).contiguous()

    def encode(self, pictures: Picture | Sequence[Picture]) -> tuple[Tensor, Tensor | None]:
        """Pictures of any kind (`glom.pictures.as_images`) -> tokens (B, F) and grids (B, h, w, F_grid) or None."""
        views = torch.stack([self.preprocess(image) for image in as_images(pictures)])
        parts = [(self.token(x), self.grid(x) if self.has_grid else None) for x in views.split(ENCODED)]
        grids = [grid for _, grid in parts if grid is not None]
        return torch.cat([token for token, _ in parts]), torch.cat(grids) if grids else None

    @property
    def model(self) -> nn.Module:
        """The frozen network itself, on `device` and in the teacher's precision."""
        return self._model

    def encode_text(self, sentences: Sequence[str]) -> Tensor:
        """N sentences -> (N, F) float32, not normalised. Raises `InputError` where `has_text` is False."""
        if not self.has_text:
            raise InputError(f"{self.name} cannot read text: {self.no_text}")
        with torch.inference_mode():
            embedded = self._texts(list(sentences)).float()
        return embedded.clone()

    @property
    def unnamed_rows(self) -> int:
        """How many rows its classifier has, where nobody knows what they are called; else 0."""
        return 0 if self._classifier is None or self.classes is not None else len(self._classifier[0])

    def name_classes(self, names: Sequence[str]) -> None:
        """Say what the rows of a classifier without class names are called, in their order.

        Raises:
            InputError: no such classifier, another number of names than of rows, or a name given twice.
        """
        if not self.unnamed_rows:
            raise InputError(f"{self.name} has no classifier whose rows could be named")
        check_classes(names)
        if len(names) != self.unnamed_rows:
            raise InputError(
                f"{len(names)} class names, but the classifier of {self.name} has {self.unnamed_rows} rows"
            )
        self.classes = tuple(names)

    def zero_shot_head(self, classes: Sequence[str], templates: Templates = ("a photo of a {}.",)) -> ZeroShotHead:
        """Class embeddings: `templates` filled with each of `classes`, encoded, normalised, averaged, normalised.

        A classifier ignores templates and selects its rows by name.

        Raises:
            InputError: neither text encoder nor classifier, unknown or repeated names, faulty templates.
        """
        if self.has_text:
            weights = class_embeddings(self.encode_text, classes, templates)
            bias = None if self.logit_bias is None else torch.full((len(classes),), self.logit_bias, device=self.device)
            return ZeroShotHead(tuple(classes), weights, self.scale, bias)
        if self.unnamed_rows:
            raise InputError(
                f"the classifier of {self.name} has {self.unnamed_rows} rows without names; "
                "give them in the order of its rows with `classes` FILE"
            )
        if self._classifier is None or self.classes is None:
            raise InputError(f"{self.name} has no zero-shot head: {self.no_text}, and no classifier with class names")
        rows = select_rows(classes, self.classes)
        if self.gathered_head is not None:
            return self.gathered_head.take(classes, rows)
        weight, row_bias = self._classifier
        bias = None if row_bias is None else row_bias[rows].float()
        return ZeroShotHead(tuple(classes), weight[rows].float(), 1.0, bias, normalize=False)

    @cached_property
    def fingerprint(self) -> str:  # type: ignore[override]
        """sha256 over architecture, preprocessing, precision and the weights' bytes; where they lie plays no part."""
        return state_sha256(self._model.state_dict(), self._identity, self.precision)

    # -- helpers ----------------------------------------------------------------------------------------------------

    def _checked(self, images: Tensor) -> Tensor:
        s = self.image_size
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, s, s) or not images.is_floating_point():
            raise InputError(
                f"{self.name} reads float pictures (B, 3, {s}, {s}) from its preprocess, "
                f"got {images.dtype} {tuple(images.shape)}"
            )
        return images.to(self.device, self._dtype)

    def use_rows(self, layer: nn.Linear, names: Sequence[str] | None) -> None:
        """Take a classifier's rows for the zero-shot head: `layer` (C, F), and the classes' `names` where known."""
        self._classifier = (layer.weight.detach(), None if layer.bias is None else layer.bias.detach())
        self.classes = None if names is None else tuple(names)
        self.no_text = "it has no text encoder"


def _side(name: str, transform: Callable[[Image.Image], Tensor]) -> int:
    """The side of the square that pictures of any shape become. Raises `InputError` where they do not all."""
    found = []
    for w, h in ((64, 64), (90, 41), (31, 70)):
        try:
            found.append(tuple(transform(Image.new("RGB", (w, h))).shape))
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{name}: its preprocessing fails on a picture of {w}x{h} ({first_line(error)})"
            ) from error
    if len(set(found)) > 1:
        raise InputError(
            f"{name}: its preprocessing makes {found[0]} of a square picture and {found[1]} of a wide one; "
            "only encoders that always read one square size are supported: let it crop or squash"
        )
    size = found[0]
    if len(size) != 3 or size[0] != 3 or size[1] != size[2]:
        raise InputError(f"{name} reads pictures of shape {size}; only square ones of 3 channels are supported")
    return size[1]


def normalisation(transform: Callable[[Image.Image], Tensor]) -> tuple[Channels, Channels]:
    """Mean and standard deviation that `transform` applies, for pixels in [0, 1].

    torchvision's step says them. Any other library's preprocessing ends in an affine map of each channel all the same,
    and what it makes of black and of white gives the map.
    """
    for step in getattr(transform, "transforms", []):
        if isinstance(step, T.Normalize):
            return _three(step.mean), _three(step.std)
    black, white = (transform(Image.new("RGB", (64, 64), (c, c, c))).double().mean((1, 2)) for c in (0, 255))
    if not bool((white > black).all()):
        raise InputError("the preprocessing makes the same of black and of white; its mean and deviation are damaged")
    return _three((-black / (white - black)).tolist()), _three((1 / (white - black)).tolist())


def _three(values: Iterable[float]) -> Channels:
    r, g, b = (float(x) for x in values)
    return r, g, b


def _cut_strip(image: Image.Image, size: int) -> Image.Image:
    """The middle of a very long or tall picture: all that a centre crop would see of it anyway."""
    w, h = image.size
    short, long = min(w, h), max(w, h)
    if size * size * long <= MAX_RESIZED * short:
        return image
    keep = 16 * short + (long - 16 * short) % 2  # same parity as before, so that the middle stays the middle
    start = (long - keep) // 2
    return image.crop((start, 0, start + keep, h) if w > h else (0, start, w, start + keep))
