"""What mkdocs does to pages beyond its own.

Links that lead out of docs/ work on a git host as they stand. The built site has no such files:
there the link leads to the repository where mkdocs.yml names one (repo_url), and else the words
stay without it.

Git hosts show notebooks; here their cells become a page, to which links to the notebook lead.

A bar in a table's cell has a backslash before it on git hosts, in code too (GitHub Flavored
Markdown, section 4.10). Python-Markdown shows that backslash, and needs none.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

_ROW = re.compile(r"^\|.*$", re.MULTILINE)
_CODE = re.compile(r"`[^`\n]+`")
_LINK = re.compile(r"\[(?P<words>[^\]\n]+)\]\((?P<to>\.\./[^)\s]+)\)")
_NOTEBOOK = "notebook.ipynb"
_NOTEBOOK_PAGE = "notebook.md"


def on_files(files: Any, *, config: Any) -> Any:
    """Called by mkdocs with all files of the site."""
    notebook = json.loads((Path(config.docs_dir) / _NOTEBOOK).read_text(encoding="utf-8"))
    cells = [("".join(cell["source"]), cell["cell_type"]) for cell in notebook["cells"]]
    shown = [text if kind == "markdown" else f"```python\n{text}\n```" for text, kind in cells]
    shown.insert(1, f"[The notebook itself]({_NOTEBOOK})")
    files.append(File.generated(config, _NOTEBOOK_PAGE, content="\n\n".join(shown)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Called by mkdocs with the text of each page."""
    folder = posixpath.dirname(page.file.src_uri)

    def replaced(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", folder, link["to"]))
        if path.startswith("docs/"):
            return link[0]
        if not config.repo_url:
            return link["words"]
        return f"[{link['words']}]({config.repo_url.rstrip('/')}/blob/HEAD/{path})"

    if page.file.src_uri != _NOTEBOOK_PAGE:
        markdown = markdown.replace(f"{_NOTEBOOK})", f"{_NOTEBOOK_PAGE})")
    return _ROW.sub(_bars, _LINK.sub(replaced, markdown))


def _bars(row: re.Match[str]) -> str:
    return _CODE.sub(lambda code: code[0].replace("\\|", "|"), row[0])
