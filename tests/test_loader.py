"""Training batches: what is in them, and that nothing but (seed, kind, epoch) decides a draw."""

import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from rasa.config import Data
from rasa.data.loader import TrainingLoader, encode_captions, image_batches
from rasa.data.table import Split
from rasa.data.tokens import train_tokenizer
from rasa.data.transforms import ImageFault, decode

WORDS = ("red", "blue", "green", "grey")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten images, each of its own grey."""
    root = tmp_path_factory.mktemp("imgs")
    for image in range(10):
        Image.new("L", (12, 16), 20 * image).save(root / f"{image}.png")
    return root


# Ten images of five identities; image i has captions 2 i and 2 i + 1, all different and of different lengths.
SPLIT = Split(
    name="train",
    image_files=tuple(f"{image}.png" for image in range(10)),
    image_identities=np.arange(10) // 2,
    captions=tuple(f"person {' '.join(WORDS[: caption % 4 + 1])} {caption}" for caption in range(20)),
    caption_images=np.arange(20) // 2,
)
TOKENIZER = train_tokenizer(SPLIT.captions, 200)


def loader(folder, split=SPLIT, workers=0, truncate=True, max_tokens=50, **changes):
    arguments = {
        "positives": "uniform",
        "p_weak": 0.1,
        "weak_pool": "identity",
        "weak_label": "caption",
        "batch_size": 6,
        "max_steps": None,
        "seed": 0,
    } | changes
    data = Data(root=folder, image_size=(16, 8), workers=workers, max_tokens=max_tokens)
    return TrainingLoader(split, folder, TOKENIZER, data, truncate=truncate, **arguments)


def flat(batch):
    tokens = [*batch.annotated, *(batch.matched or ())]
    return [batch.images, batch.flip, batch.weak, batch.identity, *tokens]


def assert_equal_epochs(ours, theirs):
    ours, theirs = list(ours), list(theirs)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(flat(one), flat(other), strict=True))


def captions_of(tokens):
    """A caption's number is its last word, before [SEP]."""
    return [int(TOKENIZER.decode_tokens(ids[mask])[-2]) for ids, mask in zip(*tokens, strict=True)]


def test_a_batch_holds_what_it_says(folder):
    loading = loader(folder)
    assert loading.steps_per_epoch == 3  # 20 pairs in batches of 6, the incomplete one dropped
    seen = []
    for batch in loading.epoch(0):
        annotated, matched = captions_of(batch.annotated), captions_of(batch.matched)
        assert batch.images.shape == (6, 3, 16, 8) and batch.images.dtype == torch.uint8
        assert batch.flip.shape == (2, 6) and batch.flip.dtype == torch.bool
        assert (batch.images[:, 0, 0, 0] // 20).tolist() == [caption // 2 for caption in annotated]
        assert batch.identity.tolist() == [caption // 4 for caption in annotated] == [m // 4 for m in matched]
        assert batch.weak.tolist() == [own != other for own, other in zip(annotated, matched, strict=True)]
        assert torch.equal(batch.annotated.ids == TOKENIZER.pad_id, ~batch.annotated.mask)
        seen += annotated
    assert len(set(seen)) == 18


def test_annotated_positives_match_the_own_caption(folder):
    for batch in loader(folder, positives="annotated").epoch(0):
        assert torch.equal(batch.matched.ids, batch.annotated.ids) and not batch.weak.any()


def test_no_matching_caption_is_made_unless_asked_for(folder):
    for batch in loader(folder, positives=None).epoch(0):
        assert batch.matched is None and not batch.weak.any()


def test_workers_change_nothing(folder):
    assert_equal_epochs(loader(folder).epoch(1), loader(folder, workers=2).epoch(1))


def test_workers_leave_torchs_global_stream_alone(folder):
    state = torch.get_rng_state()
    next(iter(loader(folder, workers=1).epoch(0)))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("workers", "start"), [(0, 0), (0, 1), (0, 2), (0, 3), (2, 1), (2, 3)])
def test_starting_inside_an_epoch_is_skipping(folder, workers, start):
    assert_equal_epochs(loader(folder, workers=workers).epoch(2, start), list(loader(folder).epoch(2))[start:])


def test_same_seed_same_batches_and_epochs_and_seeds_differ(folder):
    assert_equal_epochs(loader(folder).epoch(0), loader(folder).epoch(0))
    loading = loader(folder)
    list(loading.epoch(0))
    assert_equal_epochs(loading.epoch(1), loader(folder).epoch(1))  # an epoch needs no earlier one
    first = next(loader(folder).epoch(0))
    for other in (next(loader(folder).epoch(1)), next(loader(folder, seed=1).epoch(0))):
        assert captions_of(first.annotated) != captions_of(other.annotated)


@pytest.mark.parametrize("positives", [None, "annotated", "probabilistic"])
def test_positives_move_neither_order_nor_flips(folder, positives):
    for ours, theirs in zip(loader(folder).epoch(0), loader(folder, positives=positives).epoch(0), strict=True):
        for name in ("images", "flip", "identity"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))
        assert torch.equal(ours.annotated.ids, theirs.annotated.ids)


