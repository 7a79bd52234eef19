"""Sites whose address the environment may give, as HF_ENDPOINT gives the hub's."""

from __future__ import annotations

import os

from yarl import URL

from surd.errors import SurdError
from surd.net.proxies import addresses_of

_VARIABLES = {
    "https://civitai.com": "CIVITAI_ENDPOINT",
    "https://civitai.red": "CIVITAI_ENDPOINT",
    "https://lexica.art": "LEXICA_ENDPOINT",
    "https://stablediffusionweb.com": "STABLE_DIFFUSION_ONLINE_ENDPOINT",
}


def endpoint(url: str) -> str:
    """A url at the address that its site's variable names; as it is where none does."""
    for site, variable in _VARIABLES.items():
        given = os.environ.get(variable)
        if given and f"{url}/".startswith(f"{site}/"):
            return given.rstrip("/") + url.removeprefix(site)
    return url


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
