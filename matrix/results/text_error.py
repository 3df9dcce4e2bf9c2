"""Two sources of error: the seeds that trained, and the text that was evaluated.

d[s, u] is what unit u (a document or a window) costs an arm more than its control under
seed s, in nats; n_u its scored tokens, N = Σ n_u, S seeds, U units. The difference is the
ratio D = Σ_u d̄_u / N, d̄_u the mean over seeds; m_s = Σ_u d[s, u] / N is seed s's own.

    seeds²       = Σ_s (m_s − D)² / (S (S−1))
    text²        = U/(U−1) · Σ_u (d̄_u − D n_u)² / N²
    interaction² = U/(U−1) · S/(S−1) · Σ_su (d[s,u] − m_s n_u − d̄_u + D n_u)² / (S N)²
    both²        = seeds² + text² − interaction², at least the larger of the first two

seeds² is what the spread over seeds says of another draw of seeds on this text; text² is
the standard error clustered by document (Miller 2024, 2411.00640) of the ratio
estimator. Each holds σ² of the interaction of seed and unit over S U once, so their sum
holds it twice: with two crossed random effects d = n_u (D + a_s + b_u + e_su) the
variance is σ_a²/S + σ_b² Σn²/N² + σ_e² Σn²/(S N²) (Cornfield and Tukey 1956; Owen 2007,
"The pigeonhole bootstrap", 0712.1111). The degrees of freedom are Satterthwaite's.

Legend: S seeds, U units.
"""

from dataclasses import dataclass, replace
from math import sqrt
from typing import Mapping, Sequence

import numpy as np

from matrix import units
from matrix.results.run import Run


@dataclass(frozen=True)
class TextError:
    """An arm minus its control, in nats/token of the last evaluation (see above).

    unit: "document" or "window". df: degrees of freedom of `both`.
    """

    unit: str
    units: int
    tokens: int
    seeds: int
    difference: float
    seed_error: float
    text_error: float
    both: float
    df: float

    def scaled(self, factor: float) -> "TextError":
        """The same in another unit of the loss."""
        return replace(
            self,
            difference=factor * self.difference,
            seed_error=factor * self.seed_error,
            text_error=factor * self.text_error,
            both=factor * self.both,
        )


def of_runs(
    arm: Mapping[int, Run], control: Mapping[int, Run]
) -> tuple[TextError | None, str]:
    """(the errors over the seeds that both have, "") or (None, why there are none)."""
    seeds = sorted(arm.keys() & control.keys())
    sides = [run for seed in seeds for run in (arm[seed], control[seed])]
    texts = [run.evaluated_text for run in sides]
    lacking = units.distinct(text for text in texts if isinstance(text, str))
    if lacking:
        return None, "; ".join(lacking)
    if len(seeds) < 2:
        return None, "fewer than 2 seeds"
    first = texts[0]
    for text in texts:
        if text.text_sha256 != first.text_sha256:
            return None, "the arms read other texts"
        if text.losses.unit != first.losses.unit or not np.array_equal(
            text.losses.tokens, first.losses.tokens
        ):
            return None, "the arms' losses are by other units of the text"
    if len(first.losses.tokens) < 2:
        return None, "one unit of text"
    nats = np.array([text.losses.nats for text in texts], np.float64)
    return two_way(nats[0::2] - nats[1::2], first.losses.tokens, first.losses.unit), ""


def two_way(
    d_SU: np.ndarray, tokens_U: Sequence[int], unit: str = "document"
) -> TextError:
    """The errors of the differences of sums d[s, u] over units of that many tokens.

    Raises ValueError below two seeds or two units, and for what is not finite.
    """
    d_SU, n_U = np.asarray(d_SU, np.float64), np.asarray(tokens_U, np.float64)
    S, U = d_SU.shape
    if S < 2 or n_U.shape != (U,) or U < 2 or not np.isfinite(d_SU).all():
        raise ValueError(f"differences {d_SU.shape} for {n_U.shape} units")
    N = n_U.sum()
    m_S, mean_U = d_SU.sum(1) / N, d_SU.mean(0)
    D = m_S.mean()
    rest_SU = d_SU - np.outer(m_S, n_U) - (mean_U - D * n_U)
    seeds = ((m_S - D) ** 2).sum() / (S * (S - 1))
    text = U / (U - 1) * ((mean_U - D * n_U) ** 2).sum() / N**2
    shared = U / (U - 1) * S / (S - 1) * (rest_SU**2).sum() / (S * N) ** 2
    both = max(seeds + text - shared, seeds, text)
    return TextError(
        unit=unit,
        units=U,
        tokens=int(N),
        seeds=S,
        difference=float(D),
        seed_error=sqrt(seeds),
        text_error=sqrt(text),
        both=sqrt(both),
        df=_degrees(both, seeds, text, shared, S, U),
    )


def _degrees(
    both: float, seeds: float, text: float, shared: float, S: int, U: int
) -> float:
    """Satterthwaite's degrees of freedom of a sum of mean squares, at least those of
    the seeds or the units alone.
    """
    below = seeds**2 / (S - 1) + text**2 / (U - 1) + shared**2 / ((S - 1) * (U - 1))
    least = float(min(S, U) - 1)
    return max(both**2 / below, least) if below else least
