"""Group-sequential boundaries: how sure a look must be, so that all looks together err no more often than one would.

The method is Lan and DeMets' (1983): a function says how much of the error may be spent by which share of the seeds.
Ours is Kim and DeMets' (1987) level * share^1.5. The boundaries are nominal levels, found by the recursive integration
of Armitage, McPherson and Rowe (1969) for normal statistics, and are compared with the p of a t-test (Jennison and
Turnbull 2000, 4.4). docs/decisions/0013-verdicts-and-looks.md says why.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from experiments.statistics import LEVEL, Floats

LOOKS = (3, 5, 8, 12)  # seeds
FEWEST, MOST = LOOKS[0], LOOKS[-1]
GROWTH = 1.5  # from one look to the next beyond these
SPENDING = 1.5  # exponent
REACH, POINTS = 9.0, 721  # of the grid of the statistic
_LEVELS = np.append(np.geomspace(1e-8, 0.9, 90), LEVEL)
_LEVELS.sort()


def looks(most: int) -> tuple[int, ...]:
    """After how many seeds one looks, the last time after `most`: 3, 5, 8, 12, and then half as many again each time.

    Raises ValueError for less than 3.
    """
    if most < FEWEST:
        raise ValueError(f"looks: {most} seeds, and {FEWEST} are the fewest that give a verdict")
    found = list(LOOKS)
    while found[-1] < most:
        found.append(round(found[-1] * GROWTH))
    return (*(look for look in found if look < most), most)


def next_look(n: int, most: int) -> int | None:
    """The first look after more than n seeds; None if there is none up to `most`."""
    return next((look for look in looks(most) if look > n), None)


def nominal(n: int, most: int, level: float = LEVEL) -> float:
    """The two-sided p under which the look after n of `most` seeds, and the looks before it, reject at `level`."""
    return float(np.exp(np.interp(np.log(level), np.log(_LEVELS), np.log(_nominal(n, max(n, most))))))


def sequential_p(p: ArrayLike, n: int, most: int) -> Floats:
    """The least level at which the look after n of `most` seeds rejects, given its own two-sided p [...].

    The minimum over the looks up to now is valid whenever one stops (Liu and Anderson 2008), and may be corrected as
    any other p. At most 1.
    """
    at = _nominal(n, max(n, most))
    values = np.maximum(np.asarray(p, dtype=np.float64), 1e-300)
    inside = np.exp(np.interp(np.log(values), np.log(at), np.log(_LEVELS)))
    below = values * _LEVELS[0] / at[0]
    return np.where(values < at[0], below, np.where(values >= at[-1], 1.0, inside))


def _normal_pdf(x: Floats, mean: Floats | float = 0.0, deviation: float = 1.0) -> Floats:
    """scipy.stats.norm.pdf to the bit, without its checks of each element: a third of the time."""
    density: Floats = np.exp(-(((x - mean) / deviation) ** 2) / 2.0) / np.sqrt(2 * np.pi) / deviation
    return density


class _Looked(NamedTuple):
    """After a look, for each of _LEVELS: the density of the statistic where no look has rejected [POINTS, levels], the
    error that is spent, and the statistic beyond which the look rejects."""

    share: float
    density: Floats
    spent: Floats
    bound: Floats


@cache
def _nominal(n: int, most: int) -> Floats:
    """The nominal levels of the look after n of `most` seeds, for each of _LEVELS."""
    before = [look for look in looks(most) if look < n]
    levels: Floats = 2 * special.ndtr(-_look(_looked(len(before), most), n / most).bound)
    return levels


@cache
def _looked(count: int, most: int) -> _Looked | None:
    """After the first `count` looks, which all later ones have in common; None before the first."""
    return _look(_looked(count - 1, most), looks(most)[count - 1] / most) if count else None


def _look(last: _Looked | None, share: float) -> _Looked:
    """The look at this share of the seeds, after the last one."""
    at = np.linspace(-REACH, REACH, POINTS)  # of the statistic
    width, half = at[1] - at[0], POINTS // 2
    if last is None:
        density = np.repeat(_normal_pdf(at)[:, None], len(_LEVELS), 1)  # of those that no look has rejected
        spent = np.zeros_like(_LEVELS)
    else:
        # The mean of n seeds is a sum of independent ones, so z' = r z + sqrt(1 - r²) e with r² = n / n'.
        r = np.sqrt(last.share / share)
        density = _normal_pdf(at[:, None], r * at, np.sqrt(1 - r * r)) * width @ last.density
        spent = last.spent
    due = _LEVELS * share**SPENDING
    beyond = width * (2 * np.cumsum(density[::-1], 0)[:half] - density[::-1][:half])  # P(|z| > at), trapezoids
    bound = np.array([np.interp(want, tail, at[::-1][:half]) for want, tail in zip(due - spent, beyond.T, strict=True)])
    kept = density * np.clip((bound - np.abs(at)[:, None]) / width + 0.5, 0, 1)
    return _Looked(share, kept, due, bound)
