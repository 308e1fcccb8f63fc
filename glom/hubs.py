"""Model hubs at arm's length: never wait for one that is not there, and say so in one line."""

from __future__ import annotations

import logging
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glom.errors import GlomError, InputError

TIMEOUT = 4.0  # seconds a hub has to answer before it counts as unreachable
REMEMBERED = 60.0  # seconds an answer is believed, so that a listing asks once

_answers: dict[str, tuple[float, bool]] = {}


def hub_url() -> str:
    """The Hugging Face hub in use, or its mirror (`HF_ENDPOINT`)."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def reachable(url: str | None = None, timeout: float | None = None) -> bool:
    """Whether anything answers at `url` (the hub) within `timeout` seconds (`TIMEOUT`); False at once in offline mode.

    The question is asked in a thread of its own: looking a host name up can take longer than any socket's time limit.
    """
    from huggingface_hub import constants

    if url is None and constants.HF_HUB_OFFLINE:
        return False
    url, timeout = url or hub_url(), timeout or TIMEOUT
    asked, answer = _answers.get(url, (-REMEMBERED, False))
    if time.monotonic() - asked < REMEMBERED:
        return answer
    found: list[bool] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=timeout).close()
            found.append(True)
        except urllib.error.HTTPError:
            found.append(True)  # it answered, if only to refuse the bare address
        except (OSError, ValueError):
            found.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout)
    answer = bool(found and found[0])
    _answers[url] = (time.monotonic(), answer)
    return answer


@contextmanager
def hub_access(what: str, hint: str) -> Iterator[None]:
    """Load `what` inside this: from the cache or the hub where it is reachable, from the cache alone where it is not.

    Raises:
        InputError: whatever went wrong inside, in one line that ends with `hint`.
    """
    from huggingface_hub import constants

    online = reachable()
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not online
    try:
        with quiet():
            yield
    except GlomError:
        raise
    except Exception as error:  # the hub libraries raise nearly every kind there is
        if not online:
            message = f"{what}: not in the local cache, and {hub_url()} cannot be reached; {hint}"
        else:
            message = f"{what} could not be loaded ({first_line(error)}); {hint}"
        raise InputError(message) from error
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def local_access(what: str, hint: str) -> Iterator[None]:
    """Load `what` from local files inside this: no hub is asked, and faults become one-line `InputError`s."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        with quiet():
            yield
    except GlomError:
        raise
    except Exception as error:
        raise InputError(f"{what} could not be loaded ({first_line(error)}); {hint}") from error
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings or log lines of the model libraries. What matters of them is raised or said by the toolkit itself."""
    silent = logging.NullHandler()
    level = logging.root.manager.disable
    # With no handler at all, the first `logging.warning` of a library would install one for the whole process.
    logging.root.addHandler(silent)
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        logging.root.removeHandler(silent)


def looks_like_path(text: str) -> bool:
    """Whether a person who wrote `text` meant a place on this machine and not a name on a hub."""
    return text.startswith((".", "/", "~", "\\")) or text.count("/") > 1 or "\\" in text or Path(text).is_absolute()


def local_path(text: str) -> Path:
    """`text` as a path, `~` filled in."""
    return Path(text).expanduser()


def first_line(error: BaseException, limit: int = 200) -> str:
    """An error's first line, shortened."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:limit].rstrip(" .:")
