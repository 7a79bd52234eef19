"""What mkdocs does to pages beyond its own.

Links that lead out of docs/ work on a git host as they stand. The built site has no such files:
there the link leads to the repository where mkdocs.yml names one (repo_url), and else the words
stay without it.

A bar in a table's cell has a backslash before it on git hosts, in code too (GitHub Flavored
Markdown, section 4.10). Python-Markdown shows that backslash, and needs none.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

_ROW = re.compile(r"^\|.*$", re.MULTILINE)
_CODE = re.compile(r"`[^`\n]+`")
_LINK = re.compile(r"\[(?P<words>[^\]\n]+)\]\((?P<to>\.\./[^)\s]+)\)")


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

    return _ROW.sub(_bars, _LINK.sub(replaced, markdown))


def _bars(row: re.Match[str]) -> str:
    return _CODE.sub(lambda code: code[0].replace("\\|", "|"), row[0])
