"""Reading a model's mind: islands of agreement, partitions and measures. Each name is imported when it is asked for.

found = probes.islands("photo.jpg")
found.show(), found.labels("kmeans:6"), found.score(masks)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from glom.lazy import lazily

if TYPE_CHECKING:
    from probes.agreement import cosine_to, neighbour_agreement
    from probes.look import Islands, islands
    from probes.metrics import adjusted_rand, boundary_f, covering, fg_ari, mbo, miou, nmi, panoptic_ari, score
    from probes.partition import Partition, colour_position, count_islands, parse_partition
    from probes.reduction import reduce_rgb

_PLACES = {
    "Islands": "probes.look",
    "Partition": "probes.partition",
    "adjusted_rand": "probes.metrics",
    "boundary_f": "probes.metrics",
    "colour_position": "probes.partition",
    "cosine_to": "probes.agreement",
    "count_islands": "probes.partition",
    "covering": "probes.metrics",
    "fg_ari": "probes.metrics",
    "islands": "probes.look",
    "mbo": "probes.metrics",
    "miou": "probes.metrics",
    "neighbour_agreement": "probes.agreement",
    "nmi": "probes.metrics",
    "panoptic_ari": "probes.metrics",
    "parse_partition": "probes.partition",
    "reduce_rgb": "probes.reduction",
    "score": "probes.metrics",
}

__all__ = [
    "Islands",
    "Partition",
    "adjusted_rand",
    "boundary_f",
    "colour_position",
    "cosine_to",
    "count_islands",
    "covering",
    "fg_ari",
    "islands",
    "mbo",
    "miou",
    "neighbour_agreement",
    "nmi",
    "panoptic_ari",
    "parse_partition",
    "reduce_rgb",
    "score",
]

__getattr__, __dir__ = lazily(__name__, _PLACES)
