"""A grid of features cut into islands.

`forms.py` how a cut is written; `cuts.py` a grid cut in any of these ways; `graph.py` cuts of the graph of agreements
(normalised cut, TokenCut, MaskCut, threshold); `tree.py` parts within wholes; `settling.py` agreement attention on
frozen features; `maps.py` what is done with maps of labels.
"""

from probes.partition.cuts import Cutting, partition
from probes.partition.forms import Partition, parse_partition
from probes.partition.maps import Labels, colour_position, components, count_islands, enlarge

__all__ = [
    "Cutting",
    "Labels",
    "Partition",
    "colour_position",
    "components",
    "count_islands",
    "enlarge",
    "parse_partition",
    "partition",
]
