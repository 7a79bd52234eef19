"""The errors a user can mend. The command line prints each as one line and exits with 2."""

import shlex
from importlib.util import find_spec


def command(*words: object) -> str:
    """A command of surd as messages show it: copied into a shell, it does what they say."""
    return shlex.join(("surd", *map(str, words)))


def one_line(said: object, most: int = 200) -> str:
    """What a library or a file says, as a message quotes it: on one line, cut after ``most``."""
    return " ".join(str(said).split())[:most]


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
