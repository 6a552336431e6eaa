"""Whether a word of a query looks replaced beside an image, by the head that RTD has trained (Eq. 5).

Shape suffixes: T texts, K images, M image tokens, D width, P pairs, N packed tokens of all pairs, L tokens of a text.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rasa.data.tokenizer import Tokenizer, Tokens
from rasa.model.packing import Text
from rasa.numerics import autocast
from rasa.search.encoder import Encoder
from rasa.search.words import Said

MARKED_FROM = 0.0  # log-odds by which a word looks more replaced than wrong ones of its sort do


def looks_replaced(odds_TK: Tensor) -> bool:
    """Whether the first of T words looks more replaced than the others do, as the mean of the images."""
    return float((odds_TK[0] - odds_TK[1:].mean(0)).mean()) > MARKED_FROM


def replaced_odds(encoder: Encoder, said: Sequence[Said], tokens_KMD: Tensor) -> Tensor:
    """Log-odds [T, K] that the word of each text was replaced, beside each image of which there are the tokens.

    Of a word in several pieces the piece counts that looks most replaced. A text at a time, so that memory does not
    grow with them. The encoder needs RTD's head.
    """
    with autocast(encoder.config.evaluation.precision, encoder.device):
        image = encoder.model.encoders.project_image(tokens_KMD.to(encoder.device))
    rows = []
    for each in said:
        ids = encoder.tokenizer.encode([each.text], encoder.config.model.max_positions)
        pairs = Tokens(*(cells.expand(len(tokens_KMD), -1) for cells in ids))
        text = Text.of(pairs, encoder.device)
        with autocast(encoder.config.evaluation.precision, encoder.device):
            states_ND = encoder.model.encoders.fuse(encoder.model.encoders.encode_text(text), text.packing, image)
        head = encoder.model.heads["rtd"]
        logits_N2 = head(states_ND.to(head.weight.dtype))  # type: ignore[arg-type]
        start, stop = cells_of(each, encoder.tokenizer)
        rows.append(text.packing.unpack(logits_N2.diff(dim=1)).squeeze(2)[:, start:stop].amax(1))
    return torch.stack(rows)


def cells_of(said: Said, tokenizer: Tokenizer) -> tuple[int, int]:
    """Cells of the word in what the model reads, where [CLS] is cell 0."""
    before, own = (
        len(tokenizer.encode([part]).ids[0]) - 2  # without [CLS] and [SEP]
        for part in (said.text[: said.start], said.text[said.start : said.stop])
    )
    return 1 + before, 1 + before + own
