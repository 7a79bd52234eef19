"""``surd`` in one of several processes, started by torch.distributed.run; notes what it encodes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from surd.cli import app
from surd.training import cache, run

encode = cache.encode_samples
note = Path(os.environ["ENCODED"]) / os.environ["RANK"]


def noted(pipeline: Any, samples: Any, **how: Any) -> Any:
    with note.open("a") as file:
        file.writelines(f"{sample.id}\n" for sample in samples)
    return encode(pipeline, samples, **how)


if __name__ == "__main__":
    cache.encode_samples, run._CACHE_BATCH = noted, 4  # type: ignore[assignment]
    note.touch()
    sys.argv[0] = "surd"
    app.main()
