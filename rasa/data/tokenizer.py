"""Captions as WordPiece ids. Shape suffixes: B captions, L tokens of the longest, N tokens of all together.

The vocabulary is BERT's, any other WordPiece vocabulary, or one built from the training captions; text is always
lower-cased and split as BERT's uncased models do. CLIP's byte pairs are the exception (rasa/data/bpe.py).
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tokenizers
import torch
from tokenizers.models import BPE, WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing
from torch import Tensor

from rasa.data.bpe import END, MASK, PADDING, START, Merges, clip_backend, merges_of, read_vocab_and_merges
from rasa.errors import ResourceError

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
REMEDY = (
    "set data.tokenizer to a vocab.txt, a folder or a name with a BERT WordPiece vocabulary (CLIP: its own), or to "
    "`captions`"
)
ENCODED_AT_ONCE = 8192  # bounds the memory of the tokenizer's own objects, about 1 kB per token


class Tokens(NamedTuple):
    """Padded captions: ids int64 [B, L] and mask bool [B, L], true where there is a token."""

    ids: Tensor
    mask: Tensor


class Encoded(NamedTuple):
    """T captions without padding: `flat` int64 [N], of which caption t is flat[offsets[t]:offsets[t + 1]]."""

    flat: Tensor
    offsets: Tensor
    pad_id: int

    def lengths(self) -> Tensor:
        """Tokens per caption [T], [CLS] and [SEP] included."""
        return self.offsets.diff()

    def take(self, index: Tensor) -> Tokens:
        """The captions `index` [B], padded to the longest of them."""
        starts = self.offsets[index]
        lengths = self.offsets[index + 1] - starts
        position = torch.arange(int(lengths.max()) if len(index) else 0)
        mask = position < lengths[:, None]
        place = (starts[:, None] + position).masked_fill_(~mask, 0)
        return Tokens(self.flat[place].masked_fill_(~mask, self.pad_id), mask)

    def truncate(self, max_length: int) -> "Encoded":
        """Captions of more than `max_length` tokens cut to it, their last token [SEP] as before."""
        lengths = self.lengths().clamp(max=max_length)
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        shift = (self.offsets[:-1] - offsets[:-1]).repeat_interleave(lengths)
        flat = self.flat[torch.arange(int(offsets[-1])) + shift]
        flat[offsets[1:] - 1] = self.flat[self.offsets[1:] - 1]
        return Encoded(flat, offsets, self.pad_id)


class Tokenizer:
    """[CLS] word pieces [SEP] over one vocabulary; lower-cased, accents stripped, as BERT's uncased models.

    With `merges` the vocabulary is CLIP's and pieces are byte pairs: <end> stands for [CLS], <start> for [SEP], and
    [MASK], which CLIP has not, is one word more. `digest` names the vocabulary: the first 16 hex digits of the sha256
    of its tokens in id order (and merges), one per line. Raises ResourceError if `vocabulary` (token to id) lacks a
    special token or its ids are not 0, 1, 2, ...
    """

    def __init__(self, vocabulary: dict[str, int], source: str, merges: Merges | None = None):
        specials = SPECIALS if merges is None else (START, END)
        missing = [token for token in specials if token not in vocabulary]
        if missing:
            raise ResourceError(f"{source}: the vocabulary has no {', '.join(missing)}; {REMEDY}")
        if sorted(vocabulary.values()) != list(range(len(vocabulary))):
            raise ResourceError(f"{source}: the vocabulary's ids are not 0 to {len(vocabulary) - 1}; {REMEDY}")
        self._tokens = sorted(vocabulary, key=vocabulary.__getitem__)
        if merges is None:
            self.file = "vocab.txt"  # the name under which `save` is expected
            self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (vocabulary[token] for token in SPECIALS)
            self._backend = _wordpiece(vocabulary, self.cls_id, self.sep_id)
            described = self._tokens
        else:
            self.file = "tokenizer.json"
            self._backend = clip_backend(vocabulary, merges)
            self.cls_id, self.sep_id, self.unk_id = vocabulary[END], vocabulary[START], vocabulary[END]
            self.pad_id = vocabulary.get(PADDING, self.cls_id)  # 0, with which OpenAI's code pads
            self.mask_id = len(vocabulary)
            described = [*self._tokens, *(" ".join(pair) for pair in merges)]
            self._tokens.append(MASK)
        self.vocabulary_size = len(self._tokens)
        self.digest = hashlib.sha256("\n".join(described).encode()).hexdigest()[:16]

    def encode_all(self, texts: Sequence[str], max_length: int | None = None) -> Encoded:
        """`texts` without padding, for a whole split; cut to `max_length` tokens ([SEP] kept) if that is given."""
        parts = [self._encode_some(texts[at : at + ENCODED_AT_ONCE]) for at in range(0, len(texts), ENCODED_AT_ONCE)]
        lengths = torch.from_numpy(np.concatenate([np.zeros(1, np.int64), *(part[1] for part in parts)]))
        flat = torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *(part[0] for part in parts)]))
        encoded = Encoded(flat, lengths.cumsum(0), self.pad_id)
        return encoded if max_length is None else encoded.truncate(max_length)

    def encode(self, texts: Sequence[str], max_length: int | None = None) -> Tokens:
        """`texts` padded to the longest, cut to `max_length` tokens ([SEP] kept) only if that is given."""
        return self.encode_all(texts, max_length).take(torch.arange(len(texts)))

    def decode_tokens(self, ids: Iterable[int] | Tensor) -> list[str]:
        """The vocabulary's entry of each id, special tokens and padding included."""
        listed = ids.tolist() if isinstance(ids, Tensor) else ids
        return [self._tokens[identifier] for identifier in listed]

    def save(self, path: Path) -> None:
        """Write the vocabulary as a vocab.txt: a token per line, the line's number (from 0) its id; CLIP's as JSON."""
        if self.file == "tokenizer.json":
            self._backend.save(str(path))
            return
        Path(path).write_text("".join(token + "\n" for token in self._tokens), encoding="utf-8", newline="\n")

    def _encode_some(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        ids = [encoding.ids for encoding in self._backend.encode_batch_fast(list(texts))]
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        return np.fromiter(chain.from_iterable(ids), np.int64, int(lengths.sum())), lengths


def _wordpiece(vocabulary: dict[str, int], cls_id: int, sep_id: int) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    # Special tokens are not registered as such: "[MASK]" typed in a caption is brackets and a word.
    backend.normalizer = BertNormalizer(lowercase=True)
    backend.pre_tokenizer = BertPreTokenizer()
    backend.post_processor = BertProcessing(("[SEP]", sep_id), ("[CLS]", cls_id))
    return backend


def build_tokenizer(spec: str, captions: Sequence[str], vocabulary_size: int) -> Tokenizer:
    """The tokenizer that `data.tokenizer` names: `captions` (built from `captions`), a file, or a name or folder."""
    if spec == "captions":
        return train_tokenizer(captions, vocabulary_size)
    if Path(spec).is_file():
        return tokenizer_from_vocabulary(Path(spec))
    return tokenizer_from_transformers(spec)


def tokenizer_from_vocabulary(path: Path) -> Tokenizer:
    """From a vocab.txt, a tokenizer.json, or a vocab.json beside its merges.txt.

    Raises ResourceError if it is neither a WordPiece vocabulary nor CLIP's.
    """
    path = Path(path)
    if path.suffix == ".json":
        try:
            if path.name == "vocab.json":
                vocabulary, merges = read_vocab_and_merges(path)
                return Tokenizer(vocabulary, str(path), merges)
            backend = tokenizers.Tokenizer.from_file(str(path))
            return _from_backend(backend, backend.get_vocab(), str(path))
        except Exception as error:  # the library raises plain Exception for every fault of the file
            if isinstance(error, ResourceError):
                raise
            raise ResourceError(f"{path}: not a tokenizer file ({_first_line(error)}); {REMEDY}") from None
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, ValueError) as error:
        raise ResourceError(f"{path}: the vocabulary cannot be read ({_first_line(error)}); {REMEDY}") from None
    vocabulary = {token.removesuffix("\r"): number for number, token in enumerate(lines)}
    if len(vocabulary) != len(lines):
        raise ResourceError(f"{path}: {len(lines) - len(vocabulary)} tokens are listed more than once; {REMEDY}")
    return Tokenizer(vocabulary, str(path))


