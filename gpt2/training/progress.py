"""What a run shows while it trains: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Any


def duration(seconds: float) -> str:
    """1h02m, 3m05s, 12s."""
    whole = int(round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


class Display:
    """Progress of one run on one stream; of a quiet one nothing is shown."""

    def __init__(self, total: int, start: int, quiet: bool = False):
        self.total, self.start = total, start
        self.began = time.monotonic()
        self.live = sys.stdout.isatty()
        self.width = 0
        self.quiet = quiet

    def note(self, text: str) -> None:
        """A line that stays."""
        if self.quiet:
            return
        self._wipe()
        print(text, flush=True)

    def train(self, row: dict[str, Any]) -> None:
        """A logged training step."""
        if self.quiet:
            return
        done = row["step"] + 1
        spent = time.monotonic() - self.began
        rate = spent / max(done - self.start, 1)
        parts = [
            f"step {done}/{self.total}",
            f"loss {row['loss']:.4f}",
            f"lr {row['lr']:.2e}",
        ]
        if row["tokens_per_s"] is not None:
            parts.append(f"{row['tokens_per_s']:,.0f} tok/s")
        if row["mfu"] is not None:
            parts.append(f"MFU {100 * row['mfu']:.1f}%")
        parts.append(f"ETA {duration(rate * (self.total - done))}")
        text = "  ".join(parts)
        if not self.live:
            print(text, flush=True)
            return
        filled = round(20 * done / self.total)
        line = f"[{'#' * filled}{'.' * (20 - filled)}] {text}"
        print("\r" + line.ljust(self.width), end="", flush=True)
        self.width = len(line)

    def evaluation(self, row: dict[str, Any]) -> None:
        """An evaluation."""
        self.note(
            f"eval at step {row['step']}: loss {row['loss']:.4f} nats/token, "
            f"perplexity {row['perplexity']:.2f}, {row['bits_per_byte']:.4f} bits/byte"
        )

    def _wipe(self) -> None:
        if self.live and self.width:
            print("\r" + " " * self.width + "\r", end="")
            self.width = 0
