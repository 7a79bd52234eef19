"""Sites whose address the environment may give, as HF_ENDPOINT gives the hub's."""

from __future__ import annotations

import os

from yarl import URL

from surd.errors import SurdError
from surd.net.proxies import addresses_of

_VARIABLES = {"https://civitai.com": "CIVITAI_ENDPOINT"}


def endpoint(site: str) -> str:
    """Where a site is asked: where its variable says, else at its own address."""
    return (os.environ.get(_VARIABLES.get(site, "")) or site).rstrip("/")


def endpoint_addresses() -> frozenset[tuple[str, int]]:
    """Address and port of every site that the environment names; none of them is a stranger.

    Raises SurdError for one that has none.
    """
    found: set[tuple[str, int]] = set()
    for variable in _VARIABLES.values():
        given = os.environ.get(variable)
        if not given:
            continue
        try:
            found |= addresses_of(URL(given))
        except (OSError, ValueError) as error:
            raise SurdError(
                f"{variable}: {given.split('@')[-1]!r:.100} cannot be reached; name an http or "
                "https url"
            ) from error
    return frozenset(found)
