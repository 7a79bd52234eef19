"""download: fetch every image, check it, describe it, keep it."""

from __future__ import annotations

import ipaddress
import os
from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from surd.files import images
from surd.files.resize import Resize, needs_resize, resize
from surd.net.fetched import Fetched, FetchLimits
from surd.params import Params, runtime
from surd.stages.base import Stage, StageFunction
from surd.store.schema import FILE_ROWS, IMAGES

if TYPE_CHECKING:
    from surd.stages.download.downloader import Row


class DownloadParams(Params):
    """How images are fetched and what is accepted."""

    resize: Resize | None = Field(default=None, description="default: keep the bytes as downloaded")
    decode_check: bool = Field(default=True, description="decode the whole image to find damage")
    perceptual_hash: bool = Field(
        default=True, description="compute a perceptual hash; needs decode_check"
    )
    max_bytes: int = Field(default=50_000_000, ge=1, description="maximum size of a file, in bytes")
    max_pixels: int = Field(
        default=100_000_000,
        ge=1,
        le=images.MAX_PIXELS,
        description="maximum number of pixels in an image",
    )
    max_redirects: int = Field(default=5, ge=0, le=20, description="maximum number of redirects")
    respect_noai: bool = Field(
        default=True,
        description="leave out images whose headers, or whose site's robots.txt, say that they are "
        "not to be used for AI (docs/security.md)",
    )
    respect_robots: bool = Field(
        default=True, description="leave out images that robots.txt of their site does not allow"
    )
    allow_private_addresses: bool | list[str] = Field(
        default=False,
        description="also fetch from private and loopback addresses; a list limits this to the "
        "networks it names",
    )
    use_proxy: bool = runtime(
        False,
        "use the proxies of HTTP_PROXY and HTTPS_PROXY, which then decide what addresses a "
        "host name may resolve to",
    )
    contact: str | None = runtime(None, "mail address or web page sent to the sites in User-Agent")
    concurrency: int = runtime(64, "parallel downloads", ge=1, le=4096)
    per_host: int = runtime(16, "parallel downloads from one host", ge=1, le=4096)
    threads: int | None = runtime(
        None, "threads that check and resize; default: one per core", ge=1
    )
    buffer_mb: int = runtime(256, "megabytes of images held in memory", ge=1)
    connect_timeout_s: float = runtime(10.0, "seconds to wait for a connection", gt=0)
    stall_timeout_s: float = runtime(20.0, "seconds to wait for the next byte", gt=0)
    total_timeout_s: float = runtime(120.0, "seconds per attempt", gt=0)
    retries: int = runtime(2, "retries where they may help", ge=0, le=20)
    max_retry_after_s: float = runtime(60.0, "maximum seconds a site may ask to wait", ge=0)
    host_patience_s: float | None = runtime(
        15.0,
        "seconds a host may fail without one good answer before its other images are left out, "
        "status host_failed; null: for ever",
        ge=0,
    )

    @field_validator("allow_private_addresses")
    @classmethod
    def _networks(cls, value: bool | list[str]) -> bool | list[str]:
        for network in value if isinstance(value, list) else []:
            ipaddress.ip_network(network)
        return value

    def limits(self) -> FetchLimits:
        """What of this concerns a single fetch."""
        networks: tuple[str, ...] | None
        if isinstance(self.allow_private_addresses, bool):
            networks = None if self.allow_private_addresses else ()
        else:
            networks = tuple(self.allow_private_addresses)
        shared = {
            name: getattr(self, name)
            for name in FetchLimits.__slots__
            if name in type(self).model_fields
        }
        return FetchLimits(allowed_networks=networks, **shared)


def open_download(params: DownloadParams) -> StageFunction:
    """The stage's function: rows in, IMAGES rows out, in order."""
    from surd.stages.download.downloader import Downloader

    images.hush()
    return lambda batches: Downloader(
        params.limits(),
        partial(outcome, params=params),
        table_rows=FILE_ROWS,
        concurrency=params.concurrency,
        per_host=params.per_host,
        host_patience_s=params.host_patience_s,
        contact=params.contact,
        threads=params.threads or os.cpu_count() or 1,
        buffer_bytes=params.buffer_mb * 1_000_000,
    ).run(batches)


STAGE = Stage(
    name="download",
    group="images",
    version=3,
    reads={"samples": ("url", "path")},
    schema=IMAGES,
    params=DownloadParams,
    open=open_download,
    workers="one",
    uses_network=True,
    limits=("per_host", "concurrency"),
    reuses_rows=True,
    batch_rows=FILE_ROWS,
)


def describe(data: bytes, params: DownloadParams) -> Row:
    """Everything the images group says about the bytes of one file. Raises ImageProblem."""
    facts = images.read_header(data, max_pixels=params.max_pixels)
    width, height, mime, orientation = facts.width, facts.height, facts.mime, facts.orientation
    small, resized = None, False
    if params.resize is not None and needs_resize(facts, params.resize):
        data, pixels = resize(data, facts, params.resize)
        height, width = pixels.shape[:2]
        mime, orientation, resized = f"image/{params.resize.format}", 1, True
        small = images.grey_thumbnail(pixels)
    elif params.decode_check:
        small = images.check_decodes(data, facts)
    phash = None
    if small is not None and params.perceptual_hash:
        phash = images.perceptual_hash(small)
    return {
        "status": "ok",
        "bytes": data,
        "mime": mime,
        "width": width,
        "height": height,
        "exif_orientation": orientation,
        "resized": resized,
        "sha256": images.sha256(data),
        "phash": phash,
    }


def outcome(fetched: Fetched, params: DownloadParams) -> Row:
    """The row for what was fetched; an image that is no good becomes a verdict.

    Raises MemoryError where the machine is too small: no verdict, or the dataset would depend on
    the machine.
    """
    row: Row = {
        "status": fetched.status,
        "detail": fetched.detail,
        "http_status": fetched.http_status,
    }
    if fetched.body is not None:
        try:
            row |= describe(fetched.body, params)
        except images.ImageProblem as problem:
            row |= {"status": problem.status, "detail": problem.detail}
        except MemoryError as error:
            raise MemoryError(
                "out of memory while decoding an image; lower download.threads or "
                "download.max_pixels, or give the process more memory"
            ) from error
        except Exception as error:  # whatever a hostile file does, it costs one row
            detail = f"{type(error).__name__}: {error}".split("\n", 1)[0][:200]
            row |= {"status": "decode_error", "detail": detail}
    return row
