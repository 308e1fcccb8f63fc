"""`apm completion`: what TAB offers in a shell, as a script that holds every name and starts nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer

app = typer.Typer(
    help="What TAB offers in a shell, as a script that holds every name: nothing is started.",
    no_args_is_help=True,
    add_completion=False,
)


@dataclass(frozen=True)
class Node:
    """One command: where it is ("ttt run"; "" for the program), what may follow it, and its options.

    Attributes:
        words: sub-commands, each with its help; where there are none, file names are offered.
        options: each with all its spellings, whether a value follows, and its help.
    """

    path: str
    words: tuple[tuple[str, str], ...]
    options: tuple[tuple[tuple[str, ...], bool, str], ...]


@app.command("bash")
def for_bash(context: typer.Context) -> None:
    """Put it where bash looks: apm completion bash > ~/.local/share/bash-completion/completions/apm"""
    print(bash(nodes_of(context)), end="")


@app.command("zsh")
def for_zsh(context: typer.Context) -> None:
    """Put it into .zshrc, after compinit: source <(apm completion zsh)"""
    print(zsh(nodes_of(context)), end="")


@app.command("fish")
def for_fish(context: typer.Context) -> None:
    """Put it where fish looks: apm completion fish > ~/.config/fish/completions/apm.fish"""
    print(fish(nodes_of(context)), end="")


def nodes_of(context: typer.Context) -> list[Node]:
    """Every command of the program that `context` is in."""
    root = context.find_root()
    return list(walk(root.command, root))


def walk(command: Any, context: Any, path: str = "") -> Iterator[Node]:
    """Every command below `command`, itself first, the others in the order in which help lists them."""
    names = command.list_commands(context) if hasattr(command, "list_commands") else []
    below = {name: command.get_command(context, name) for name in names}
    words = tuple((name, _line(child.get_short_help_str(80))) for name, child in below.items())
    options = []
    for param in command.get_params(context):
        if param.param_type_name == "option" and not param.hidden:
            takes = not (param.is_flag or param.count)
            options.append(((*param.opts, *param.secondary_opts), takes, _line(param.help or "")))
    yield Node(path, words, tuple(options))
    for name, child in below.items():
        # A context below its parent's: that is where -h comes from.
        yield from walk(child, type(context)(child, info_name=name, parent=context), f"{path} {name}".strip())


def _line(text: str) -> str:
    return " ".join(text.split()).replace("'", "’").replace("\\", "")


def _case(nodes: list[Node]) -> str:
    """A function of sh that sets what may follow a path, what its options are, and which take a value."""
    lines = ["_apm_names() {", "  case $1 in"]
    for node in nodes:
        options = [name for names, _, _ in node.options for name in names]
        valued = [name for names, takes, _ in node.options if takes for name in names]
        words = " ".join(word for word, _ in node.words)
        lines.append(f"    '{node.path}') next='{words}' options='{' '.join(options)}' valued='{' '.join(valued)}' ;;")
    return "\n".join([*lines, "  esac", "}"])


# Goes over the words before the cursor: `at` becomes the command that they name. Only a command with none below it has
# options that take a value, so no value can be taken for a command.
_FIND = """  local word at='' next='' options='' valued=''
  _apm_names ''
  for word in "$@"; do
    case " $next " in *" $word "*) at="${at:+$at }$word"; _apm_names "$at" ;; esac
  done"""


def bash(nodes: list[Node]) -> str:
    """For bash 3.2 and later, of builtins alone; file names are what bash offers where this offers nothing."""
    return f"""# What TAB offers after `apm` in bash; made by `apm completion bash`.
{_case(nodes)}
_apm_find() {{
{_FIND}
  case " $valued " in *" $last "*) return ;; esac
  case $now in -*) next=$options ;; esac
  COMPREPLY=($(compgen -W "$next" -- "$now"))
}}
_apm() {{
  local now=${{COMP_WORDS[COMP_CWORD]}} last=${{COMP_WORDS[COMP_CWORD-1]}}
  COMPREPLY=()
  _apm_find "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"
}}
complete -o default -o bashdefault -F _apm apm
"""


def zsh(nodes: list[Node]) -> str:
    """For zsh."""
    return f"""#compdef apm
# What TAB offers after `apm` in zsh; made by `apm completion zsh`.
{_case(nodes)}
_apm_find() {{
{_FIND}
  if [[ " $valued " == *" $words[CURRENT-1] "* ]]; then _files
  elif [[ $PREFIX == -* ]]; then compadd -- ${{=options}}
  elif [[ -n $next ]]; then compadd -- ${{=next}}
  else _files
  fi
}}
_apm() {{ _apm_find "${{(@)words[2,CURRENT-1]}}" }}
if [[ $funcstack[1] == _apm ]]; then _apm "$@"; else compdef _apm apm; fi
"""


def fish(nodes: list[Node]) -> str:
    """For fish 3 and later."""
    lines = [
        "# What TAB offers after `apm` in fish; made by `apm completion fish`.",
        "function __apm_names",
        "  switch $argv[1]",
        *(
            f"    case '{node.path}'\n      string split ' ' '{' '.join(word for word, _ in node.words)}'"
            for node in nodes
        ),
        "  end",
        "end",
        "function __apm_at --description 'whether the words so far name this command'",
        "  set -l at ''",
        "  for word in (commandline -opc)[2..-1]",
        "    if contains -- $word (__apm_names $at)",
        '      set at (string trim "$at $word")',
        "    end",
        "  end",
        '  test "$at" = "$argv[1]"',
        "end",
    ]
    for node in nodes:
        here = f"complete -c apm -n \"__apm_at '{node.path}'\""
        files = " -f" if node.words else ""
        lines += [f"{here}{files} -a '{word}' -d '{text}'" for word, text in node.words]
        for names, takes, text in node.options:
            spelled = " ".join(f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in names)
            lines.append(f"{here} {spelled}{' -r' if takes else ''} -d '{text}'")
    return "\n".join(lines) + "\n"
