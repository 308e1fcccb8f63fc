"""Slot attention: the baseline that is *made* for objects, on pixels and on any backbone's frozen features.

`config.py` what decides a network; `attention.py` the algorithm; `model.py` the two networks around it; `trained.py`
weights on disk, and the masks of a picture: `glom.slots.load(DIR).masks(picture)`.
"""

from typing import TYPE_CHECKING

from glom.lazy import lazily
from glom.slots.config import SlotConfig

if TYPE_CHECKING:
    from glom.slots.trained import TrainedSlots, load

__all__ = ["SlotConfig", "TrainedSlots", "load"]

__getattr__, __dir__ = lazily(__name__, {"TrainedSlots": "glom.slots.trained", "load": "glom.slots.trained"})
