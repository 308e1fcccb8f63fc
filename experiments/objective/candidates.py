"""What the objective study tries, each written down before it ran: plain read-outs, and ways of overfitting an APM.

Every candidate answers for single pictures, without labels and without memory. One that overfits names the plain ones
that use the same information (its controls): a gain is due to overfitting only as far as it is a gain over them, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.objective.readouts import agreeing, islands_of, largest_island, mean_p, pulled
from experiments.objective.trials import Seen, balance, two_log_p, views_log_p, weighted_views
from glom.columns import grid_queries
from glom.errors import InputError, unknown
from glom.methods.views import entropy

TEACHER, TOKEN = "teacher", "apm"


@dataclass(frozen=True)
class Candidate:
    """One way to answer.

    Attributes:
        name: in tables. what: in a few words. kind: "plain" (nothing is overfit) or "apm".
        controls: the plain candidates, or the teacher, that an APM's gain is measured against.
        read: the log-probabilities (n, C) of a block.
        needs: "", "second", "prior" or "shape": what has to be there.
    """

    name: str
    what: str
    kind: str
    controls: tuple[str, ...]
    read: Callable[[Seen], Tensor]
    needs: str = ""


CANDIDATES: dict[str, Candidate] = {}
Read = Callable[[Seen], Tensor]


def plain(name: str, what: str, needs: str = "") -> Callable[[Read], Read]:
    """Register a read-out without any overfitting."""

    def keep(read: Read) -> Read:
        CANDIDATES[name] = Candidate(name, what, "plain", (TEACHER,), read, needs)
        return read

    return keep


def apm(name: str, what: str, *controls: str, needs: str = "") -> Callable[[Read], Read]:
    """Register a way of overfitting, with its controls; the teacher if there are none."""

    def keep(read: Read) -> Read:
        CANDIDATES[name] = Candidate(name, what, "apm", controls or (TEACHER,), read, needs)
        return read

    return keep


def available(there: Collection[str], asked: Sequence[str] = ()) -> list[Candidate]:
    """The candidates that can be tried with what is `there` of their needs; of these, those `asked` for and their
    controls, or all. Raises `InputError` for one that is unknown or cannot be tried."""
    found = {name: c for name, c in CANDIDATES.items() if not c.needs or c.needs in there}
    for name in asked:
        if name not in CANDIDATES:
            raise unknown("candidate", name, CANDIDATES)
        if name not in found:
            raise InputError(f"{name} cannot be tried: nothing here gives it what it needs ({CANDIDATES[name].needs})")
    wanted = {*asked, *(control for name in asked for control in CANDIDATES[name].controls)}
    return [c for name, c in found.items() if not asked or name in wanted]


def _by_island(s: Seen, grid: Tensor) -> Tensor:
    """The mean probability over locations, each speaking with its island's mean feature: (n, h, w, F) -> (n, C)."""
    return mean_p(*s.log_p(pulled(grid, islands_of(grid)).flatten(1, 2)).unbind(1))


# -- nothing overfit ---------------------------------------------------------------------------------------------------


@plain("flip", "with the mirror image, mean probability")
def _flip(s: Seen) -> Tensor:
    return mean_p(s.log_p(s["token"]), s.log_p(s["flip"]))


@plain("blur", "with a blurred copy, mean probability")
def _blur(s: Seen) -> Tensor:
    return mean_p(s.log_p(s["token"]), s.log_p(s["blur"]))


@plain("views", "surest tenth of small crops, mean probability")
def _views(s: Seen) -> Tensor:
    return views_log_p(s)


@plain("crops", "large crops, mean probability")
def _crops(s: Seen) -> Tensor:
    return mean_p(*s.log_p(s["crops"]).unbind(1))


@plain("bn-32", "batch norm mixed with the picture's, prior 32")
def _bn32(s: Seen) -> Tensor:
    return s.log_p(s["bn-32"])


@plain("bn-128", "batch norm mixed with the picture's, prior 128")
def _bn128(s: Seen) -> Tensor:
    return s.log_p(s["bn-128"])


@plain("bn-32+flip", "bn-32 with the mirror image, mean probability")
def _bn32_flip(s: Seen) -> Tensor:
    return mean_p(s.log_p(s["bn-32"]), s.log_p(s["bn-32-flip"]))


@plain("grid-islands", "the teacher's grid, its largest island")
def _grid_islands(s: Seen) -> Tensor:
    return s.log_p(largest_island(s["grid"]))


@plain("grid-agreeing", "the teacher's grid, locations that agree")
def _grid_agreeing(s: Seen) -> Tensor:
    return s.log_p(agreeing(s["grid"]))


@plain("grid-pulled", "the teacher's grid, its islands' mean probability")
def _grid_pulled(s: Seen) -> Tensor:
    return _by_island(s, s["grid"])


@plain("views-weighted", "all small crops, the surer the heavier")
def _views_weighted(s: Seen) -> Tensor:
    log_p, sure = weighted_views(s)
    return mean_p(*log_p, weights=sure)