def tokenizer_from_transformers(name_or_folder: str) -> Tokenizer:
    """From a folder with vocab.txt or tokenizer.json (no network), or a name that transformers can load."""
    if (file := vocabulary_file(Path(name_or_folder))) is not None:
        return tokenizer_from_vocabulary(file)
    if is_missing_path(name_or_folder):
        raise ResourceError(f"tokenizer {name_or_folder!r} cannot be loaded (no such file or folder); {REMEDY}")
    refuse_code(Path(name_or_folder), "tokenizer")
    from transformers import AutoTokenizer  # seconds to import, and not needed for files

    quiet_hub()
    try:
        found = AutoTokenizer.from_pretrained(name_or_folder, trust_remote_code=False)
        backend = getattr(found, "backend_tokenizer", None)
        vocabulary = found.get_vocab()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError) as error:
        # What transformers raises for hub, network and parsing faults shares no base class.
        cause = f"{type(error).__name__}: {_first_line(error)}"
        raise ResourceError(f"tokenizer {name_or_folder!r} cannot be loaded ({cause}); {REMEDY}") from None
    return _from_backend(backend, vocabulary, name_or_folder)


def _from_backend(backend: tokenizers.Tokenizer | None, vocabulary: dict[str, int], source: str) -> Tokenizer:
    """A WordPiece vocabulary, or CLIP's byte pairs if that is what the library's own tokenizer has."""
    if backend is None or not isinstance(backend.model, BPE):
        return Tokenizer(vocabulary, source)
    model = json.loads(backend.to_str())["model"]
    return Tokenizer(model["vocab"], source, merges_of(model))


