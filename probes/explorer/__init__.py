"""One page to look at any run with, opened from the disk: no server, no request leaves it.

`shape.py` what a page is made of; `codes.py` features made small, cosines kept; `pack.py` all of it as one run of
bytes, in a run folder and in a page; `runs.py` any run folder, `tables.py` its tables; `write.py` the page; `widget.py`
the same view in a notebook; `page/` what the browser runs.
"""

from probes.explorer.codes import WORST, encode, worst_error
from probes.explorer.pack import load, pack, store, unpack
from probes.explorer.runs import read_run, trace_of
from probes.explorer.shape import Axis, Picture, Source, Stage, View, layered, merged, picture_of, stage_of
from probes.explorer.write import PAGE_BYTES, Pages, page

__all__ = [
    "PAGE_BYTES",
    "WORST",
    "Axis",
    "Pages",
    "Picture",
    "Source",
    "Stage",
    "View",
    "encode",
    "layered",
    "load",
    "merged",
    "pack",
    "page",
    "picture_of",
    "read_run",
    "stage_of",
    "store",
    "trace_of",
    "unpack",
    "worst_error",
]
