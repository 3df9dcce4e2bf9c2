"""trackio: an SQLite database of this machine with a dashboard, no account.

Rows are written at once and under ids of their own (RUN-n), which the database keeps
unique: a row that is written again changes nothing. TRACKIO_DIR says where it lies.
"""

import sqlite3
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Sequence

from trackio.sqlite_storage import SQLiteStorage
from trackio.utils import TRACKIO_DIR

from matrix.trackers.content import Description, Numbers
from matrix.trackers.target import Target, TrackerError

ERRORS = (sqlite3.Error, OSError, ValueError)


class TrackioSink:
    """One trackio run."""

    def __init__(self, target: Target):
        self.target = target
        self._about: Description | None = None
        self._config: dict[str, Any] = {}
        self._known = 0

    def open(
        self, about: Description, tags: Sequence[str], directory: Path, live: bool
    ) -> int:
        """See Sink."""
        self._about = about
        created = datetime.fromtimestamp(about.config["started"], timezone.utc)
        self._config = {**about.config, "tags": list(tags), "_Group": about.group}
        self._config["_Created"] = created.isoformat()
        try:
            SQLiteStorage.validate_project_name(self.target.project)
            self._known = SQLiteStorage.get_log_count(
                self.target.project, run_id=about.id
            )
        except ERRORS as error:
            raise TrackerError(f"trackio: {error}") from error
        return self._known

    def put(self, rows: Sequence[tuple[int, Numbers]]) -> None:
        """See Sink."""
        config, self._config = self._config, {}  # once: it is replaced as a whole
        try:
            SQLiteStorage.bulk_log(
                project=self.target.project,
                run=self._about.name,
                run_id=self._about.id,
                metrics_list=[_metrics(row) for _, row in rows],
                steps=[row["step"] for _, row in rows],
                config=config or None,
                log_ids=[f"{self._about.id}-{number}" for number, _ in rows],
            )
        except ERRORS as error:
            raise TrackerError(f"trackio: {error}") from error

    def close(self, done: bool) -> None:
        """See Sink. A configuration that no row took along goes with row 0, again."""
        if self._config and self._known:
            self.put([(0, {"step": 0})])

    @property
    def url(self) -> str | None:
        """See Sink."""
        return str(TRACKIO_DIR)


def _metrics(row: Numbers) -> Numbers:
    return {key: value for key, value in row.items() if key != "step"}
