"""The YAML at the head of a card, which the hub reads and refuses when it is broken."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from surd.errors import SurdError
from surd.untrusted import parse_yaml

_BLOCK = re.compile(r"---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)


def check_front_matter(path: Path, content: bytes | Path, mend: str) -> None:
    """Raises SurdError when the card `path` does not begin with a YAML mapping between ``---``.

    https://huggingface.co/docs/hub/repositories-cards says what stands in it.
    """
    assert isinstance(content, bytes)
    try:
        block = _BLOCK.match(content.decode())
        if block is None:
            raise SurdError(f"{path}: no front matter between two lines of ---; fix {mend}")
        fields = parse_yaml(block[1])
    except UnicodeDecodeError as error:
        raise SurdError(f"{path}: not UTF-8 ({error.reason}); fix {mend}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 2}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
        raise SurdError(f"{path}{line}: broken front matter: {problem}; fix {mend}") from error
    except (ValueError, RecursionError) as error:  # as YAML's dates that are none
        raise SurdError(f"{path}: broken front matter: {error}; fix {mend}") from error
    if not isinstance(fields, dict):
        raise SurdError(f"{path}: the front matter is not a mapping of names to values; fix {mend}")
