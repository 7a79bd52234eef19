"""What mkdocs does to pages beyond its own: links that lead out of docs/.

On a git host they work as they stand. The built site has no such files: there the link leads to the
repository where mkdocs.yml names one (repo_url), and else the words stay without it.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

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

    return _LINK.sub(replaced, markdown)
