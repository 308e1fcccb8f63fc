"""Sizes of a masked autoencoder and of its class head; nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass

from glom.errors import InputError


@dataclass(frozen=True)
class MAEShape:
    """A masked autoencoder's sizes; the defaults are `mae-tiny`'s.

    Attributes:
        size, patch: side in pixels of pictures and of patches.
        width, layers, heads: of the encoder. decoder_width, decoder_layers, decoder_heads: of the decoder.
        mask_ratio: share of the patches that the encoder does not see.
    """

    size: int = 32
    patch: int = 4
    width: int = 128
    layers: int = 4
    heads: int = 4
    decoder_width: int = 64
    decoder_layers: int = 1
    decoder_heads: int = 2
    mask_ratio: float = 0.75

    def __post_init__(self) -> None:
        if self.size % self.patch:
            raise InputError(f"pictures of {self.size} px cannot be cut into patches of {self.patch} px")
        if self.width % (4 * self.heads) or self.decoder_width % (4 * self.decoder_heads):
            raise InputError("encoder and decoder widths must be multiples of 4 times their heads")
        if not 0 < self.mask_ratio < 1:
            raise InputError(f"the masked share must lie between 0 and 1, got {self.mask_ratio}")

    @property
    def side(self) -> int:
        """Patches a side."""
        return self.size // self.patch


@dataclass(frozen=True)
class HeadShape:
    """The class head's sizes; ViT-Base's for the publication's network.

    Attributes:
        width, layers, heads: of its transformer.
        pool: "class" reads the class token, as published; "mean" the mean of the patches' tokens.
    """

    width: int = 768
    layers: int = 12
    heads: int = 12
    pool: str = "class"
