"""What a recipe or a flag may name as a model: a hub id, a folder, or one that ships with surd."""

from __future__ import annotations

from pathlib import Path

from surd.errors import ModelError

_PREFIX = "demo:"


def resolve(name: str) -> str:
    """The folder or hub id `name` means; `demo:clip` is the folder of a shipped demo model.

    Raises ModelError when a demo model or a path that looks like one is not there.
    """
    if name.startswith(_PREFIX):
        return str(demo_model(name.removeprefix(_PREFIX)))
    looks_like_path = name.startswith(("/", "./", "../", "~"))
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if looks_like_path:
        raise ModelError(f"{name}: no such folder; give a model's folder or its id on the hub")
    return name


def demo_models() -> Path:
    """The folder of the demo's models, in a checkout or inside the installed package."""
    package = Path(__file__).parent.parent
    inside = package / "data" / "demo" / "models"
    return inside if inside.is_dir() else package.parent / "data" / "demo" / "models"


def demo_model(name: str) -> Path:
    """The folder of one demo model; raises ModelError naming those there are."""
    folder = demo_models() / name
    if folder.is_dir():
        return folder
    there = sorted(path.name for path in demo_models().glob("*") if path.is_dir())
    raise ModelError(f"demo:{name}: no such demo model; there are: {', '.join(there) or 'none'}")
