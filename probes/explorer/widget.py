"""The page's view as a widget of a notebook: the same script and style, the same data, sent as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from glom.errors import InputError
from probes.explorer.pack import pack
from probes.explorer.write import script, style

RENDER = """
export default { render({ model, el }) { apmExplorer.mount(el, model.get("data")); } };
"""


def widget(view: Mapping[str, Any]) -> Any:
    """A widget that shows a view. Raises `InputError` where the package anywidget is not installed."""
    return _kind()(data=pack(view))


@cache
def _kind() -> type[Any]:
    """The class, made when it is first asked for: anywidget is an extra."""
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise InputError("a widget needs the package anywidget: pip install 'glom-apm[notebook]'") from error

    class Explorer(anywidget.AnyWidget):  # type: ignore[misc]
        """What `probes.explorer` shows, in a cell."""

        _esm = script() + RENDER
        _css = style()
        data = traitlets.Bytes().tag(sync=True)

    return Explorer