@plain("bn-9", "batch norm mixed with the picture's, prior 9: a tenth")
def _bn9(s: Seen) -> Tensor:
    return s.log_p(s["bn-9"])


@plain("bn-4", "the same, prior 4: a fifth")
def _bn4(s: Seen) -> Tensor:
    return s.log_p(s["bn-4"])


@plain("bn-1", "the same, prior 1: half")
def _bn1(s: Seen) -> Tensor:
    return s.log_p(s["bn-1"])


@plain("second", "with the second teacher, mean probability", needs="second")
def _second(s: Seen) -> Tensor:
    return two_log_p(s)


@plain("second-log", "the same, mean log-probability", needs="second")
def _second_log(s: Seen) -> Tensor:
    return ((s.log_p(s["token"]) + _second_alone(s)) / 2).log_softmax(-1)


@plain("second-alone", "the second teacher", needs="second")
def _second_alone(s: Seen) -> Tensor:
    assert s.second is not None
    return s.second.head(s["second"]).log_softmax(-1)


@plain("shape-0", "the APM trained across styles as it is", needs="shape")
def _shape_0(s: Seen) -> Tensor:
    return s.log_p(s.trained("shape").tokens[0])


@plain("shape-mean", "teacher and that APM, mean probability", needs="shape")
def _shape_mean(s: Seen) -> Tensor:
    return mean_p(s.log_p(s["token"]), _shape_0(s))


@plain("prior-0", "the trained APM as it is", needs="prior")
def _prior_0(s: Seen) -> Tensor:
    return s.log_p(s.trained("prior").tokens[0])


@plain("prior-agreeing", "the same, locations that agree", needs="prior")
def _prior_agreeing(s: Seen) -> Tensor:
    return s.log_p(agreeing(s.trained("prior").fields[0]))


@plain("prior-mean", "teacher and trained APM, mean probability", needs="prior")
def _prior_mean(s: Seen) -> Tensor:
    return mean_p(s.log_p(s["token"]), _prior_0(s))


@plain("prior-surer", "teacher or trained APM, whichever is surer", needs="prior")
def _prior_surer(s: Seen) -> Tensor:
    own, other = s.log_p(s["token"]), _prior_0(s)
    return torch.where((entropy(own) <= entropy(other))[:, None], own, other)


@plain("prior-flip", "the trained APM, with the mirror image", needs="prior")
def _prior_flip(s: Seen) -> Tensor:
    assert s.prior is not None
    with torch.no_grad():
        mirrored = s.prior(s["picture"].flip(-1), grid_queries(*s["grid"].shape[1:3]), ("token",)).token
    return mean_p(_prior_0(s), s.log_p(mirrored))


# -- an APM, overfit ---------------------------------------------------------------------------------------------------


@apm("early", "the token, read before it is the teacher's")
def _early(s: Seen) -> Tensor:
    return s.log_p(s.trained("token").tokens[s.early])


@apm("iterations", "read-outs of many steps, the surer the heavier")
def _iterations(s: Seen) -> Tensor:
    steps = [s.log_p(tokens) for tokens in s.trained("token").tokens.values()]
    return mean_p(*steps, weights=torch.stack([(-entropy(p)).exp() for p in steps]))


@apm("seeds", "three early machines, the closer the heavier")
def _seeds(s: Seen) -> Tensor:
    runs = [s.trained(name) for name in ("token", "early-1", "early-2")]
    weights = torch.stack([1 / r.errors[s.early].clamp_min(1e-6) for r in runs])
    return mean_p(*(s.log_p(r.tokens[s.early]) for r in runs), weights=weights)


@apm("grid", "token and grid together; the token")
def _grid(s: Seen) -> Tensor:
    return s.log_p(s.trained("grid").token)


@apm("field", "token and grid together; the field's mean")
def _field(s: Seen) -> Tensor:
    return s.log_p(s.trained("grid").field.mean((1, 2)))


@apm("field-early", "the same before it is the teacher's")
def _field_early(s: Seen) -> Tensor:
    return s.log_p(s.trained("grid").fields[s.early].mean((1, 2)))


@apm("islands", "token and grid; the field's largest island", "grid-islands")
def _islands(s: Seen) -> Tensor:
    return s.log_p(largest_island(s.trained("grid").field))


@apm("agreeing", "token and grid; locations of the field that agree", "grid-agreeing")
def _agreeing(s: Seen) -> Tensor:
    return s.log_p(agreeing(s.trained("grid").field))


@apm("views-token", "the surest views' mean token", "views")
def _views_token(s: Seen) -> Tensor:
    return s.log_p(s.trained("views-token").token)


@apm("views-field", "each sure view where its crop lies", "views")
def _views_field(s: Seen) -> Tensor:
    return s.log_p(s.trained("views-field").field.mean((1, 2)))


