"""The errors a user can mend. The command line prints each as one line and exits with 2."""

import shlex
from collections.abc import Sequence
from importlib.util import find_spec


def command(*words: object) -> str:
    """A command of surd as messages show it: copied into a shell, it does what they say."""
    return shlex.join(("surd", *map(str, words)))


def one_line(said: object, most: int = 200) -> str:
    """What a library or a file says, as a message quotes it: on one line, cut after ``most``."""
    return " ".join(str(said).split())[:most]


def listed(names: Sequence[str]) -> str:
    """Names for a message of one line, not too many of them, and none too long."""
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return (", ".join(one_line(name, 40) for name in names[:20]) or "none") + more


class SurdError(Exception):
    """Something the user can mend; the message names the file, row or field, and the mend."""


class RecipeError(SurdError):
    """A recipe that does not validate: unknown key, wrong type, value out of range."""


class WorkspaceError(SurdError):
    """A workspace that cannot be opened, read or written."""


class SourceError(SurdError):
    """A source that cannot be read any further: closed, answering nonsense, or refusing."""


class ModelError(SurdError):
    """A model that cannot be found or loaded, or whose parts do not fit together."""


def need_extra(what: str, extra: str, *modules: str) -> None:
    """Raise SurdError with the command that installs an extra where one of its modules is missing.

    `what` is who needs it, as the user calls it.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise SurdError(f'{what} needs {", ".join(missing)}; run: pip install "surd[{extra}]"')
