"""Training time without evaluation, checkpoints and warm-up steps."""

import time
from collections.abc import Callable


class Clock:
    """Adds up the seconds between `start` and `pause`, device work included.

    `synchronize` waits for the device, so that queued work counts where it was
    asked for. `agree` makes of a rank's reading the one that holds for all.
    """

    def __init__(
        self,
        seconds: float,
        synchronize: Callable[[], None],
        agree: Callable[[float], float] = lambda seconds: seconds,
    ):
        self.seconds = seconds
        self._synchronize, self._agree = synchronize, agree
        self._since: float | None = None

    def start(self) -> None:
        """Begin to count from now; what ran since the last reading is dropped."""
        self._synchronize()
        self._since = time.perf_counter()

    def read(self) -> float:
        """Seconds counted so far."""
        if self._since is not None:
            self._synchronize()
            now = time.perf_counter()
            self.seconds = self._agree(self.seconds + now - self._since)
            self._since = now
        return self.seconds

    def pause(self) -> None:
        """Count up to now, then stop counting."""
        self.read()
        self._since = None
