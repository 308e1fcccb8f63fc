"""GLOM: columns of levels that settle into islands of agreement (Hinton 2021, arXiv 2102.12627).

`config.py` what decides the network; `attention.py` agreement within a level, over all columns or those near by;
`model.py` the network and its iterations; `objectives.py` what it is trained on; `goodness.py` each level's agreement,
for forward-forward; `checkpoint.py` weights on disk.
"""

from typing import TYPE_CHECKING

from glom.consensus.config import GlomConfig
from glom.lazy import lazily

if TYPE_CHECKING:
    from glom.consensus.model import Glom

__all__ = ["Glom", "GlomConfig"]

__getattr__, __dir__ = lazily(__name__, {"Glom": "glom.consensus.model"})
