"""A verdict of a sequential study in words: its look, and what an early stop does."""

from matrix.evidence.verdict import SUPPORTED, Verdict
from matrix.evidence.weigh import Evidence
from matrix.report.numbers import p_value


def stopped_early(evidence: Evidence, verdict: Verdict) -> str:
    """Of a claim that ended an arm before the last look; "" of others."""
    look = verdict.look
    if look is None or not look.early or verdict.outcome != SUPPORTED:
        return ""
    return "stopped early: exaggerated, as is what stops for its size"


def place(evidence: Evidence, verdict: Verdict) -> str:
    """1 of 4 (6 of 12 seeds); "" where nothing is sequential."""
    look = verdict.look
    if look is None:
        return ""
    n, most = len(verdict.differences), look.planned[-1]
    return f"{look.number} of {len(look.planned)} ({n} of {most} seeds)"


def repeated_p(evidence: Evidence, verdict: Verdict) -> str:
    """The p over all looks so far, which Holm adjusts; "" where nothing is sequential."""
    return "" if verdict.look is None else p_value(verdict.look.p)


def standing(evidence: Evidence) -> str:
    """The looks planned and those used, and whether the study is over."""
    progress = evidence.progress
    at = ", ".join(map(str, progress.planned))
    used = f"{progress.judged} of {len(progress.planned)} used"
    end = "decided" if progress.over else "not decided yet"
    return (
        f"Looks at {at} seeds, {used}; {end}. Intervals are repeated ones: what no look "
        "excludes."
    )