@apm("crops-field", "each large crop where it lies", "crops")
def _crops_field(s: Seen) -> Tensor:
    return s.log_p(s.trained("crops-field").field.mean((1, 2)))


@apm("views-weighted-token", "all views' mean token, the surer the heavier", "views-weighted")
def _views_weighted_token(s: Seen) -> Tensor:
    return s.log_p(s.trained("views-weighted").token)


@apm("bn-token", "the token of bn-9", "bn-9")
def _bn_token(s: Seen) -> Tensor:
    return s.log_p(s.trained("bn-token").token)


@apm("bn-early", "the same, read before it is bn-9's", "bn-9")
def _bn_early(s: Seen) -> Tensor:
    return s.log_p(s.trained("bn-token").tokens[s.early])


@apm("bn-grid", "token and grid of bn-9; the token", "bn-9")
def _bn_grid(s: Seen) -> Tensor:
    return s.log_p(s.trained("bn-grid").token)


@apm("pulled", "token and grid, locations pulled to their islands; the token", "grid-pulled", "grid-islands")
def _pulled(s: Seen) -> Tensor:
    return s.log_p(s.trained("pulled").token)


@apm("pulled-field", "the same; the islands' mean probability", "grid-pulled", "grid-islands")
def _pulled_field(s: Seen) -> Tensor:
    return _by_island(s, s.trained("pulled").field)


@apm("pulled-local", "pulled, with a local patch; the token", "grid-pulled", "grid-islands")
def _pulled_local(s: Seen) -> Tensor:
    return s.log_p(s.trained("pulled-local").token)


@apm("pulled-local-field", "the same; the islands' mean probability", "grid-pulled", "grid-islands")
def _pulled_local_field(s: Seen) -> Tensor:
    return _by_island(s, s.trained("pulled-local").field)


@apm("pseudo", "token and the surest views' class", "views")
def _pseudo(s: Seen) -> Tensor:
    return s.log_p(s.trained("pseudo").token)


@apm("entropy", "token, and its own entropy")
def _entropy(s: Seen) -> Tensor:
    return s.log_p(s.trained("entropy").token)


@apm("field-entropy", "token and grid, and the locations' entropy")
def _field_entropy(s: Seen) -> Tensor:
    return s.log_p(s.trained("field-entropy").token)


@apm("pair", "the mean of its token and its mirror image's", "flip")
def _pair(s: Seen) -> Tensor:
    return s.log_p(s.trained("pair").token)


@apm("two-teachers", "both teachers' tokens at once, two heads", "second", "second-alone", needs="second")
def _two(s: Seen) -> Tensor:
    assert s.second is not None
    own, other = s.trained("two-teachers").token.tensor_split([s["token"].shape[-1]], dim=-1)
    return mean_p(s.log_p(own), s.second.head(other / balance(s)).log_softmax(-1))


@apm("two-pseudo", "token and the two teachers' class", "second", "second-log", "second-alone", needs="second")
def _two_pseudo(s: Seen) -> Tensor:
    return s.log_p(s.trained("two-pseudo").token)


@apm("shape-2", "the APM trained across styles, 2 steps", "shape-0", "shape-mean", needs="shape")
def _shape_2(s: Seen) -> Tensor:
    return s.log_p(s.trained("shape").tokens[2])


@apm("shape-5", "the same, 5 steps of token and grid", "shape-0", "shape-mean", needs="shape")
def _shape_5(s: Seen) -> Tensor:
    return s.log_p(s.trained("shape").tokens[5])


@apm("prior-2", "the trained APM, 2 steps of token and grid", "prior-0", "prior-mean", needs="prior")
def _prior_2(s: Seen) -> Tensor:
    return s.log_p(s.trained("prior").tokens[2])


@apm("prior-5", "the trained APM, 5 steps of token and grid", "prior-0", "prior-mean", needs="prior")
def _prior_5(s: Seen) -> Tensor:
    return s.log_p(s.trained("prior").tokens[5])


@apm("prior-20", "the trained APM, 20 steps of token and grid", "prior-0", "prior-mean", needs="prior")
def _prior_20(s: Seen) -> Tensor:
    return s.log_p(s.trained("prior").tokens[20])


@apm("prior-entropy", "the trained APM, 5 steps on its locations' entropy", "prior-0", needs="prior")
def _prior_entropy(s: Seen) -> Tensor:
    return s.log_p(s.trained("prior-entropy").token)


def answers(s: Seen, names: Sequence[str]) -> dict[str, list[int]]:
    """The class each candidate gives each picture; -1, never right, where its scores are not finite.

    Args:
        names: of `CANDIDATES`; `teacher` and `apm` (the published objective) always come first.
    """
    scores = {TEACHER: s.log_p(s["token"]), TOKEN: s.log_p(s.trained("token").token)}
    scores |= {name: CANDIDATES[name].read(s) for name in names}
    return {name: torch.where(p.isfinite().all(-1), p.argmax(-1), -1).tolist() for name, p in scores.items()}
