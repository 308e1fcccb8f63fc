"""Habits held everywhere: short functions, no private reach, no option in the library; namesakes of our folders."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import cache
from importlib import import_module
from pathlib import Path
from textwrap import dedent

import pytest

import glom
import probes
from commands.common import as_options
from commands.examples import EXAMPLES
from experiments.doctor import imported
from glom.settings import Settings, keys_of
from tests.test_readme import fault, program

ROOT = Path(__file__).parents[1]
ROOMS = ("glom", "probes", "experiments", "commands", "benchmarks")
FILES = [*(ROOT / "cli.py", ROOT / "hubconf.py"), *(p for room in ROOMS for p in sorted((ROOT / room).rglob("*.py")))]
LONGEST = 60
ARRAYS = re.compile(r"\b(Tensor|NDArray|Array|Labels)\b")
SHAPE = re.compile(r"\(\S+, .*?\)|\(\w+,\)")
# Names of torch, transformers, pytorchvideo and the standard library that have no public way. May only shrink.
FOREIGN = {"_exit", "_cdata", "_patch_embed_shape", "_attn_implementation", "_from_config"}
# What torch gives for tensors of one's own kind, and for a mode that stands for a device.
FOREIGN |= {"_C", "_DisableTorchDispatch", "_TorchDispatchModeKey", "_make_subclass"}
FOREIGN |= {"_only_lift_cpu_tensors", "_set_only_lift_cpu_tensors"}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def where(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{node.lineno}"  # type: ignore[attr-defined]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def long_functions(path: Path) -> Iterator[str]:
    """Functions whose body, the docstring aside, has more than `LONGEST` lines."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            if body and (node.end_lineno or 0) - body[0].lineno + 1 > LONGEST:
                yield f"{where(path, node)} {node.name}"


