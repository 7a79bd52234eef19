"""Fetches the urls of a CSV file with aiohttp alone, and prints the seconds that took.

    python benchmarks/_bare_aiohttp.py urls.csv CONCURRENCY PER_HOST

It keeps nothing and checks no more than the status.
"""

from __future__ import annotations

import asyncio
import csv
import sys
import time
from pathlib import Path

import aiohttp


async def fetch_all(urls: list[str], concurrency: int, per_host: int) -> None:
    """Raises aiohttp.ClientError for the first url that gives no file."""
    left = iter(urls)
    connector = aiohttp.TCPConnector(limit=concurrency, limit_per_host=per_host, ttl_dns_cache=60)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def worker() -> None:
            for url in left:
                async with session.get(url, raise_for_status=True) as response:
                    await response.read()

        await asyncio.gather(*(worker() for _ in range(concurrency)))


if __name__ == "__main__":
    with Path(sys.argv[1]).open(newline="", encoding="utf-8") as table:
        urls = [row["url"] for row in csv.DictReader(table)]
    started = time.perf_counter()
    asyncio.run(fetch_all(urls, int(sys.argv[2]), int(sys.argv[3])))
    print(time.perf_counter() - started)
