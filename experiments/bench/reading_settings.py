"""What `apm bench reading` measures: apart from the work, so that a page of help loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from glom import settings
from glom.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class ReadingBench(Settings):
    """On what it is measured."""

    data: str = settings.data("imagenet-sample", "A folder of pictures, CLASS/IMAGE, or a name for one.")
    teacher: str = settings.teacher("efficientnet-lite0")
    workers: int = setting(2, "Processes that read, on either side.", least=0, metavar="N")
    batch: int = setting(64, "Pictures encoded at a time.", least=1)
    limit: int = settings.limit(default=192)
    rounds: int = setting(5, "Rounds, each over all the pictures.", least=1)
    device: str = settings.device()
