"""A command that runs a study, written once: what is left to say is how its result is shown.

@app.command("score")
@study(ScoreSettings, "experiments.slots.score", resume="everything above is kept")
def score(result: Mapping[str, Any], out: str) -> None:
    \"\"\"The help of `apm slots score`.\"\"\"
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from commands import common
from commands.ending import resumable
from commands.options import options
from glom.settings import Settings

Show = Callable[[Any, str], None]


def study(
    settings: type[Settings],
    module: str,
    *,
    resume: str = "",
    record: bool = True,
    check: Callable[[Any, Mapping[str, Any]], None] | None = None,
    nested: bool = False,
) -> Callable[[Show], Callable[..., None]]:
    """Make a command of the function that shows the result of a run, given also where the run's folder is.

    The command has an option for every setting, and `--out`, `--json`, `--quiet`. Under several processes the first one
    alone speaks.

    Args:
        module: has the study's `run(settings, out)`; imported when the command is called.
        resume: what is kept when it is interrupted; nothing: there is no `--resume`.
        record: whether there is `--record`.
        check: refuses what makes no sense, from the settings and what was typed of them.
        nested: whether a record has the result under `results`.
    """
    hints: dict[str, tuple[Any, Any]] = {"out": (common.Out, inspect.Parameter.empty)}
    if record:
        hints["record"] = (common.Record, None)
    if resume:
        hints["resume"] = (common.Resume, False)
    hints |= {"as_json": (common.Json, False), "quiet": (common.Quiet, False)}

    def decorate(show: Show) -> Callable[..., None]:
        def command(
            settings: Any, given: Mapping[str, Any], out: str, as_json: bool, quiet: bool, **asked: Any
        ) -> None:
            if check is not None:
                check(settings, given)
            run = import_module(module).run
            from glom.devices import ranks

            first = ranks()[0] == 0
            if resume:
                with resumable(resume):
                    result = common.follow(run(settings, Path(out), resume=asked["resume"]), quiet or not first)
            else:
                result = common.follow(run(settings, Path(out)), quiet or not first)
            if not first or result is None:
                return
            common.keep_record(asked.get("record"), {"results": result} if nested else result, out)
            if as_json:
                common.emit_json(result)
            else:
                show(result, out)

        command.__name__, command.__doc__ = show.__name__, show.__doc__
        kind = inspect.Parameter.KEYWORD_ONLY
        own = [inspect.Parameter(name, kind, annotation=Any) for name in ("settings", "given")]
        own += [inspect.Parameter(n, kind, default=d, annotation=hint) for n, (hint, d) in hints.items()]
        command.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
        return options(settings)(command)

    return decorate
