"""Masked autoencoders with a class head, and their adaptation to one test picture."""

from glom.masked.adapt import PRESETS, Adapter, AdaptSettings
from glom.masked.network import HeadShape, MAEShape, MaskedClassifier, build_mae
from glom.masked.parts import PARTS, Masked, View, load_masked

__all__ = [
    "PARTS",
    "PRESETS",
    "AdaptSettings",
    "Adapter",
    "HeadShape",
    "MAEShape",
    "Masked",
    "MaskedClassifier",
    "View",
    "build_mae",
    "load_masked",
]
