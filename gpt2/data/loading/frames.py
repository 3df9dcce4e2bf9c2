"""What passes between a run and the process that reads its corpus (feeder.py)."""

import struct
from typing import Any

HEAD = struct.Struct("<cQQ")
"""Kind, count and length of a frame."""

Position = dict[str, Any]
START: Position = {"epoch": 0, "tokens": 0, "stream": None}
"""The beginning of the training tokens; `tokens` are those of the epoch so far."""
