"""What the PRD and RTD heads have learned, on held-out pairs: a head that only guesses makes its row meaningless.

And how confusing the generator is that RTD's head is asked about.
"""

from collections.abc import Iterable

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from rasa.config.fidelity import Fidelity
from rasa.config.run import DETECTORS, Objectives
from rasa.data.synthetic.synonyms import Synonyms
from rasa.data.tokenizer import Tokenizer
from rasa.draws import Draws, in_mode
from rasa.model.rasa import RaSa
from rasa.objectives.language import IGNORED, SpecialIds
from rasa.training.replaced import generator_figures, spoken
from rasa.training.step import StepInputs, Teachers, step_losses


@torch.inference_mode()
def detector_figures(
    model: RaSa,
    teachers: Teachers,
    batches: Iterable[StepInputs],
    objectives: Objectives,
    fidelity: Fidelity,
    special: SpecialIds,
    tokenizer: Tokenizer,
) -> dict[str, float]:
    """`detection`'s figures of each head that is trained on `batches`, under names like `prd_recall`.

    With RTD also its generator's (`generator_figures`), as `rtd_entropy` and `rtd_synonyms`.

    Masks and words are drawn as in training, but by the same numbers at each call and whatever the run's seed. Without
    dropout.
    """
    on = {name: weight for name, weight in objectives.weights.items() if name in DETECTORS}
    if not on:
        return {}
    alone = objectives.model_copy(update={"weights": on})
    one_rank = fidelity.model_copy(update={"ranks": 1})
    found: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in on}
    said, synonyms = [], Synonyms(tokenizer)
    with in_mode(model, False), in_mode(teachers.momentum, False):
        for number, batch in enumerate(batches):
            trace = step_losses(model, teachers, batch, alone, one_rank, 0.0, Draws(0, number), special).trace
            if "prd" in on:
                found["prd"].append((trace["prd_logits"], batch.weak))
            if "rtd" in on:
                scored = trace["rtd_labels_packed"] != IGNORED
                found["rtd"].append((trace["rtd_logits"][scored], trace["rtd_labels_packed"][scored]))
                said.append(spoken(trace, batch.annotated.ids, tokenizer, synonyms))
    figures: dict[str, float] = {}
    for name, parts in found.items():
        logits, labels = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
        figures |= {f"{name}_{key}": value for key, value in detection(logits.float(), labels.bool()).items()}
    if said:
        figures |= {f"rtd_{key}": value for key, value in generator_figures(said).items()}
    return figures


def detection(logits_N2: Tensor, positive_N: Tensor) -> dict[str, float]:
    """How well class 1 of `logits` finds the positives; shares in percent.

    `loss` is the mean cross-entropy, `guess` that of the best constant guess (the entropy of the share of positives),
    both in nats; `base`: the share of positives; `recall` and `precision` at probability 1/2 (precision only if
    something is called positive); `auc`: the probability that a positive scores above a negative, ties half. With one
    class alone neither guess nor recall mean anything: loss and base only.
    """
    margin = (logits_N2[:, 1] - logits_N2[:, 0]).double()
    signed = torch.where(positive_N, margin, -margin)
    positives, negatives = int(positive_N.sum()), int((~positive_N).sum())
    base = positives / max(1, positives + negatives)
    figures = {"loss": float(torch.nn.functional.softplus(-signed).mean()), "base": 100 * base}
    if not positives or not negatives:
        return figures
    called = margin > 0
    right = int((called & positive_N).sum())
    figures["guess"] = -base * float(np.log(base)) - (1 - base) * float(np.log(1 - base))
    figures["recall"] = 100 * right / positives
    if called.any():
        figures["precision"] = 100 * right / int(called.sum())
    ranks = torch.from_numpy(rankdata(margin.numpy()))
    above = float(ranks[positive_N].sum()) - positives * (positives + 1) / 2
    return figures | {"auc": 100 * above / (positives * negatives)}
