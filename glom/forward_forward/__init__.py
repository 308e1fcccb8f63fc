"""Forward-forward networks (Hinton 2022, arXiv 2212.13345): every layer learns by its own goodness."""

from typing import TYPE_CHECKING

from glom.forward_forward.settings import MODES, FFSettings, preset
from glom.lazy import lazily

if TYPE_CHECKING:
    from glom.forward_forward.goodness import Rule, normalise
    from glom.forward_forward.learner import Diverged, Learner

__all__ = ["MODES", "Diverged", "FFSettings", "Learner", "Rule", "normalise", "preset"]

_PLACES = {
    "Rule": "glom.forward_forward.goodness",
    "normalise": "glom.forward_forward.goodness",
    "Diverged": "glom.forward_forward.learner",
    "Learner": "glom.forward_forward.learner",
}
__getattr__, __dir__ = lazily(__name__, _PLACES)
