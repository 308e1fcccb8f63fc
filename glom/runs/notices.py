"""What a person should know about a run though nothing failed: files passed over, an order that was chosen.

A command listens: each notice is shown once, and `glom.runs.artifacts.RunFolder` keeps all of them in the manifest.
Where nobody listens, as in a notebook, a notice goes to the log of `glom`, which Python prints on standard error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class _Listener:
    def __init__(self, show: Callable[[str], None]) -> None:
        self.show, self.texts, self.shown = show, list[str](), list[str]()

    def hear(self, text: str, keep: bool) -> None:
        if text not in self.shown:
            self.shown.append(text)
            self.show(text)
            if keep:
                self.texts.append(text)


_LISTENER: ContextVar[_Listener | None] = ContextVar("glom_notices", default=None)


def notice(text: str, keep: bool = True) -> None:
    """Say one line, without an end of line.

    Args:
        keep: whether it is a warning, which a run keeps; otherwise a remark, such as what a run is about.
    """
    listener = _LISTENER.get()
    if listener is None:
        import logging

        logging.getLogger("glom").log(logging.WARNING if keep else logging.INFO, text)
    else:
        listener.hear(text, keep)


def heard() -> list[str]:
    """Every notice to be kept since the innermost `listening` began, each once; none where nobody listens."""
    listener = _LISTENER.get()
    return list(listener.texts) if listener else []


@contextmanager
def listening(show: Callable[[str], None]) -> Iterator[None]:
    """Call `show` with each notice given inside, once."""
    token = _LISTENER.set(_Listener(show))
    try:
        yield
    finally:
        _LISTENER.reset(token)
