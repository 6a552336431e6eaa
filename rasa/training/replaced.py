"""What a generator puts in place of masked words, and what the detector makes of it (Figures 1b and 3 of the paper).

On held-out pairs, with the masks of rasa/training/detectors.py, so that all rows and seeds of one data set are asked
about the same words. Shape suffixes: B captions, L tokens, N packed tokens of all, P places at which the generator
speaks, V vocabulary.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from rasa.config.run import Config
from rasa.data.loader import TrainingLoader
from rasa.data.synthetic.synonyms import Synonyms
from rasa.data.tokenizer import Tokenizer
from rasa.draws import Draws, in_mode
from rasa.model.rasa import RaSa
from rasa.objectives.language import IGNORED, SpecialIds
from rasa.training.inputs import step_inputs
from rasa.training.step import Teachers, step_losses
from rasa.training.words import KEPT, Caption, Replaced


class Spoken(NamedTuple):
    """What the generator said in one batch."""

    entropy_P: Tensor  # of its distribution, nats
    replaced_P: Tensor  # bool: another word than was written
    same_P: Tensor  # bool: another word, that means the same


def spoken(trace: Mapping[str, Tensor], ids_BL: Tensor, tokenizer: Tokenizer, synonyms: Synonyms) -> Spoken:
    """From a step's trace, and the captions as they were written; all on the CPU."""
    logits_PV = trace["rtd_generator_logits"].float()
    log_p_PV = logits_PV.log_softmax(1)
    entropy_P = -(log_p_PV.exp() * log_p_PV).sum(1).cpu()
    positions_P, new_ids_BL = trace["rtd_positions"].cpu(), trace["rtd_input_ids"].cpu()
    new_P, old_P = new_ids_BL.flatten()[positions_P], ids_BL.flatten()[positions_P]
    replaced_P = new_P != old_P
    same_P = torch.zeros_like(replaced_P)
    rows_BL = [tokenizer.decode_tokens(row) for row in ids_BL]
    words_P = tokenizer.decode_tokens(new_P)
    for number in replaced_P.nonzero().flatten().tolist():
        row, place = divmod(int(positions_P[number]), ids_BL.shape[1])
        same_P[number] = synonyms.same(rows_BL[row], place, words_P[number])
    return Spoken(entropy_P, replaced_P, same_P)


def generator_figures(said: Iterable[Spoken]) -> dict[str, float]:
    """How confusing the generator is where it speaks.

    `entropy`: mean entropy of its distribution, nats; `synonyms`: percent of the words that it exchanges for one that
    means the same (only if it exchanges any).
    """
    entropy_P, replaced_P, same_P = (torch.cat(parts) for parts in zip(*said, strict=True))
    if not len(entropy_P):
        return {}
    figures = {"entropy": float(entropy_P.double().mean())}
    if replaced_P.any():
        figures["synonyms"] = 100 * int(same_P.sum()) / int(replaced_P.sum())
    return figures


def captions_of(
    trace: Mapping[str, Tensor],
    said: Spoken,
    ids_BL: Tensor,
    mask_BL: Tensor,
    tokenizer: Tokenizer,
    numbers: Iterable[int],
    images: Iterable[str],
) -> list[Caption]:
    """The captions of a batch, as many as have a number and an image's file."""
    labels_N, new_ids_BL = trace["rtd_labels_packed"].cpu(), trace["rtd_input_ids"].cpu()
    probability_N = trace["rtd_logits"].float().softmax(1)[:, 1].cpu()
    starts_B = mask_BL.sum(1).cumsum(0) - mask_BL.sum(1)
    spoken_at = dict(zip(trace["rtd_positions"].tolist(), said.same_P.tolist(), strict=True))
    found = []
    for row, (number, image) in enumerate(zip(numbers, images, strict=True)):
        length, start = int(mask_BL[row].sum()), int(starts_B[row])
        inner = range(1, length - 1)  # between [CLS] and [SEP]
        at = [row * ids_BL.shape[1] + place for place in inner]
        scored = [int(labels_N[start + place]) != IGNORED for place in inner]
        found.append(
            Caption(
                caption=number,
                image=image,
                pieces=tuple(tokenizer.decode_tokens(ids_BL[row, 1 : length - 1])),
                new=tuple(tokenizer.decode_tokens(new_ids_BL[row, 1 : length - 1])),
                masked=tuple(place for place, cell in enumerate(at) if cell in spoken_at),
                same=tuple(place for place, cell in enumerate(at) if spoken_at.get(cell)),
                probability=tuple(
                    round(float(probability_N[start + place]), 4) if asked else None
                    for place, asked in zip(inner, scored, strict=True)
                ),
            )
        )
    return found


@torch.inference_mode()
def replaced_words(
    model: RaSa,
    teachers: Teachers,
    pairs: TrainingLoader,
    device: torch.device,
    config: Config,
    tokenizer: Tokenizer,
    epoch: int,
    draw: int = 0,
    number: int = KEPT,
) -> Replaced:
    """The words of `number` captions of `pairs`, which the seed `draw` chooses. Without dropout.

    Draw 0 has the captions, masks and words of the run's own figures (rasa/training/detectors.py).
    """
    fidelity = config.fidelity.model_copy(update={"ranks": 1})
    alone = config.objectives.model_copy(update={"weights": {"rtd": 1.0}})
    special = SpecialIds(tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
    synonyms, order = Synonyms(tokenizer), pairs.order(draw)[:number].tolist()
    found: list[Caption] = []
    with in_mode(model, False), in_mode(teachers.momentum, False):
        for batch, loaded in enumerate(pairs.epoch(draw)):
            inputs, numbers = step_inputs(loaded, device), order[len(found) : len(found) + len(loaded.identity)]
            trace = step_losses(model, teachers, inputs, alone, fidelity, 0.0, Draws(draw, batch), special).trace
            said = spoken(trace, inputs.annotated.ids, tokenizer, synonyms)
            files = [pairs.split.image_files[pairs.split.caption_images[caption]] for caption in numbers]
            ids_BL, mask_BL = inputs.annotated
            found += captions_of(trace, said, ids_BL, mask_BL, tokenizer, numbers, files)
            if len(found) >= len(order):
                break
    return Replaced(pairs.split.name, epoch, str(config.objectives.generator), draw, tuple(found))
