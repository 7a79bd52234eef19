"""The command that sends what was made to the Hugging Face Hub."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from surd.cli.options import Json, Quiet

app = typer.Typer()


@app.command()
def push(
    folder: Annotated[
        str,
        typer.Argument(metavar="DIR", help="A workspace with a dataset, or an adapter's folder."),
    ],
    repo: Annotated[
        str, typer.Option(metavar="USER/NAME", help="Repository; made where it is not there.")
    ],
    private: Annotated[
        bool, typer.Option("--private", help="For your eyes only; of a new repository.")
    ] = False,
    revision: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="BRANCH", help="Another branch than main; made if need be."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be sent; ask and send nothing.")
    ] = False,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Upload a published dataset or a trained adapter to the Hugging Face Hub, resumably.

    The token is read from HF_TOKEN or from hf auth login.

    Example: surd push my-data --repo me/my-data --private
    """
    from surd.cli import do_hub

    do_hub.push(
        folder,
        repo,
        private=private,
        revision=revision,
        dry_run=dry_run,
        quiet=quiet,
        as_json=json_,
    )
