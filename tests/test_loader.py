"""Training batches: what is in them, and that nothing but (seed, kind, epoch) decides a draw."""

import gc
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from PIL import Image

from rasa.config.run import Data
from rasa.data.loader import TrainingLoader, ahead, encode_captions, image_batches
from rasa.data.transforms import MEAN, STD, ImageFault, _statistics, decode, normalise, two_views
from tests.helpers.ten_images import SPLIT, TOKENIZER


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten images, each of its own grey."""
    root = tmp_path_factory.mktemp("imgs")
    for image in range(10):
        Image.new("L", (12, 16), 20 * image).save(root / f"{image}.png")
    return root


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


@pytest.mark.parametrize("max_steps", [1, 2])
def test_short_epochs_go_on_through_the_pass(folder, max_steps):
    """Three steps make a pass; epochs of one or two steps cut the same stream,
    so that no pair comes twice in a pass."""
    whole, cut = loader(folder), loader(folder, max_steps=max_steps)
    stream = [batch for number in range(2) for batch in whole.epoch(number)]
    pieces = [batch for number in range(6 // max_steps) for batch in cut.epoch(number)]
    assert_equal_epochs(pieces, stream)
    captions = [caption for batch in pieces[:3] for caption in captions_of(batch.annotated)]
    assert len(set(captions)) == len(captions) == 18
    if max_steps == 2:  # the second epoch holds the last step of one pass and the first of the next
        assert_equal_epochs(cut.epoch(1, start=1), stream[3:4])


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
    monkeypatch.setattr("rasa.data.loader.KEPT_BYTES", 0)
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


@pytest.mark.parametrize(("workers", "start"), [(0, 0), (0, 2), (2, 0), (2, 2)])
@pytest.mark.parametrize("prefetch", [False, True])
def test_cache_and_prefetch_change_nothing(folder, tmp_path, workers, start, prefetch):
    plain = list(loader(folder).epoch(2))[start:]
    assert_equal_epochs(loader(folder, workers=workers, prefetch=prefetch).epoch(2, start), plain)
    loading = loader(folder, workers=workers, prefetch=prefetch, cache=tmp_path)
    epoch = loading.epoch(2, start)
    first = next(epoch)
    assert multiprocessing.active_children() == []  # whatever data.workers is, nothing is decoded any more
    assert_equal_epochs([first, *epoch], plain)
    assert_equal_epochs(loading.epoch(3), loader(folder).epoch(3))


def test_batches_from_the_cache_are_copies(folder, tmp_path):
    loading = loader(folder, cache=tmp_path)
    next(loading.epoch(0)).images.zero_()
    assert_equal_epochs(loading.epoch(0), loader(folder).epoch(0))


def test_cache_limit_of_the_config_holds(folder, tmp_path):
    said = []
    data = Data(root=folder, image_size=(16, 8), image_cache_gib=1e-6)
    arguments = ("annotated", 0.1, "identity", "caption", True, 6, None, 0)
    loading = TrainingLoader(SPLIT, folder, TOKENIZER, data, *arguments, cache=tmp_path, notify=said.append)
    assert len(said) == 1 and "data.image_cache_gib above 1e-06" in said[0]
    assert all(torch.equal(a.images, b.images) for a, b in zip(loading.epoch(0), loader(folder).epoch(0), strict=True))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("with_cache", [False, True])
@pytest.mark.parametrize("prefetch", [False, True])
def test_images_for_evaluation_can_be_read_again(folder, tmp_path, workers, with_cache, prefetch):
    cache = tmp_path if with_cache else None
    gallery = image_batches(SPLIT.image_files, folder, (16, 8), 4, workers, cache, prefetch=prefetch)
    for _ in range(2):
        batches = list(gallery)
        assert [len(batch) for batch in batches] == [4, 4, 2]
        assert (torch.cat(batches)[:, 0, 0, 0] // 20).tolist() == list(range(10))
    assert list(image_batches((), folder, (16, 8), 4, workers, cache, prefetch=prefetch)) == []


def test_damaged_image_stops_before_training_with_a_cache(folder, tmp_path):
    for image in range(10):
        (tmp_path / f"{image}.png").write_bytes((folder / f"{image}.png").read_bytes())
    (tmp_path / "7.png").write_bytes(b"")
    with pytest.raises(ImageFault, match=r"7\.png: the file is empty; replace the image or remove its record$"):
        loader(tmp_path, cache=tmp_path)
    with pytest.raises(ImageFault, match=r"7\.png: the file is empty"):
        list(loader(tmp_path, prefetch=True).epoch(0))
    assert threads_ahead() == []


def threads_ahead():
    return [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_ahead_keeps_order_and_makes_no_more_than_its_depth():
    made = []

    def batches():
        for number in range(20):
            made.append(number)
            yield torch.tensor(number)

    seen = []
    for batch in ahead(batches(), depth=3):
        seen.append(int(batch))
        time.sleep(0.002)
        assert len(made) <= len(seen) + 3
    assert seen == list(range(20)) and threads_ahead() == []


def test_ahead_works_in_another_thread_while_its_reader_is_busy():
    made = threading.Event()

    def batches():
        yield threading.current_thread()
        made.set()
        yield None

    reader = ahead(batches())
    assert next(reader) is not threading.current_thread()
    assert made.wait(30)  # with nobody asking
    assert list(reader) == [None]  # an item like any other


def test_ahead_raises_in_the_place_of_the_batch():
    def batches():
        yield 1
        yield 2
        raise ImageFault("3.jpg: is bad", "damaged")

    reader = ahead(batches(), depth=8)
    assert (next(reader), next(reader)) == (1, 2)
    with pytest.raises(ImageFault, match="is bad"):
        next(reader)
    assert threads_ahead() == [] and list(reader) == []


@pytest.mark.parametrize("end", ["close", "drop", "interrupt"])
def test_ahead_ends_with_its_reader(end):
    closed = threading.Event()

    def batches():
        try:
            yield from itertools.count()
        finally:
            closed.set()

    reader = ahead(batches())
    next(reader)
    if end == "close":
        reader.close()
    elif end == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            reader.throw(KeyboardInterrupt())
    del reader
    gc.collect()  # an exception's traceback holds its frames in a cycle
    assert threads_ahead() == [] and closed.is_set()


@pytest.mark.parametrize(
    ("ending", "code"),
    [("", 0), ("raise SystemExit(3)", 3), ("1 / 0", 1), ("interrupt(); [x for x in reader]", -signal.SIGINT)],
    ids=["end", "exit", "fault", "interrupt"],
)
def test_ahead_does_not_hold_up_the_interpreter(ending, code):
    """A reader that is still alive at the end, its thread waiting or at work."""
    script = f"""
