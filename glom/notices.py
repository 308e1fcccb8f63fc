"""What a person should know about a run though nothing failed: files passed over, an order that was chosen.

A command listens: each notice is shown once, and `glom.artifacts.RunFolder` keeps all of them in the run's manifest.
Where nobody listens, as in a notebook, a notice goes to the log of `glom`, which Python prints on standard error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class _Listener:
    def __init__(self, show: Callable[[str], None]) -> None:
        self.show, self.texts = show, list[str]()

    def hear(self, text: str) -> None:
        if text not in self.texts:
            self.texts.append(text)
            self.show(text)


_LISTENER: ContextVar[_Listener | None] = ContextVar("glom_notices", default=None)


def notice(text: str) -> None:
    """Say one line, without an end of line."""
    listener = _LISTENER.get()
    if listener is None:
        import logging

        logging.getLogger("glom").warning(text)
    else:
        listener.hear(text)


def heard() -> list[str]:
    """Every notice since the innermost `listening` began, each once; none where nobody listens."""
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
