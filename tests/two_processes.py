"""``surd`` in one of several processes, started by torch.distributed.run; notes what it encodes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from surd.cli import app
from surd.training import latents

encode = latents.encode_pictures
note = Path(os.environ["ENCODED"]) / os.environ["RANK"]


def noted(vae: Any, pictures: Any, *how: Any) -> Any:
    with note.open("a") as file:
        file.writelines(f"{picture.id}\n" for picture in pictures)
    return encode(vae, pictures, *how)


if __name__ == "__main__":
    latents.encode_pictures, latents._PART_ROWS = noted, 4  # type: ignore[assignment]
    note.touch()
    sys.argv[0] = "surd"
    app.main()
