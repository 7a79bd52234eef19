"""Looking: at samples, pages, schemas and this machine."""

from __future__ import annotations

import difflib
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from surd.cli.lean import start_lean
from surd.cli.options import Folder, Json, Quiet
from surd.cli.printing import print_json, say, shown
from surd.errors import SurdError, command


def inspect(
    place: Annotated[
        str,
        typer.Argument(
            metavar="DIR|FILE", help="The workspace, or an image file.", show_default=False
        ),
    ],
    query: Annotated[
        str | None,
        typer.Argument(
            metavar="QUERY",
            help="An id or its beginning, a URL, or words: all of them in the prompts or the path.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of matches to list.")] = 20,
    all_: Annotated[bool, typer.Option("--all", help="Of one sample, show every column.")] = False,
    json_: Json = False,
) -> None:
    """Show one sample, or list those that match; or what an image file tells of its making.

    Of a file it shows every text in it and where it lies, how it was read, and what a folder source
    takes from it and from the files beside it.

    Example: surd inspect my-data "red circle"
    """
    if Path(place).is_file():
        if query is not None:
            raise SurdError(f"{place}: a file takes no QUERY; leave it out, or name a workspace")
        _inspect_image(Path(place), json_=json_)
        return
    from surd.dataset.inspect import find, sample, short
    from surd.files.formats import IMAGE_SUFFIXES
    from surd.store.workspace import Workspace

    if place.lower().endswith(IMAGE_SUFFIXES) and not Path(place).exists():
        raise SurdError(f"{place}: no such file; correct the path")
    workspace = Workspace(place)
    workspace.read_manifest()
    matches, total = find(workspace, query, limit)
    if not matches and query is None:
        raise SurdError(f"{place}: has no samples yet; run: {command('collect', place)}")
    if not matches:
        raise SurdError(
            f"{place}: no sample has all words of {query!r} in its prompts or path, and none has "
            "this in its id or url"
        )
    shown_of = f"{len(matches):,} of {total:,} shown"
    if len(matches) == 1:
        found = sample(workspace, matches[0])
        if json_:
            print_json(found)
        elif not all_:
            for name, text in short(workspace, found).items():
                say(f"{name}: {shown(text)}")
            say(f"everything: {command('inspect', place, matches[0].id, '--all')}")
        else:
            for group, row in found.items():
                say(f"{group}:")
                for key, value in row.items():
                    say(f"  {key}: {shown(value)}")
        if total > 1 and not json_:
            say(shown_of)
        return
    if json_:
        print_json({"matches": [asdict(match) for match in matches], "total": total})
        return
    for match in matches:
        file = f"{shown(match.file)[-40:]}  " if match.file else ""
        say(f"{match.id}  {match.source}  {file}{shown(match.prompt)[:100]}")
    say(f"{shown_of}; give an id, or its beginning, to see one")


def _inspect_image(path: Path, *, json_: bool) -> None:
    from surd.sources.image_report import report_image

    told = report_image(path)
    if json_:
        print_json(told)
        return
    say(f"{shown(told['file'])}: {told['image']}")
    texts = told.pop("texts")
    say("texts:" if texts else "texts: none")
    for text in texts:
        say(f"  {shown(text['where'])} ({text['chars']:,} characters): {shown(text['text'])[:200]}")
    told["read as"] = told.pop("generator") or ("nothing that surd knows" if texts else None)
    for key in ("read as", "prompt_from", "prompt", "complex_prompt", "negative_prompt", "model"):
        if told[key]:
            say(f"{key.replace('_', ' ')}: {shown(told[key])}")
    for key in ("settings", "not_understood", "collected"):
        if told[key]:
            say(f"{key.replace('_', ' ')}:")
            for name, value in told[key].items():
                text = ", ".join(value) if name == "beside" else value
                if text not in (None, ""):
                    say(f"  {shown(name).replace('_', ' ')}: {shown(text)[:1000]}")
    if told["collected"] is None:
        say("collected: no; folder sources read no files with this suffix")
    elif not told["collected"]["prompt"]:
        say("  no prompt; surd found none in the file and none beside it")


def report(
    folder: Annotated[
        str,
        typer.Argument(metavar="DIR", help="Workspace, or folder of a training run."),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write; DIR/report/index.html by default.",
        ),
    ] = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Write one HTML page about a dataset and its training runs; it needs no network.

    It shows the funnel with examples for every reason, thresholds that count live, triples,
    duplicates, failures and times. It contains small images and names of authors.

    Example: surd report my-data
    """
    from surd.pages.text import bytes_
    from surd.progress import track
    from surd.report.write import report as write

    start_lean()
    with track("report", None, quiet=quiet) as tick:
        written = write(folder, output, tick)
    if json_:
        print_json(asdict(written))
        return
    say(f"{written.location}: {bytes_(written.bytes)}, one file; open it in a browser")


def view(
    folder: Folder,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")
    ] = 8420,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Show the samples in the browser; search by text or image, keep and drop by hand.

    Example: surd view my-data --open
    """
    from surd.store.workspace import Workspace
    from surd.view.serve import serve

    start_lean()
    serve(Workspace(folder), port, say, open_browser=open_)


def schema(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A group such as samples, or recipe, or manifest."),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write every schema to DIR."),
    ] = None,
) -> None:
    """Print the JSON Schema of a group, a recipe or the manifest.

    Example: surd schema recipe
    """
    from surd.recipe.json_schema import json_schemas, write_json_schemas

    if write is not None:
        if not write.is_dir():
            raise SurdError(f"{write}: no such folder; create it first")
        for path in write_json_schemas(write):
            say(str(path))
        return
    schemas = json_schemas()
    if name is None:
        say("schemas: " + ", ".join(schemas))
    elif name in schemas:
        print_json(schemas[name])
    else:
        near = difflib.get_close_matches(name, schemas, n=1)
        mend = f"did you mean {near[0]}?" if near else f"schemas: {', '.join(schemas)}"
        raise SurdError(f"{name}: no such schema; {mend}")


def doctor(json_: Json = False) -> None:
    """Check that this machine has what surd needs.

    Example: surd doctor
    """
    from surd.doctor import examine

    findings = []
    for finding in examine():
        findings.append(finding)
        if not json_:
            mend = f"; {finding.mend}" if finding.mend and finding.state != "ok" else ""
            say(f"{finding.state:<4}  {finding.what}: {shown(finding.found)}{mend}")
    well = all(finding.state != "BAD" for finding in findings)
    if json_:
        print_json({"ok": well, "findings": [asdict(finding) for finding in findings]})
    if not well:
        sys.exit(1)
