"""What needs no torch does not load it: listings, help, completion, and names of files that are not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cli import COMMANDS
from glom.datasets.registry import check_spec, open_dataset
from glom.errors import InputError
from glom.methods import METHODS
from glom.methods_list import LISTED

ROOT = Path(__file__).parents[2]
# In one process, one request after another: what the first loads, the later ones would find loaded.
ASK = """
import sys
from cli import app
from commands.ending import guard
for line in sys.stdin.read().splitlines():
    code = guard(app, line.split())
    print(f"code {code} {'torch' in sys.modules} {line}", file=sys.stderr)
"""


def ask(lines: list[str], folder: Path) -> dict[str, tuple[int, bool]]:
    """{request: (exit code, whether torch is loaded)}"""
    done = subprocess.run(
        [sys.executable, "-c", ASK], input="\n".join(lines), capture_output=True, text=True, cwd=folder,
        env={"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "PATH": "", "HOME": str(folder)}, timeout=120,
    )  # fmt: skip
    rows = [row.split(" ", 3)[1:] for row in done.stderr.splitlines() if row.startswith("code ")]
    assert len(rows) == len(lines), done.stderr
    return {line: (int(code), loaded == "True") for code, loaded, line in rows}


def test_listings_and_help_load_no_torch(tmp_path):
    lines = ["--help", *(f"{name} --help" for name in COMMANDS), "methods list", "methods list --json"]
    lines += ["teachers", "datasets", "datasets list", "completion bash", "ttt run --help"]
    assert {line: found for line, found in ask(lines, tmp_path).items() if found != (0, False)} == {}


WRONG = [
    "fold no.png -o x",
    "ttt run nowhere.csv -o x",
    "ttt run ./nowhere -o x",
    "ttt run imagenet-a -o x",
    "ttt run cifar10-sample --classes no.txt -o x",
    "ttt trace no.png -o x",
    "islands show no.png -o x",
    "islands patch no.png --layer 0 --region all --value zero -o x",
    "islands score nowhere -o x",
    "figures nowhere",
    "islands emerge --data nowhere -o x",
    "glom train --data nowhere -o x",
    "glom islands x no.png",
    "grid train nowhere -o x",
    "grid eval apm-cifar10 nowhere -o x",
    "grid shortcut nowhere -o x",
    "grid decode no.png -o x",
    "grid overfit no.png -o x",
    "grid interpolate no.png no2.png -o x",
    "grid upsample no.png -o x",
    "ff goodness x no.png",
    "ff islands x no.png",
    "benchmark -d cifar10-sample,nowhere -o x",
    "benchmark --train nowhere -o x",
    "teachers score glom-tiny nowhere",
    "ablate folding nowhere -o x",
    "ablate asynchrony nowhere -o x",
    "ablate objective select nowhere -o x",
    "ablate prompts nowhere",
    "bench ttt nowhere -o x",
]


def test_a_name_that_is_not_there_is_said_before_torch_is_loaded(tmp_path):
    assert {line: found for line, found in ask(WRONG, tmp_path).items() if found != (2, False)} == {}
    assert list(tmp_path.iterdir()) == []


def test_what_is_listed_is_what_there_is():
    assert set(LISTED) == set(METHODS)
    for name, entry in LISTED.items():
        method = METHODS[name]
        assert (method.what, method.source, method.stateful) == (entry.what, entry.source, entry.stateful)
        assert (method.needs_text, method.needs_shots) == (entry.needs_text, entry.needs_shots)


@pytest.mark.parametrize(
    "spec", ["nosuch", "no/such", "no.csv", "imagenet-a", "cifar10:/no/where", "cifar10-sample:", "\0"]
)
def test_checking_a_name_says_what_opening_it_says(spec, tmp_path, monkeypatch):
    monkeypatch.setenv("APM_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    said = []
    for look in (open_dataset, check_spec):
        with pytest.raises(InputError) as error:
            look(spec)
        said.append(str(error.value))
    assert said[0] == said[1]


def test_checking_a_name_opens_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar10").mkdir()  # also a name: opening says what to do
    (tmp_path / "list.csv").write_text("not read")
    for spec in ("cifar10", "list.csv", "cifar10-sample", "./cifar10"):
        check_spec(spec)


def test_the_first_page_loads_no_drawing():
    code = (
        "import sys; from cli import app; app(['--help'], standalone_mode=False); print('rich.console' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={"PATH": "", "COLUMNS": "60"}
    )
    assert done.returncode == 0, done.stderr
    *page, loaded = done.stdout.splitlines()
    assert loaded == "False" and max(map(len, page)) <= 60 and sum(line.startswith("  demo ") for line in page) == 1