import itertools, os, signal, threading, time
from rasa.data.loader import ahead
def batches():
    for number in itertools.count():
        time.sleep(0.05)
        yield number
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's shell has it ignored
interrupt = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start
reader = ahead(batches())
next(reader)
{ending}
"""
    ended = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=120)
    assert ended.returncode == code, ended.stderr
    assert "Fatal" not in ended.stderr and "thread" not in ended.stderr.replace("threading", "")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="pinned memory needs a GPU")
def test_ahead_pins_every_tensor_of_a_batch(folder):
    plain = list(loader(folder, positives=None).epoch(0))
    pinned = list(ahead(loader(folder, positives=None).epoch(0), pin=True))
    assert_equal_epochs(pinned, plain)
    assert all(tensor.is_pinned() for batch in pinned for tensor in flat(batch)) and pinned[0].matched is None


def present_formula(images, flip):
    """As it was before the views shared it."""
    flipped = torch.where(flip[:, None, None, None], images.flip(-1), images)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return flipped.float().div_(255).sub_(mean).div_(std)


FLIPS = {
    "none": [[0] * 5, [0] * 5],
    "all": [[1] * 5, [1] * 5],
    "one view": [[0] * 5, [1] * 5],
    "other view": [[1] * 5, [0] * 5],
    "mixed": [[0, 1, 1, 0, 1], [1, 1, 0, 0, 0]],
    "same": [[0, 1, 1, 0, 1], [0, 1, 1, 0, 1]],
    "complement": [[0, 1, 1, 0, 1], [1, 0, 0, 1, 0]],
}


@pytest.mark.parametrize("flips", FLIPS.values(), ids=FLIPS)
def test_two_views_are_bit_for_bit_the_two_normalised_batches(flips):
    values = torch.arange(256, dtype=torch.uint8).repeat(5 * 3 * 2).view(5, 3, 16, 32)  # every value in every channel
    values = values + torch.arange(5, dtype=torch.uint8)[:, None, None, None]
    kept, flip = values.clone(), torch.tensor(flips, dtype=torch.bool)
    views = two_views(values, flip)
    for view, mirrored in zip(views, flip, strict=True):
        assert torch.equal(view, present_formula(values, mirrored)) and view.is_contiguous()
        assert torch.equal(normalise(values, mirrored), view)
    assert torch.equal(values, kept)


def test_statistics_kept_by_evaluation_serve_training():
    """Tensors made in inference mode refuse autograd; the views do not carry that on."""
    images, flip = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, 2, dtype=torch.bool)
    _statistics.cache_clear()
    with torch.inference_mode():
        normalise(images, flip[0])
    view, _ = two_views(images, flip)
    weight = torch.ones(1, requires_grad=True)
    (view * weight).sum().backward()
    assert not view.is_inference() and weight.grad is not None
