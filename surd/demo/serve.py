"""The loopback site filled with the demo world."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

from surd.demo.picture import Picture
from surd.demo.site import Site
from surd.demo.world import world
from surd.errors import SurdError

_FAULTS = (
    "not_found",
    "server_error_once",
    "rate_limited_once",
    "truncated_file",
    "html_page",
    "noai",
    "redirect_ok",
    "redirect_private",
    "reset_mid_body",
    "empty",
    "short_body",
    "slow_ok",
)
_FAULT_EVERY = 20
_NAMESPACE = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")


def demo_pictures(count: int, seed: int) -> list[Picture]:
    """The demo world as the site lists it; every 20th picture has one of the usual troubles."""
    pictures = []
    for number, entry in enumerate(world(count, seed=seed)):
        troubled = number % _FAULT_EVERY == _FAULT_EVERY - 1
        pictures.append(
            Picture(
                id=1000 + number,
                uuid=str(uuid.uuid5(_NAMESPACE, f"surd demo {seed} {number}")),
                data=entry.picture,
                mime=entry.mime,
                width=entry.width,
                height=entry.height,
                prompt=entry.prompt,
                negative_prompt=entry.negative_prompt,
                username=entry.username,
                nsfw_level=entry.nsfw_level,
                model_id=1 + number // 50,
                version_id=1 + number // 25,
                meta=entry.settings,
                fault=_FAULTS[number // _FAULT_EVERY % len(_FAULTS)] if troubled else None,
            )
        )
    return pictures


@contextlib.contextmanager
def demo_site(port: int, count: int, seed: int) -> Iterator[Site]:
    """Serve the demo world on 127.0.0.1 while the block runs. Raises SurdError."""
    site = Site(demo_pictures(count, seed), port=port)
    try:
        site.start()
    except OSError as error:
        raise SurdError(
            f"demo_site.port: cannot listen on 127.0.0.1:{port} ({error.strerror or error}); "
            f"choose another with --set demo_site.port={port + 1} "
            f"--set sources.0.base_url=http://127.0.0.1:{port + 1}"
        ) from error
    try:
        yield site
    finally:
        site.stop()
