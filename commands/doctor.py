"""`apm doctor`: what this machine can do."""

from __future__ import annotations

from commands.common import Json, Quiet, console, emit_json, follow


def doctor(as_json: Json = False, quiet: Quiet = False) -> None:
    """Versions, device, what can be loaded here - one line each, with a hint for what cannot."""
    from experiments.doctor import examine

    checks = follow(examine(), quiet)
    if as_json:
        emit_json({"checks": [vars(line) for line in checks]})
        return
    screen = console()
    marks = {True: "[green]ok[/]  ", False: "[yellow]--[/]  "}
    for line in checks:
        screen.print(marks[line.ok] + f"{line.name}: {line.found}", soft_wrap=True)
        if line.hint:
            screen.print(f"      {line.hint}", style="dim", soft_wrap=True, markup=False)
