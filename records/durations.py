"""How long something takes, as a reader sees it."""

MINUTE, HOUR, DAY = 60, 3600, 86400


def duration(seconds: float) -> str:
    """Seconds as 4.2s, 1m 12s, 2h 03m or 1d 04h."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // MINUTE}m {whole % MINUTE:02d}s"
    minutes = round(seconds / MINUTE)
    if minutes < DAY // MINUTE:
        return f"{minutes // 60}h {minutes % 60:02d}m"
    hours = round(seconds / HOUR)
    return f"{hours // 24}d {hours % 24:02d}h"
