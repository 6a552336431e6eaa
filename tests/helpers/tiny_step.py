"""A step of the tiny model: the rows of Table 4, a batch of random pixels and texts, a generator that is fixed."""

import torch

from rasa.data.tokenizer import Tokens
from rasa.objectives.language import SpecialIds
from rasa.training.step import StepInputs
from tests.helpers.tiny_model import ALL

SPECIAL = SpecialIds(pad=0, cls=2, sep=3, mask=4)
VOCABULARY = 50
ROWS = {
    "cl": (["cl"], "annotated", None),
    "itm": (["cl", "itm"], "uniform", None),
    "s-itm": (["cl", "itm"], "annotated", None),
    "p-itm": (["cl", "itm"], "probabilistic", None),
    "itm-prd": (["cl", "itm", "prd"], "uniform", None),
    "p-itm-prd": (["cl", "itm", "prd"], "probabilistic", None),
    "mlm": (["cl", "itm", "prd", "mlm"], "probabilistic", None),
    "f-rtd": (list(ALL), "probabilistic", "fixed"),
    "o-rtd": (list(ALL), "probabilistic", "online"),
    "m-rtd": (list(ALL), "probabilistic", "momentum"),
    "itc": (["itc"], "annotated", None),  # no row of Table 4: the fine-tuned backbones of Tables 1-3, 5 and 8
    "itc-itm": (["itc", "itm"], "annotated", None),
}
WEIGHTS = ALL | {"itc": 1.0}


def text(seed, size, length=12):
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(5, length + 1, (size,), generator=draw)
    ids = torch.randint(5, VOCABULARY, (size, length), generator=draw)
    mask = torch.arange(length)[None] < lengths[:, None]
    ids[:, 0] = SPECIAL.cls
    ids[torch.arange(size), lengths - 1] = SPECIAL.sep
    return Tokens(ids.masked_fill(~mask, SPECIAL.pad), mask)


def inputs(size=6, identities=None, matched=True):
    view = torch.randn(size, 3, 48, 32, generator=torch.Generator().manual_seed(3))
    identity = torch.tensor(identities or [i // 2 for i in range(size)])
    weak = torch.arange(size) % 3 == 0
    return StepInputs(view, view.flip(3), text(1, size), text(2, size) if matched else None, weak, identity)


class Fixed(torch.nn.Module):
    """A generator with the interface of a transformers masked language model and constant logits."""

    def forward(self, input_ids, attention_mask):
        from types import SimpleNamespace

        logits = torch.zeros(*input_ids.shape, VOCABULARY, device=input_ids.device)
        logits[..., 17] = 3.0
        return SimpleNamespace(logits=logits)
