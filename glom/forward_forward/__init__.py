"""Forward-forward networks (Hinton 2022, arXiv 2212.13345): every layer learns by its own goodness."""

from glom.forward_forward.goodness import Rule, normalise
from glom.forward_forward.learner import Diverged, Learner
from glom.forward_forward.settings import MODES, FFSettings, preset

__all__ = ["MODES", "Diverged", "FFSettings", "Learner", "Rule", "normalise", "preset"]
