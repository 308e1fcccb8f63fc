"""Which table or figure of the poster is asked for, and at what scale."""

from __future__ import annotations

from dataclasses import dataclass

from glom import settings
from glom.errors import InputError, unknown
from glom.methods_list import LISTED
from glom.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class Request(Settings):
    """What is asked for. "home" is what ships or lies under the data root; "poster" the published sets and teachers."""

    name: str = setting("", "table1 ... table4, figure-...; none: what there is.", argument=True)
    scale: str = setting("home", "home (what ships, minutes) or poster.", choices=("home", "poster"))
    methods: tuple[str, ...] = setting((), "Only these.", letter="m", shown="the table's")
    limit: int = setting(0, "Pictures of each data set at most; 0: the table's.", least=0, metavar="N")
    root: str = setting("", "Folder that holds data sets.", key="data_root", metavar="DIR")
    severities: tuple[int, ...] = setting((5,), "Of table2 at home, such as 5,3.", least=1, most=5)
    shots: int = setting(16, "Labelled pictures a class.", least=1)
    checkpoint: str = setting("", "For figures at poster scale: of `apm grid train`.", letter="c")
    seed: int = settings.seed()
    device: str = settings.device()
    jobs: str = settings.jobs()
    corrupt: str = settings.corrupt()
    pictures: str = setting(
        "", "all, or untouched: those no study used.", choices=("", "all", "untouched"), shown="at home untouched"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.methods:
            if name not in LISTED:
                raise unknown("method", name, LISTED)
        for what, values in (("method", self.methods), ("severity", self.severities)):
            if len(set(values)) < len(values):
                raise InputError(f"name each {what} once; got {', '.join(map(str, values))}")
        if not self.severities:
            raise InputError("`severities` takes numbers such as 5,3, got none")
