"""What `apm bench methods` measures: apart from the work, so that a page of help loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from glom import settings
from glom.errors import InputError
from glom.settings import Settings, setting

FREE = ("zero", "views", "mta", "tps")


@dataclass(frozen=True, kw_only=True)
class MethodsBenchSettings(Settings):
    """On what it is measured."""

    data: str = settings.data(argument=True)
    methods: tuple[str, ...] = setting(FREE, "That train nothing; the first makes the views.")
    corruption: str = setting("", "name:severity; none by default.")
    teacher: str = settings.teacher("efficientnet-lite0")
    limit: int = setting(4, "Pictures.", least=1)
    rounds: int = setting(3, "Rounds, each over all the pictures.", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.methods) < 2:
            raise InputError("`methods` needs two at least: one that makes the views, and one more")
