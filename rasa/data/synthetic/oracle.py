"""The upper bound: a ranking by what images truly show against what captions tell. No pixel, no word is read.

Shape suffixes: T captions, B a block of them, I images, V values of facts.
"""

import numpy as np

from rasa.data.synthetic.facts import Facts, FloatArray

RANKS = (1, 5, 10)
BLOCK = 1024  # captions at a time
UNTOLD = 2.0**-10  # what a visible fact costs that the caption does not tell: less than any told one is worth


def upper_bound(facts: Facts) -> dict[str, float]:
    """R@1, R@5 and R@10 in percent as `r1`, ...; as `r1_others`, ... without the query's own image.

    Images score by how many told facts hold; among equals those are first that show least besides. Where images stay
    tied, the mean over all their orders counts.
    """
    found = {name: np.zeros(0) for k in RANKS for name in (f"r{k}", f"r{k}_others")}
    for start in range(0, len(facts.told_TV), BLOCK):
        block = slice(start, start + BLOCK)
        scores_BI = scores(facts.told_TV[block], facts.visible_IV)
        right_BI = facts.caption_identity_T[block, None] == facts.image_identity_I
        own_B = facts.caption_image_T[block]
        for k in RANKS:
            found[f"r{k}"] = np.append(found[f"r{k}"], recall(scores_BI, right_BI, k))
        scores_BI[np.arange(len(own_B)), own_B] = -np.inf
        right_BI[np.arange(len(own_B)), own_B] = False
        for k in RANKS:
            found[f"r{k}_others"] = np.append(found[f"r{k}_others"], recall(scores_BI, right_BI, k))
    return {name: round(100 * float(hits.mean()), 1) for name, hits in found.items() if len(hits)}


def scores(told_TV: FloatArray, visible_IV: FloatArray) -> FloatArray:
    """How well each image shows what each caption tells [T, I]."""
    held: FloatArray = told_TV @ visible_IV.T - np.float32(UNTOLD) * visible_IV.sum(1)
    return held


def recall(scores_TI: FloatArray, right_TI: np.ndarray, k: int) -> np.ndarray:
    """The probability that the first `k` images hold a right one [T], if tied images come in random order."""
    best_T1 = np.where(right_TI, scores_TI, -np.inf).max(1, keepdims=True)
    tied_TI = scores_TI == best_T1
    before_T = (scores_TI > best_T1).sum(1)
    right_T, wrong_T = (tied_TI & right_TI).sum(1), (tied_TI & ~right_TI).sum(1)
    missed_T = np.ones(len(scores_TI))
    for place in range(k):  # the next of the tied ones is wrong again
        left_T = np.maximum(wrong_T - place, 0) / np.maximum(right_T + wrong_T - place, 1)
        missed_T *= np.where(before_T + place < k, left_T, 1.0)
    return 1 - missed_T
