"""What mkdocs is told besides its settings: pages that stand elsewhere in the repository, tutorials executed, formulas.

README is the home page, the studies' READMEs and the model cards are pages, and links among them hold on the site as
they do in the repository. Tutorials are Python files with their text in comments (jupytext's percent format); they
are run when the site is built, and a run that fails fails the build. Formulas in ```math fences become MathML, which
browsers draw without a script.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import Any
from xml.sax.saxutils import escape

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(?:\[([\w./-]+\.md))?(\]\()([^)#\s]+)")
COMMENT = re.compile(r" *<!-- .*? -->", re.S)  # what binds a figure to its record
CODE = re.compile(r"(^```.*?^```|`[^`\n]*`)", re.S | re.M)


def elsewhere() -> dict[str, str]:
    """Place on the site of every page that is written outside docs, by its place in the repository."""
    pages = {
        "README.md": "index.md",
        "CONTRIBUTING.md": "contributing.md",
        "benchmarks/README.md": "benchmarks.md",
    }
    for study in sorted((ROOT / "experiments").glob("*/README.md")):
        pages[study.relative_to(ROOT).as_posix()] = f"studies/{study.parent.name}.md"
    for card in sorted([*(ROOT / "glom").rglob("README.md"), *(ROOT / "glom").rglob("MODEL_CARD.md")]):
        pages[card.relative_to(ROOT).as_posix()] = f"cards/{card.parent.name}.md"
    return pages


PAGES = elsewhere()


def on_config(config: Any) -> Any:
    """Formulas are a fence of their own."""
    fence = {"name": "math", "class": "math", "format": mathml}
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]
    return config


def on_files(files: Files, config: Any) -> Files:
    """The pages from elsewhere, and the tutorials as they came out."""
    wanted: set[str] = set()
    for source, place in PAGES.items():
        text = moved((ROOT / source).read_text(encoding="utf-8"), source, place, wanted)
        files.append(File.generated(config, place, content=text))
    for file in [file for file in files if file.src_uri.endswith(".md") and file.abs_src_path]:
        source = f"docs/{file.src_uri}"
        text = moved(Path(file.abs_src_path).read_text(encoding="utf-8"), source, file.src_uri, wanted)
        files.remove(file)
        files.append(File.generated(config, file.src_uri, content=text))
    for target in sorted(wanted):
        files.append(File.generated(config, f"files/{target}", abs_src_path=str(ROOT / target)))
    for file in [file for file in files if re.fullmatch(r"tutorials/\w+\.py", file.src_uri)]:
        files.remove(file)
        for place, content in executed(Path(file.abs_src_path)).items():
            files.append(File.generated(config, f"tutorials/{place}", content=content))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """A bar in code within a table is written with a backslash, which GitHub takes off and the site does not."""
    return re.sub(r"<code>[^<]*</code>", lambda match: match[0].replace("\\|", "|"), html)


def moved(text: str, source: str, place: str, wanted: set[str]) -> str:
    """A page's text with its links as they are on the site.

    Args:
        source: where it stands in the repository. place: where on the site, as a file of docs.
        wanted: gathers files that are linked, and are neither pages nor in docs: they are copied.
    """

    def turn(match: re.Match[str]) -> str:
        if re.match(r"[a-z]+:", match[3]):
            return match[0]
        target = normpath(join(dirname(source), match[3]))
        target += "/README.md" if (ROOT / target).is_dir() else ""
        if target in PAGES:
            found = PAGES[target]
        elif target.startswith("docs/"):
            found = re.sub(r"^(tutorials/\w+)\.py$", r"\1.md", target.removeprefix("docs/"))
        else:
            wanted.add(target)
            found = f"files/{target}"
        said = f"[{title(target)}" if match[1] else ""  # a page called by its file's name is called by its title
        return said + match[2] + relpath(found, dirname(place) or ".")

    parts = CODE.split(COMMENT.sub("", text))
    return "".join(part if n % 2 else LINK.sub(turn, part) for n, part in enumerate(parts))


def title(page: str) -> str:
    """A page's first heading."""
    return re.search(r"^# (.+)$", (ROOT / page).read_text(encoding="utf-8"), re.M)[1]  # type: ignore[index]


def executed(path: Path) -> dict[str, str | bytes]:
    """A tutorial run, as files by name: the page, its pictures, and the notebook with what came out."""
    import jupytext
    from nbclient import NotebookClient
    from nbconvert import MarkdownExporter
    from traitlets.config import Config

    os.environ |= {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"), "HF_HUB_OFFLINE": "1"}
    notebook = jupytext.read(path)
    quiet = Config(KernelManager={"transport": "ipc"})  # nothing listens on a port
    NotebookClient(notebook, kernel_name="python3", timeout=600, config=quiet).execute(cwd=str(ROOT))
    text, resources = MarkdownExporter().from_notebook_node(notebook, {"unique_key": path.stem})
    text = moved(text, f"docs/tutorials/{path.name}", f"tutorials/{path.stem}.md", set())
    own = f"*This page is a notebook that was run when the site was built: [{path.stem}.ipynb]({path.stem}.ipynb).*\n"
    head, line, rest = text.strip().partition("\n")
    page = f"{head}\n\n{own}{line}{rest}\n"
    return {
        f"{path.stem}.md": page,
        f"{path.stem}.ipynb": jupytext.writes(notebook, fmt="ipynb"),
        **resources["outputs"],
    }


def mathml(source: str, *_: Any, **__: Any) -> str:
    """A formula of a fence."""
    from latex2mathml.converter import convert

    return (
        f'<div class="math" role="math" aria-label="{escape(source)}">{convert(source.strip(), display="block")}</div>'
    )
