"""How objects show themselves: one picture and one line, in a notebook as HTML, elsewhere in the system's viewer."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


class Showing:
    """Something that has a picture of itself (`to_image`) and a line that says what it is (`caption`)."""

    def to_image(self) -> Image:
        """An RGB picture of it."""
        raise TypeError(f"{type(self).__name__} does not say how it looks")

    @property
    def caption(self) -> str:
        """What it is, in a line."""
        return repr(self)

    def _repr_html_(self) -> str:
        buffer = io.BytesIO()
        self.to_image().save(buffer, "PNG")
        data = base64.b64encode(buffer.getvalue()).decode()
        said = html.escape(self.caption)
        return (
            f'<figure style="margin:0"><img alt="{said}" src="data:image/png;base64,{data}" '
            f'style="image-rendering:pixelated;max-width:100%"><figcaption>{said}</figcaption></figure>'
        )

    def show(self) -> None:
        """Display it: in a notebook below the cell, elsewhere in the system's picture viewer."""
        try:
            from IPython import get_ipython
            from IPython.display import display
        except ImportError:
            get_ipython = None
        if get_ipython is not None and get_ipython() is not None:
            display(self)
        else:
            self.to_image().show()


def side_by_side(pictures: list[Image], height: int = 256, gap: int = 8) -> Image:
    """Pictures in a row on white, each enlarged or shrunk to `height` pixels; cells stay squares when enlarged."""
    from PIL import Image as Pillow

    scaled = []
    for picture in pictures:
        width = max(1, round(picture.width * height / picture.height))
        how = Pillow.Resampling.NEAREST if picture.height < height else Pillow.Resampling.BOX
        scaled.append(picture.convert("RGB").resize((width, height), how))
    row = Pillow.new("RGB", (sum(p.width for p in scaled) + gap * (len(scaled) - 1), height), "white")
    x = 0
    for picture in scaled:
        row.paste(picture, (x, 0))
        x += picture.width + gap
    return row
