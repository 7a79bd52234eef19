"""The command that shows a workspace in the browser."""

from __future__ import annotations

from typing import Annotated

import typer

from surd.cli.options import Folder

app = typer.Typer()


@app.command()
def view(
    folder: Folder,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes any that is free.")
    ] = 8420,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Look at the samples in the browser, search by text or image, keep and drop by hand.

    Example: surd view my-data --open
    """
    from surd.cli.printing import say
    from surd.store.workspace import Workspace
    from surd.view.serve import serve

    serve(Workspace(folder), port, say, open_browser=open_)
