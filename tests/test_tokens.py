"""Caption cleaning and the tokenizer. The vocabulary is small and hand-made; nothing here needs a network."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rasa.data.captions import clean_caption
from rasa.data.tokenizer import (
    SPECIALS,
    Encoded,
    Tokenizer,
    build_tokenizer,
    tokenizer_from_transformers,
    tokenizer_from_vocabulary,
    train_tokenizer,
)
from rasa.errors import ResourceError

FACTS = Path(__file__).parent / "golden" / "facts" / "pre_caption.json"
WORDS = (*SPECIALS, "a", "man", "in", "red", "##dish", "shirt", "cafe", ",")
CAPTIONS = ["a man in a red shirt", "a woman in a blue shirt and a blue hat", "a man with a café bag"]


@pytest.fixture
def tokenizer():
    return Tokenizer({word: number for number, word in enumerate(WORDS)}, "test")


@pytest.mark.parametrize("case", json.loads(FACTS.read_text(encoding="utf-8")), ids=lambda case: case["input"][:20])
def test_cleaning_is_the_released_codes(case):
    assert clean_caption(case["input"], case["max_words"]) == case["output"]


def test_encoding_by_hand(tokenizer):
    """[CLS] is 2, [SEP] 3, [PAD] 0, [UNK] 1; 'reddish' is red ##dish, 8 9; 'zebra' is unknown."""
    ids, mask = tokenizer.encode(["A reddish man", "zebra"])
    assert ids.tolist() == [[2, 5, 8, 9, 6, 3], [2, 1, 3, 0, 0, 0]]
    assert mask.tolist() == [[True] * 6, [True] * 3 + [False] * 3]
    assert ids.dtype == torch.int64 and mask.dtype == torch.bool


def test_special_ids_and_size(tokenizer):
    found = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
    assert found == (0, 1, 2, 3, 4)
    assert tokenizer.vocabulary_size == len(WORDS)


@pytest.mark.parametrize(
    ("max_length", "expected"),
    [
        (None, [[2, 5, 6, 7, 8, 10, 3], [2, 5, 3, 0, 0, 0, 0]]),
        (7, [[2, 5, 6, 7, 8, 10, 3], [2, 5, 3, 0, 0, 0, 0]]),
        (4, [[2, 5, 6, 3], [2, 5, 3, 0]]),
        (3, [[2, 5, 3], [2, 5, 3]]),
    ],
)
def test_truncation_keeps_the_separator(tokenizer, max_length, expected):
    assert tokenizer.encode(["a man in red shirt", "a"], max_length).ids.tolist() == expected


def test_truncation_does_not_stay_switched_on(tokenizer):
    tokenizer.encode(["a man in red shirt"], 3)
    assert tokenizer.encode(["a man in red shirt"]).ids.shape == (1, 7)


def test_accents_and_case_are_dropped_and_control_words_are_text(tokenizer):
    assert tokenizer.decode_tokens(tokenizer.encode(["CAFÉ [MASK]"]).ids[0]) == [
        "[CLS]",
        "cafe",
        "[UNK]",
        "[UNK]",
        "[UNK]",
        "[SEP]",
    ]


def test_no_text_gives_an_empty_batch(tokenizer):
    assert tokenizer.encode([]).ids.shape == (0, 0)
    assert tokenizer.encode([""]).ids.tolist() == [[2, 3]]


def test_taking_from_a_split_equals_encoding_the_batch(tokenizer):
    texts = ["a man", "red", "a man in a shirt", "a"]
    index = torch.tensor([2, 0, 0])
    taken = tokenizer.encode_all(texts).take(index)
    encoded = tokenizer.encode([texts[i] for i in index])
    assert torch.equal(taken.ids, encoded.ids) and torch.equal(taken.mask, encoded.mask)


def test_taking_by_hand():
    encoded = Encoded(torch.tensor([5, 6, 7, 8, 9, 10]), torch.tensor([0, 2, 5, 6]), pad_id=0)
    ids, mask = encoded.take(torch.tensor([1, 2]))
    assert ids.tolist() == [[7, 8, 9], [10, 0, 0]]
    assert mask.tolist() == [[True, True, True], [True, False, False]]
    assert encoded.truncate(2).flat.tolist() == [5, 6, 7, 9, 10]  # the last token of a cut caption stays


