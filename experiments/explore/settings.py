"""What is put on a page."""

from __future__ import annotations

from dataclasses import dataclass

from glom import settings
from glom.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class ExploreSettings(Settings):
    """Run folders and pictures on one page; pictures are looked at by one or two backbones."""

    what: tuple[str, ...] = setting(
        help="Run folders and pictures.", kind="runs or pictures", argument=True, metavar="DIR|IMAGE..."
    )
    out: str = setting("explorer.html", "The page; an older page of this kind is replaced.", letter="o", metavar="FILE")
    data: str = setting("", "Data set with a benchmark's pictures, where the run does not say.", metavar="DATA")
    backbone: str = settings.backbone("mvit-v2-photo")
    against: str = setting("", "A second backbone, under the same pointer.", metavar="B")
    layers: str = setting("all", "all, first,last, or numbers such as 0,3,7.", metavar="L")
    patch: str = setting(
        "",
        "What a button swaps the first backbone's islands and class for: its features replaced, as by `islands patch`; "
        "several with ; between, at most 8.",
        metavar="'LAYER REGION VALUE'",
    )
    classes: str | None = settings.classes()
    size: int = setting(0, "Side of the frames in pixels; 0: the backbone's.", least=0)
    device: str = settings.device()
