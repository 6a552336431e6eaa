"""Which queries a gallery shows: chosen by a rule and by chance, never by hand. Shape suffix: T queries.

Every rule is a mask over all queries. What is shown of it is drawn by a seed, from an order that depends on the seed
and on the rule alone: another run, or a rule that holds for more queries, reshuffles nothing.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reports.answers import Answers, Asked

Mask = NDArray[np.bool_]


class Rule(NamedTuple):
    """`sentence` says what the queries in the mask have in common; a mask is None where the rule does not apply."""

    name: str
    sentence: Callable[[Sequence[Answers]], str]
    mask_T: Callable[[Sequence[Answers], Asked], Mask | None]


class Picked(NamedTuple):
    """A rule's queries: how many it holds for, and those that are shown, ascending."""

    name: str
    sentence: str
    total: int
    queries: tuple[int, ...]


def pick(
    names: Sequence[str], answers: Sequence[Answers], asked: Asked, number: int, seed: int
) -> tuple[list[Picked], list[str]]:
    """At most `number` queries of each rule, and the names of the rules that ask for what these runs do not have."""
    found, without = [], []
    for name in names:
        rule = RULES[name]
        mask_T = rule.mask_T(answers, asked)
        if mask_T is None:
            without.append(name)
            continue
        order_T = np.random.default_rng([seed, zlib.crc32(name.encode())]).permutation(len(mask_T))
        chosen = order_T[mask_T[order_T]][:number]
        found.append(Picked(name, rule.sentence(answers), int(mask_T.sum()), tuple(sorted(chosen.tolist()))))
    return found, without


def _two(mask: Callable[[Answers, Answers], Mask]) -> Callable[[Sequence[Answers], Asked], Mask | None]:
    """Of the first and the last run; nothing of one run alone."""
    return lambda answers, asked: mask(answers[0], answers[-1]) if len(answers) > 1 else None


def _restaged(mask: Callable[[Answers], Mask]) -> Callable[[Sequence[Answers], Asked], Mask | None]:
    """Of the last run, if it has a second stage."""
    return lambda answers, asked: None if answers[-1].match_TJ is None else mask(answers[-1])


def _confused(answers: Sequence[Answers], asked: Asked) -> Mask | None:
    if not asked.twins:
        return None
    twin_T = np.array([asked.twins.get(identity, -1) for identity in asked.identity_T.tolist()])
    first_T = asked.image_identity_N[answers[-1].best_TJ[:, 0]]
    return np.asarray((twin_T >= 0) & (first_T == twin_T))


def _every(answers: Sequence[Answers], right: bool) -> Mask:
    return np.asarray(np.stack([each.right_T == right for each in answers]).all(0))


RULES = {
    rule.name: rule
    for rule in (
        Rule(
            "fixed",
            lambda answers: f"wrong by {answers[0].name}, right by {answers[-1].name}",
            _two(lambda first, last: ~first.right_T & last.right_T),
        ),
        Rule(
            "broken",
            lambda answers: f"right by {answers[0].name}, wrong by {answers[-1].name}",
            _two(lambda first, last: first.right_T & ~last.right_T),
        ),
        Rule(
            "wrong",
            lambda answers: "wrong by every run that is shown",
            lambda answers, asked: _every(answers, right=False),
        ),
        Rule(
            "stage-2-fixed",
            lambda answers: f"wrong by stage 1 of {answers[-1].name}, right after its stage 2",
            _restaged(lambda last: (last.stage1_first_rank_T > 1) & last.right_T),
        ),
        Rule(
            "stage-2-broken",
            lambda answers: f"right by stage 1 of {answers[-1].name}, wrong after its stage 2",
            _restaged(lambda last: (last.stage1_first_rank_T == 1) & ~last.right_T),
        ),
        Rule(
            "near-twin",
            lambda answers: f"{answers[-1].name} shows the near-twin of the person who is described",
            _confused,
        ),
        Rule(
            "random",
            lambda answers: "drawn from all queries",
            lambda answers, asked: np.ones(len(asked.texts), dtype=bool),
        ),
    )
}
