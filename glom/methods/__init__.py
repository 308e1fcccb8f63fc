"""The tables' methods under one protocol: `fit` on a few labelled pictures where there are any, then `predict` each.

A new method is one class, one decorator and one line in `glom.methods_list`, which `apm methods list` shows.
"""

from glom.methods import (  # noqa: F401  (each registers its own)
    adapted,
    bn_alpha,
    boosted,
    c_tpt,
    cache,
    eata,
    lame,
    masked,
    memory,
    mta,
    prompts,
    rlcf,
    roid,
    sar,
    tent,
    tps,
    trained,
    tuned,
    voting,
    zero2,
    zero_shot,
)
from glom.methods.base import METHODS, FewShot, Method, Task
from glom.methods.composed import make_method, method_class

__all__ = ["METHODS", "FewShot", "Method", "Task", "make_method", "method_class"]