def refuse_code(folder: Path, what: str) -> None:
    """Refuse a transformers folder that names Python code of its own: it is never run, and nobody is asked.

    Raises ResourceError.
    """
    for file in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            stated = json.loads(file.read_bytes())
        except (OSError, ValueError, RecursionError):
            continue  # whoever needs the file says what is wrong with it
        if isinstance(stated, dict) and "auto_map" in stated:
            raise ResourceError(
                f"{what} {str(folder)!r}: {file.name} names Python code of its own (auto_map), which is never run; "
                f"{REMEDY}"
            )


def quiet_hub() -> None:
    """Keep the hub's retries and progress bars off stderr; what goes wrong comes as an exception, too."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    for name in ("huggingface_hub", "transformers"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def vocabulary_file(folder: Path) -> Path | None:
    """The file of a folder that holds its vocabulary; None if there is none."""
    files = (folder / "vocab.txt", folder / "tokenizer.json", folder / "vocab.json")
    return next((file for file in files if file.is_file()), None)


def is_missing_path(name: str) -> bool:
    """Whether `name` can only be a path, and nothing is there; `organisation/model` can be a transformers name."""
    return (name.startswith((".", "/", "~")) or name.count("/") > 1) and not Path(name).exists()


def train_tokenizer(captions: Iterable[str], vocabulary_size: int) -> Tokenizer:
    """A vocabulary of `captions`: the special tokens, then letters, then whole words, each by falling frequency.

    Whole words keep a masked word one token. The library's own trainer is not used: its ties are broken in an
    order that it does not promise to keep; here they are broken by spelling.
    """
    normalizer, splitter = BertNormalizer(lowercase=True), BertPreTokenizer()
    words: Counter[str] = Counter()
    for written, count in Counter(chain.from_iterable(caption.split() for caption in captions)).items():
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(written)):
            words[word] += count
    letters: Counter[str] = Counter()
    for word, count in words.items():
        for place, letter in enumerate(word):
            letters[letter if place == 0 else "##" + letter] += count
    ranked = [sorted(counts, key=lambda token: (-counts[token], token)) for counts in (letters, words)]
    tokens = dict.fromkeys(chain(SPECIALS, *ranked))
    return Tokenizer({token: number for number, token in enumerate(list(tokens)[:vocabulary_size])}, "captions")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
