"""`apm doctor`: what this machine can do."""

from __future__ import annotations

from commands.common import Json, console, emit_json


def doctor(as_json: Json = False) -> None:
    """Versions, device, what can be loaded here - one line each, with a hint for what cannot."""
    from experiments.doctor import examine

    if as_json:
        emit_json({"checks": [vars(line) for line in examine()]})
        return
    screen = console()
    marks = {True: "[green]ok[/]  ", False: "[yellow]--[/]  "}
    for line in examine():  # shown as they are found: some take seconds
        screen.print(marks[line.ok] + f"{line.name}: {line.found}", soft_wrap=True)
        if line.hint:
            screen.print(f"      {line.hint}", style="dim", soft_wrap=True, markup=False)