def private_reaches(path: Path) -> Iterator[str]:
    """`from module import _name`, and `thing._name` where nothing of this module is called so."""
    own = {n.name for n in ast.walk(tree(path)) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
            own.add(node.attr)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{where(path, node)} {a.name}" for a in node.names if is_private(a.name))
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own | FOREIGN:
            yield f"{where(path, node)} {ast.unparse(node)}"


def option_words(path: Path) -> Iterator[str]:
    """String literals with a word such as --size."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from (f"{where(path, node)} {w}" for w in re.findall(r"(?<![\w-])--[a-z][\w-]*", node.value))


def test_the_house_is_looked_through():
    """What is searched for is found where it is."""
    assert len(FILES) > 300
    path = ROOT / "not-there.py"
    body = "\n".join(["    x = 1"] * (LONGEST + 1))
    code = f'from a import _b\ndef f(x):\n    "text"\n{body}\n    return x._c\nMESSAGE = f"use --size {{1}} --- a--b"\n'
    tree_of, globals()["tree"] = tree, lambda _: ast.parse(code)
    try:
        assert [len(list(find(path))) for find in (long_functions, private_reaches, option_words)] == [1, 2, 1]
    finally:
        globals()["tree"] = tree_of


def test_few_files_lie_directly_in_experiments():
    assert len(list((ROOT / "experiments").glob("*.py"))) <= 3


def test_no_function_body_is_longer_than_a_page():
    assert [found for path in FILES for found in long_functions(path)] == []


def test_nobody_reaches_for_anothers_private_names():
    assert [found for path in FILES for found in private_reaches(path)] == []


def test_the_library_knows_no_options():
    library = [path for path in FILES if path.relative_to(ROOT).parts[0] in ("glom", "probes")]
    assert [found for path in library for found in option_words(path)] == []


def test_a_command_shows_a_parameter_as_its_option():
    text = "X holds this run; add `resume`, or `cache_precision` fp16, as `apm grid train` and `a.json` do"
    shown = "X holds this run; add --resume, or --cache-precision fp16, as `apm grid train` and `a.json` do"
    assert as_options(text) == shown


def public_code(value: object) -> Iterator[tuple[str, object, Callable[..., object]]]:
    """What can be called of a public name, as it is reached and as it is written: itself, or a class's methods."""
    if inspect.isfunction(value):
        yield value.__name__, value, value
    members = {}
    for cls in reversed(inspect.getmro(value)) if inspect.isclass(value) else ():
        members |= vars(cls) if cls.__module__.split(".")[0] in ROOMS else {}
    for name, member in members.items():
        code = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(code):
            yield f"{value.__name__}.{name}", getattr(value, name), code


@pytest.mark.parametrize("package", [glom, probes])
def test_public_names_say_what_they_take_of_what_shape_and_what_they_raise(package):
    missing = []
    for public in package.__all__:
        value = getattr(package, public)
        if (inspect.isclass(value) or callable(value)) and not inspect.getdoc(value):
            missing.append(f"{public}: nothing")
        for name, reached, code in public_code(value):
            said = inspect.getdoc(reached) or ""
            takes = inspect.signature(code)
            names = [name for name in takes.parameters if name not in ("self", "cls")]
            missing += [f"{name}: `{one}`" for one in names if not re.search(rf"\b{one}\b", said)]
            kinds = [*(p.annotation for p in takes.parameters.values()), takes.return_annotation]
            if any(ARRAYS.search(str(kind)) for kind in kinds) and not SHAPE.search(said):
                missing.append(f"{name}: the shape of what it takes or gives")
            raises = any(isinstance(node, ast.Raise) for node in ast.walk(ast.parse(dedent(inspect.getsource(code)))))
            if not said or (raises and "Raises" not in said):
                missing.append(f"{name}: {'what it raises' if said else 'nothing'}")
    assert missing == []


# -- a researcher's own folders --------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with things of one's own that are called as ours are: a package, plain folders, a file."""
    for name in ("experiments", "probes", "commands"):
        (tmp_path / name).mkdir()
    (tmp_path / "experiments" / "__init__.py").write_text("raise SystemExit('a researcher\\'s own')")
    (tmp_path / "commands" / "notes.txt").write_text("mine")
    return tmp_path


def python(folder: Path, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    """A Python started in `folder`; ours is found behind `path`, as what is installed is behind the current folder."""
    import os

    environment = {**os.environ, "PYTHONPATH": f"{path}{os.pathsep}{ROOT}" if path else str(ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_the_library_works_beside_folders_of_the_same_names(own):
    code = "import glom, sys; print(type(glom.load('apm-cifar10')).__name__, 'experiments' in sys.modules)"
    done = python(own, "-c", code)
    assert (done.returncode, done.stdout.strip()) == (0, "Machine False"), done.stderr


def test_a_folder_that_hides_the_probes_is_named(own):
    (own / "probes" / "__init__.py").write_text("")
    done = python(own, "-c", "import glom, probes")
    assert done.returncode == 0 and f"`import probes` gives {own / 'probes'}, which hides" in done.stderr
    assert "hides" not in python(own, "-c", "import sys; sys.path.pop(0); import glom, probes").stderr


def test_the_program_starts_beside_folders_of_the_same_names(own):
    for path in ("", str(own)):
        done = python(own, "-m", "cli", "methods", "list", "--json", path=path)
        assert done.returncode == 0 and '"memo"' in done.stdout, done.stderr
        assert done.stderr == ""
    (own / "cli.py").write_text("raise SystemExit('a researcher\\'s own')")
    done = python(own, "-c", "import sys; sys.path.pop(0); sys.argv = ['apm', '--help']; from cli import main; main()")
    assert done.returncode == 0 and "COMMAND" in done.stdout, done.stderr  # as the installed `apm` starts


def test_doctor_says_what_is_imported_and_what_would_hide_it(own):
    found = imported("probes", own)
    assert not found.ok and str(ROOT / "probes") in found.found and str(own / "probes") in found.found
    assert "rename" in found.hint
    assert imported("probes", ROOT).ok and imported("probes", own / "experiments").ok


def test_every_example_can_be_typed():
    assert set(EXAMPLES) == set(program())
    faults = {name: fault(f"{name} {words}".split(">")[0].strip(), True) for name, words in EXAMPLES.items()}
    assert {name: what for name, what in faults.items() if what} == {}


# Commands that write something and take no settings: all benchmarks in turn, and the page of claims. The list
# may only shrink.
WITHOUT_SETTINGS = {"bench.everything", "bench_reads.host_reads", "claims.claims", "export.export"}


def test_an_option_is_written_once_on_its_setting():
    bare = set()
    for path in sorted((ROOT / "commands").glob("*.py")):
        for made in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(made, ast.FunctionDef):
                continue
            settled = any(ast.unparse(d).startswith("options(") for d in made.decorator_list)
            options = [a.annotation for a in made.args.args if a.annotation]
            writes = any(
                ast.unparse(a) in ("Out", "OutFolder", "Record") or "'--out'" in ast.unparse(a) for a in options
            )
            if writes and not settled:
                bare.add(f"{path.stem}.{made.name}")
    assert bare == WITHOUT_SETTINGS


def test_settings_take_keywords_and_say_what_they_are():
    found: list[type[Settings]] = []
    for path in sorted([*(ROOT / "experiments").glob("*/*settings.py"), *(ROOT / "glom").glob("*/settings.py")]):
        module = import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        found += [x for x in vars(module).values() if isinstance(x, type) and issubclass(x, Settings)]
    assert len(set(found)) > 30
    for cls in set(found) - {Settings}:
        assert all(one.kw_only for one in fields(cls)), cls
        for key in keys_of(cls):
            assert key.about["help"] or key.about["choices"], f"{cls.__name__}.{key.name} says nothing"
