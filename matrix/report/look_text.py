"""A verdict of a sequential study in words: its look, why it stopped, what to make of it."""

from matrix.evidence.verdict import SUPPORTED, Verdict
from matrix.evidence.weigh import Evidence

EXAGGERATED = "stopped early: the difference is exaggerated, as one that is stopped for its size is"


def cause(verdict: Verdict) -> str:
    """Why an arm stopped, or that it goes on; of a claim that came early, what that does
    to the difference."""
    early = verdict.outcome == SUPPORTED and verdict.look.early
    return "; ".join([*verdict.reasons, *([EXAGGERATED] if early else [])])


def place(verdict: Verdict) -> str:
    """Look 1 of 4 (6 of 12 seeds)."""
    look = verdict.look
    n, most = len(verdict.differences), look.planned[-1]
    return f"look {look.number} of {len(look.planned)} ({n} of {most} seeds)"


def line(evidence: Evidence) -> str:
    """The looks planned and those used, and whether the study is over."""
    progress = evidence.progress
    at = ", ".join(map(str, progress.planned))
    used = f"{progress.judged} of {len(progress.planned)} used"
    end = "decided" if progress.over else "not decided yet"
    return f"Looks at {at} seeds, {used}; {end}."
