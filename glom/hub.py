"""Models in folders and on the Hugging Face hub: `from_pretrained`, `save_pretrained`, `push_to_hub`.

The mixin is huggingface_hub's; what is written is the toolkit's own one safetensors file, which says what it is.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from huggingface_hub import ModelHubMixin, hf_hub_download

from glom.errors import InputError
from glom.hubs import hub_access, looks_like_path

CARD = """---
{{ card_data }}
---

A model of [glom-apm]({{ paper_url }}), written by `save_pretrained` as one safetensors file that holds its own
settings. It is read with `glom.load(NAME)` or the class's `from_pretrained(NAME)`.
"""


class Pretrained(
    ModelHubMixin,
    model_card_template=CARD,
    library_name="glom-apm",
    license="mit",
    paper_url="https://openreview.net/forum?id=7Ye12RLZ4P",
    tags=["glom-apm"],
):
    """A model that is kept as one file in a folder, here or on the hub.

    A class of models adds `FILE`, the file's name, `write_file` and `read_file`.
    """

    FILE: ClassVar[str]

    @abstractmethod
    def write_file(self, folder: Path) -> Path:
        """Write `folder/FILE`, whole or not at all."""

    @classmethod
    @abstractmethod
    def read_file(cls, file: Path, device: torch.device) -> Self:
        """The model of a file, ready to be asked. Raises `InputError` for a file of anything else."""

    def _save_pretrained(self, save_directory: Path) -> None:
        self.write_file(save_directory)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        name: str | Path,
        *,
        device: torch.device | str = "cpu",
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
    ) -> Self:
        """Read a model.

        Args:
            name: a file, a folder that holds one (what `save_pretrained` or a training wrote), the bare name of one
                that ships, or `OWNER/NAME` on the hub.
            device: where it then is.
            revision, token, cache_dir, force_download, local_files_only: as everywhere with the hub.

        Raises:
            InputError: nothing there, another kind of model, a damaged file, or a hub that cannot be reached.
        """
        hub: dict[str, Any] = {"revision": revision, "token": token, "cache_dir": cache_dir}
        hub |= {"force_download": force_download, "local_files_only": local_files_only}
        return cls.read_file(cls.find_file(name, hub), torch.device(device))

    @classmethod
    def find_file(cls, name: str | Path, hub: dict[str, Any]) -> Path:
        """The file a name stands for, fetched if it is the hub's. Raises `InputError` where there is none."""
        place = Path(name).expanduser()
        if place.is_dir() and (place / cls.FILE).is_file():
            return place / cls.FILE
        if place.is_dir():
            raise InputError(f"{place} holds no {cls.FILE}: it is no folder of a {cls.__name__}{_instead(place)}")
        if place.is_file():
            return place
        text = str(name)
        if looks_like_path(text) or text.count("/") != 1:
            raise InputError(f"{text}: no such file or folder, and no OWNER/NAME of the hub")
        with hub_access(text, "give a local folder, or copy the model here with huggingface-cli download"):
            return Path(hf_hub_download(text, cls.FILE, **hub))


def _instead(folder: Path) -> str:
    """What a folder holds instead, for an error."""
    held = sorted(path.name for path in folder.iterdir() if path.suffix in (".safetensors", ".pt", ".bin", ".json"))
    return f"; it has {', '.join(held[:4])}" if held else ""
