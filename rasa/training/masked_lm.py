"""The fixed generator of f-RTD: a frozen DistilBERT masked language model that sees text only (4.4, Analysis of SA).

Its words must be the model's words: a pre-trained one is loaded from a transformers name or folder, and where the
vocabulary is the project's own, one is trained on the training captions and cached.
"""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from rasa.data.tokenizer import (
    REMEDY,
    Tokenizer,
    is_missing_path,
    quiet_hub,
    refuse_code,
    tokenizer_from_vocabulary,
    vocabulary_file,
)
from rasa.draws import Draws, derive
from rasa.errors import ResourceError, SpecError
from rasa.lock import locked
from rasa.objectives.language import IGNORED, MaskDraws, SpecialIds, mask_tokens
from rasa.weights.folder import as_umask_says

if TYPE_CHECKING:
    from transformers import DistilBertForMaskedLM

RECIPE: dict[str, Any] = {
    "version": 1,
    "dim": 64,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 128,
    "steps": 300,
    "batch": 32,
    "learning_rate": 2e-3,
    "mask_rate": 0.3,
}


def build_masked_lm(spec: str, tokenizer: Tokenizer, captions: Sequence[str], cache: Path) -> nn.Module:
    """The frozen model in eval mode: `captions` trains one on them (once per vocabulary and captions, kept in `cache`).

    Raises SpecError if a loaded model has another vocabulary, ResourceError if it cannot be loaded.
    """
    quiet_hub()  # stderr is the runner's
    model = _trained(tokenizer, captions, cache) if spec == "captions" else _loaded(spec, tokenizer)
    return model.eval().requires_grad_(False)


def check_masked_lm(spec: str, tokenizer: Tokenizer) -> None:
    """Refuse a model whose words are not the tokenizer's; no weights are read.

    A local folder is compared by the words in its vocab.txt or tokenizer.json; one with neither, and a transformers
    name, only by the number of words in its config. Raises SpecError for another vocabulary, ResourceError if the
    model cannot be read.
    """
    if spec == "captions":
        return
    try:
        refuse_code(Path(spec), "masked language model")
        size, file = _stated_words(spec), vocabulary_file(Path(spec))
        same = size == tokenizer.vocabulary_size
        if same and file is not None:
            same = tokenizer_from_vocabulary(file).digest == tokenizer.digest
    except (OSError, ValueError, ResourceError) as fault:
        raise _unloadable(spec, fault) from fault
    if not same:
        raise SpecError(
            f"objectives.masked_lm: {spec} has another vocabulary ({size} words) than the tokenizer "
            f"({tokenizer.vocabulary_size}); set masked_lm: captions, or data.tokenizer to the same vocabulary"
        )


def _stated_words(spec: str) -> int | None:
    """The size of the vocabulary as the model's config.json states it."""
    if is_missing_path(spec):
        raise ResourceError("no such folder")
    if Path(spec).exists():
        config = json.loads((Path(spec) / "config.json").read_text(encoding="utf-8"))
        return config.get("vocab_size") if isinstance(config, dict) else None
    from transformers import AutoConfig

    quiet_hub()
    return getattr(AutoConfig.from_pretrained(spec, trust_remote_code=False), "vocab_size", None)


def _unloadable(spec: str, fault: Exception) -> ResourceError:
    first = (str(fault).strip().splitlines() or [type(fault).__name__])[0].removesuffix(f"; {REMEDY}")
    return ResourceError(f"objectives.masked_lm: {spec} could not be loaded ({first}); give a folder or a name")


def _loaded(spec: str, tokenizer: Tokenizer) -> nn.Module:
    from transformers import AutoModelForMaskedLM

    check_masked_lm(spec, tokenizer)
    try:
        return AutoModelForMaskedLM.from_pretrained(spec, trust_remote_code=False)
    except (OSError, ValueError) as fault:
        raise _unloadable(spec, fault) from fault


def _trained(tokenizer: Tokenizer, captions: Sequence[str], cache: Path) -> nn.Module:
    """Trained on first use; later uses and other processes read it from the cache."""
    digest = derive(0, json.dumps(RECIPE), tokenizer.digest, tuple(captions))
    folder = cache / f"masked-lm-{digest:016x}"
    with locked(cache / f"{folder.name}.lock"):
        if not folder.is_dir():
            temporary = cache / f".{folder.name}.tmp"
            shutil.rmtree(temporary, ignore_errors=True)
            threads = torch.get_num_threads()
            torch.set_num_threads(1)  # so that the words that it proposes do not depend on the machine's cores
            train_masked_lm(tokenizer, captions).save_pretrained(temporary)
            torch.set_num_threads(threads)
            for file in temporary.iterdir():
                as_umask_says(file)
            tokenizer.save(temporary / tokenizer.file)  # so that the folder can be given as masked_lm, and is compared
            os.replace(temporary, folder)
    from transformers import DistilBertForMaskedLM

    return DistilBertForMaskedLM.from_pretrained(folder)


def train_masked_lm(tokenizer: Tokenizer, captions: Sequence[str]) -> "DistilBertForMaskedLM":
    """A small DistilBERT trained to fill masked words of `captions`. Its seed is fixed: all runs share it."""
    from transformers import DistilBertConfig, DistilBertForMaskedLM

    tokens = tokenizer.encode(list(captions), None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {k: RECIPE[k] for k in ("dim", "n_layers", "n_heads", "hidden_dim")}
        model = DistilBertForMaskedLM(
            DistilBertConfig(
                vocab_size=tokenizer.vocabulary_size,
                max_position_embeddings=max(tokens.ids.shape[1], 64),
                pad_token_id=tokenizer.pad_id,
                dropout=0.0,
                attention_dropout=0.0,
                **sizes,
            )
        )
    optimizer = torch.optim.AdamW(model.parameters(), lr=RECIPE["learning_rate"])
    special = SpecialIds(tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
    model.train()
    for step in range(RECIPE["steps"]):
        draws = Draws(0, step)
        rows = draws.integers("rows", torch.Size([RECIPE["batch"]]), len(captions))
        mask = tokens.mask[rows][:, : int(tokens.mask[rows].sum(1).max())]
        ids = tokens.ids[rows][:, : mask.shape[1]]
        raw = MaskDraws(
            draws.bernoulli("select", ids.shape, RECIPE["mask_rate"]),
            draws.bernoulli("replace", ids.shape, 0.8),
            draws.bernoulli("random", ids.shape, 0.5),
            draws.integers("words", ids.shape, tokenizer.vocabulary_size),
        )
        masked, labels = mask_tokens(ids, raw, special, separator=False, corruption="bert")
        logits = model(input_ids=masked, attention_mask=mask.long()).logits
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model