def test_digest_is_of_the_tokens_in_id_order(tokenizer):
    import hashlib

    assert tokenizer.digest == hashlib.sha256("\n".join(WORDS).encode()).hexdigest()[:16]
    assert train_tokenizer(CAPTIONS, 100).digest != tokenizer.digest


@pytest.mark.parametrize("name", ["vocab.txt", "windows.txt"])
def test_saved_vocabulary_is_read_back(tokenizer, tmp_path, name):
    tokenizer.save(tmp_path / name)
    if name == "windows.txt":
        text = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(text.replace(b"\n", b"\r\n"))
    assert tokenizer_from_vocabulary(tmp_path / name).digest == tokenizer.digest


def test_folder_with_a_vocabulary_needs_no_network(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "vocab.txt")
    assert tokenizer_from_transformers(str(tmp_path)).digest == tokenizer.digest
    assert build_tokenizer(str(tmp_path), [], 0).digest == tokenizer.digest
    assert build_tokenizer(str(tmp_path / "vocab.txt"), [], 0).digest == tokenizer.digest


def test_folder_with_a_tokenizer_file_needs_no_network(tokenizer, tmp_path):
    tokenizer._backend.save(str(tmp_path / "tokenizer.json"))
    assert tokenizer_from_transformers(str(tmp_path)).digest == tokenizer.digest
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ResourceError, match=r"tokenizer\.json: not a tokenizer file .*; set data\.tokenizer"):
        tokenizer_from_transformers(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n", r"vocab\.txt: the vocabulary has no \[MASK\]; set data\.tokenizer"),
        ("\n".join((*WORDS, "man")).encode(), r"vocab\.txt: 1 tokens are listed more than once; set data\.tokenizer"),
        (b"\xff\xfe\x00", r"vocab\.txt: the vocabulary cannot be read .*; set data\.tokenizer"),
        (b"", r"vocab\.txt: the vocabulary has no \[PAD\], \[UNK\], .*; set data\.tokenizer"),
    ],
)
def test_broken_vocabulary_is_refused(tmp_path, content, message):
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(ResourceError, match=message) as refusal:
        tokenizer_from_vocabulary(tmp_path / "vocab.txt")
    assert "\n" not in str(refusal.value)


def test_ids_with_a_gap_are_refused():
    vocabulary = {word: number for number, word in enumerate(WORDS)} | {"gap": 99}
    with pytest.raises(ResourceError, match="test: the vocabulary's ids are not 0 to 13"):
        Tokenizer(vocabulary, "test")


def test_name_that_cannot_be_loaded_is_refused(tmp_path):
    with pytest.raises(
        ResourceError, match=r"tokenizer '.*/no/such' cannot be loaded .*; set data\.tokenizer"
    ) as refusal:
        build_tokenizer(str(tmp_path / "no" / "such"), [], 100)  # a path is no hub name, so no network is asked
    assert "\n" not in str(refusal.value)


def test_trained_vocabulary_by_hand():
    """Words 'a' x3 and 'red' x1: letters a, ##d, ##e, r by falling count and spelling, then words."""
    tokenizer = train_tokenizer(["a red", "a a"], 100)
    assert tokenizer.decode_tokens(range(tokenizer.vocabulary_size)) == [*SPECIALS, "a", "##d", "##e", "r", "red"]
    pieces = tokenizer.decode_tokens(tokenizer.encode(["red re rea"]).ids[0])
    assert pieces == ["[CLS]", "red", "r", "##e", "[UNK]", "[SEP]"]  # without ##a, 'rea' is unknown as a whole


def test_trained_vocabulary_is_cut_after_the_most_frequent():
    """ab x3, ba x2, bb, aa: a and ##b stand 4 times, b and ##a 3 times, and one place is left for a word."""
    tokenizer = train_tokenizer(["ab ab ab ba ba bb aa"], 10)
    assert tokenizer.decode_tokens(range(5, 10)) == ["##b", "a", "##a", "b", "ab"]


def test_every_training_caption_is_known():
    tokenizer = train_tokenizer(CAPTIONS, 500)
    assert not (tokenizer.encode(CAPTIONS).ids == tokenizer.unk_id).any()
    assert tokenizer.encode(["cafe"]).ids.shape == (1, 3)


def test_training_is_the_same_in_other_processes():
    code = f"from rasa.data.tokenizer import train_tokenizer; print(train_tokenizer({CAPTIONS!r}, 60).digest)"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    digests = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert digests == {train_tokenizer(CAPTIONS, 60).digest}