def test_flips_and_captions_belong_to_the_sample_and_not_to_its_place(folder):
    """Another batch size puts the samples elsewhere; each keeps its flips and its drawn caption."""

    def draws(batch_size):
        found = {}
        for batch in loader(folder, batch_size=batch_size).epoch(0):
            rows = zip(captions_of(batch.annotated), captions_of(batch.matched), batch.flip.T.tolist(), strict=True)
            found |= {own: (matched, tuple(flips)) for own, matched, flips in rows}
        return found

    wide, narrow = draws(20), draws(5)
    assert len(wide) == 20 and wide == narrow


@pytest.mark.parametrize(("probability", "expected"), [(0.0, False), (1.0, True)])
def test_flip_probability(folder, probability, expected):
    loading = loader(folder)
    loading.flip_probability = probability
    assert all((batch.flip == expected).all() for batch in loading.epoch(0))


def test_views_are_flipped_independently(folder):
    flips = torch.cat([batch.flip for epoch in range(30) for batch in loader(folder).epoch(epoch)], dim=1)
    # 540 draws a view: 0.11 is five standard errors of a fair coin, and of the two agreeing.
    assert (flips.double().mean(dim=1) - 0.5).abs().max() < 0.11
    assert abs((flips[0] == flips[1]).double().mean() - 0.5) < 0.11


@pytest.mark.parametrize(("batch_size", "max_steps", "sizes"), [(6, 2, [6, 6]), (20, None, [20]), (64, None, [20])])
def test_number_and_size_of_steps(folder, batch_size, max_steps, sizes):
    loading = loader(folder, batch_size=batch_size, max_steps=max_steps)
    assert loading.steps_per_epoch == len(sizes)
    assert [len(batch.identity) for batch in loading.epoch(0)] == sizes


def test_truncation_is_asked_for(folder):
    """[CLS] person ... [SEP]: at most 4 of up to 7 tokens."""
    cut = max(batch.annotated.ids.shape[1] for batch in loader(folder, max_tokens=4).epoch(0))
    whole = max(batch.annotated.ids.shape[1] for batch in loader(folder, max_tokens=4, truncate=False).epoch(0))
    assert (cut, whole) == (4, 8)
    assert encode_captions(TOKENIZER, SPLIT.captions, 4).lengths().max() == 4


def test_tokens_are_those_of_the_tokenizer(folder):
    batch = next(loader(folder).epoch(0))
    expected = TOKENIZER.encode([SPLIT.captions[caption] for caption in captions_of(batch.annotated)])
    assert torch.equal(batch.annotated.ids, expected.ids) and torch.equal(batch.annotated.mask, expected.mask)


def test_images_are_decoded_once_when_they_fit_in_memory(folder, monkeypatch):
    decoded = []

    def counting(path, size):
        decoded.append(path.name)
        return decode(path, size)

    monkeypatch.setattr("rasa.data.loader.decode", counting)
    loading = loader(folder)
    for epoch in range(5):
        list(loading.epoch(epoch))
    assert sorted(decoded) == sorted(SPLIT.image_files)
    monkeypatch.setattr("rasa.data.loader.CACHE_BYTES", 0)
    decoded.clear()
    list(loader(folder).epoch(0))
    assert len(decoded) == 18  # once per use


@pytest.mark.parametrize("workers", [0, 2])
def test_images_for_evaluation_come_in_order(folder, workers):
    batches = list(image_batches(SPLIT.image_files, folder, (16, 8), 4, workers))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert (torch.cat(batches)[:, 0, 0, 0] // 20).tolist() == list(range(10))
    assert list(image_batches((), folder, (16, 8), 4, workers)) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_image_stops_with_one_line(folder, tmp_path, workers):
    for image in range(10):
        (tmp_path / f"{image}.png").write_bytes((folder / f"{image}.png").read_bytes())
    (tmp_path / "7.png").write_bytes(b"")
    with pytest.raises(
        ImageFault, match=r"7\.png: the file is empty; replace the image or remove its record$"
    ) as fault:
        list(loader(tmp_path, workers=workers).epoch(0))
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_outlive_a_signal_to_the_whole_group(folder, number):
    """The trainer finishes its step and perhaps waits for a batch; its workers must not be gone by then."""
    epoch = loader(folder, batch_size=2, workers=2).epoch(0)
    next(epoch), next(epoch)  # one from each, so both have started
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, number)
    assert len(list(epoch)) == 8
