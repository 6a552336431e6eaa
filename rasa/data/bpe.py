"""CLIP's byte-pair vocabulary: where it lies on disk, and the tokenizer that it makes.

Text is split as CLIP's own tokenizer does (lower case, letters together, digits one by one), but a special token that
is typed in a caption is spelled like any other word.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import BertProcessing

START, END, PADDING, MASK = "<|startoftext|>", "<|endoftext|>", "!", "[MASK]"
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
Merges = Sequence[tuple[str, str]]


def clip_backend(vocabulary: dict[str, int], merges: Merges) -> tokenizers.Tokenizer:
    """<end> word pieces <start>: CLIP's tokenizer with its two special tokens exchanged (rasa/model/clip.py).

    Raises what the library raises for merges that are not of this vocabulary.
    """
    backend = tokenizers.Tokenizer(
        BPE(vocabulary, list(merges), continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token=END)
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.post_processor = BertProcessing((START, vocabulary[START]), (END, vocabulary[END]))
    return backend


def merges_of(model: dict[str, Any]) -> Merges:
    """The merges of a tokenizer.json's model, which lists them as pairs or as `a b`. Raises ValueError for others."""
    return [_pair(merge.split(" ", 1) if isinstance(merge, str) else merge) for merge in model["merges"]]


def _pair(parts: Sequence[str]) -> tuple[str, str]:
    first, second = parts
    return first, second


def read_vocab_and_merges(path: Path) -> tuple[dict[str, int], Merges]:
    """From a vocab.json with a merges.txt beside it. Raises OSError, TypeError or ValueError."""
    vocabulary = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(vocabulary, dict):
        raise TypeError("vocab.json holds no object of tokens and ids")
    lines = (path.parent / "merges.txt").read_text(encoding="utf-8").splitlines()
    merges = [_pair(line.split(" ", 1)) for line in lines if line and not line.startswith("#version")]
    return vocabulary, merges
