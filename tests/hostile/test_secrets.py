"""Passwords, keys and signatures: in no recipe, in no message, in no dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from pydantic import ValidationError

from surd.dataset.publish.rows import _without_secrets
from surd.errors import RecipeError
from surd.params import Params
from surd.recipe.load import load_recipe
from surd.sources.kinds import SOURCES
from surd.url_secrets import SECRET_PATTERN, secret_in, without_secrets

WORD = "hunter2"
SECRETS = [
    f"https://user:{WORD}@a.example/data",
    f"https://{WORD}@a.example/data",
    f"s3://key:{WORD}@bucket/data",
    f"simplecache::https://user:{WORD}@a.example/a.parquet",
    f"https://a.example/a.parquet?sv=2024&sig={WORD}",
    f"https://a.example/a.parquet?X-Amz-Signature={WORD}",
    f"https://a.example?api_key={WORD}",
    f"https://a.example?x=1&access_token={WORD}",
    f"https://a.example?token={WORD}",
]
PLAIN = [
    "https://a.example/data?page=1&design=x&monkey=2",
    "hf://datasets/org/name@main/data.parquet",
    "sftp://user@host/data",
    "abfs://container@account.dfs.core.windows.net/data",
    "user@example.com",
    "a folder/with@sign?token=x",
]


@pytest.mark.parametrize("url", SECRETS)
def test_secrets_are_found(url: str) -> None:
    assert secret_in(url)


@pytest.mark.parametrize("url", PLAIN)
def test_plain_urls_and_paths_hold_none(url: str) -> None:
    assert secret_in(url) is None


def keys_of_urls() -> list[tuple[str, str]]:
    """Kind of a source, and each of its keys that takes a text."""
    return [
        (kind, name)
        for kind, (params, _) in SOURCES.items()
        for name, field in params.model_fields.items()
        if name not in ("kind", "delimiter")
        if "str" in str(field.annotation) and "Literal" not in str(field.annotation)
    ]


@pytest.mark.parametrize(("kind", "key"), keys_of_urls())
def test_no_key_of_a_source_takes_a_secret(kind: str, key: str, tmp_path: Path) -> None:
    for secret in (SECRETS[0], SECRETS[4]):
        takes_list = "list[" in str(SOURCES[kind][0].model_fields[key].annotation)
        value: Any = [secret] if takes_list else secret
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(yaml.safe_dump({"name": "a", "sources": [{"kind": kind, key: value}]}))
        with pytest.raises(RecipeError) as caught:
            load_recipe(recipe)
        assert "a recipe must not contain secrets" in str(caught.value)
        assert WORD not in str(caught.value)


def test_lists_and_mappings_are_looked_into() -> None:
    class Some(Params):
        value: Any

    for value in ([SECRETS[0]], {"a": [SECRETS[0]]}, (SECRETS[0],)):
        with pytest.raises(ValidationError, match="secrets"):
            Some(value=value)
    assert Some(value=PLAIN).value == PLAIN


@pytest.mark.parametrize("url", SECRETS)
def test_secrets_are_stripped_of_what_is_published(url: str) -> None:
    urls = pa.chunked_array([[url, None, PLAIN[0]]])
    assert pc.match_substring_regex(urls, SECRET_PATTERN)[0].as_py()
    stripped, nothing, plain = _without_secrets(urls).to_pylist()
    assert (nothing, plain) == (None, PLAIN[0])
    if "simplecache" not in url:  # which no sample has
        assert (WORD not in stripped and "example" in stripped) or "bucket" in stripped


def test_the_rest_of_a_query_stays() -> None:
    url = "https://a.example/i.png?w=10&X-Amz-Date=1&X-Amz-Signature=2&h=20#x"
    assert without_secrets(url) == "https://a.example/i.png?w=10&h=20#x"
    assert without_secrets("https://u:p@a.example/a@b.png") == "https://a.example/a@b.png"
    assert without_secrets("http://[::1") is None
