"""Strong and weak pairs on a hand-made split, and the rates at which they are drawn."""

import numpy as np
import pytest
import torch

from rasa.data.dataset import Split
from rasa.data.pairs import draw_captions

# Identity 7: image 0 with captions 0 and 1, image 2 with captions 3 and 4, image 4 with caption 6 (which reads as 0).
# Identity 8: image 1 with caption 2 alone. Identity 9: image 3 with captions 5 and 7, so no other image.
TEXTS = ("a", "b", "c", "d", "e", "f", "a", "g")
SPLIT = Split(
    name="train",
    image_files=("0", "1", "2", "3", "4"),
    image_identities=np.array([7, 8, 7, 9, 7]),
    captions=TEXTS,
    caption_images=np.array([0, 0, 1, 2, 2, 3, 4, 3]),
)
OWN = torch.arange(8)
OF_IDENTITY = {7: {0, 1, 3, 4, 6}, 8: {2}, 9: {5, 7}}


def draw(positives, p_weak=1.0, pool="identity", label="caption", seed=0, split=SPLIT):
    return draw_captions(split, positives, p_weak, pool, label, torch.Generator().manual_seed(seed))


def many(times, *arguments, **options):
    """Drawn captions and weakness [times, T], from one stream: the split `times` over, as other identities."""
    shift = np.arange(times)[:, None]
    large = Split(
        name="train",
        image_files=SPLIT.image_files * times,
        image_identities=(SPLIT.image_identities + 10 * shift).ravel(),
        captions=SPLIT.captions * times,
        caption_images=(SPLIT.caption_images + 5 * shift).ravel(),
    )
    drawn, weak = draw(*arguments, **options, split=large)
    return drawn.view(times, 8) - 8 * torch.arange(times)[:, None], weak.view(times, 8)


def test_annotated_is_the_own_caption_and_never_weak():
    drawn, weak = draw("annotated")
    assert torch.equal(drawn, OWN) and not weak.any()
    assert drawn.dtype == torch.int64 and weak.dtype == torch.bool


@pytest.mark.parametrize(("positives", "p_weak"), [("uniform", 0.0), ("probabilistic", 1.0)])
def test_every_caption_of_the_identity_and_no_other_is_drawn(positives, p_weak):
    drawn, _ = many(500, positives, p_weak)
    for own in range(8):
        assert set(drawn[:, own].tolist()) == OF_IDENTITY[int(SPLIT.caption_identities[own])]


def test_probabilistic_without_weak_pairs_is_annotated():
    drawn, weak = draw("probabilistic", p_weak=0.0)
    assert torch.equal(drawn, OWN) and not weak.any()


def test_other_images_never_give_a_caption_of_the_own_image():
    drawn, weak = many(500, "probabilistic", pool="other-images", label="image")
    expected = [{3, 4, 6}, {3, 4, 6}, {2}, {0, 1, 6}, {0, 1, 6}, {5}, {0, 1, 3, 4}, {7}]
    assert [set(column) for column in drawn.T.tolist()] == expected
    # Identities with a single image keep the own caption, and the pair stays strong.
    assert weak.all(dim=0).tolist() == [True, True, False, True, True, False, True, False]
    assert weak.any(dim=0).tolist() == weak.all(dim=0).tolist()


def test_pool_of_other_images_does_not_change_uniform():
    assert torch.equal(draw("uniform", pool="other-images")[0], draw("uniform", pool="identity")[0])


@pytest.mark.parametrize(
    ("label", "strong"),
    [
        # Caption 6 reads as caption 0 though it is another image's; 1 is the same image's but reads differently.
        ("caption", {(0, 0), (0, 6), (1, 1), (6, 6), (6, 0)}),
        ("image", {(0, 0), (0, 1), (1, 0), (1, 1), (6, 6)}),
    ],
)
def test_label(label, strong):
    drawn, weak = many(500, "uniform", label=label)
    found = {
        (own, other)
        for own in (0, 1, 6)
        for other, is_weak in zip(drawn[:, own].tolist(), weak[:, own].tolist(), strict=True)
        if not is_weak
    }
    assert found == strong


@pytest.mark.parametrize("pool", ["identity", "other-images"])
def test_captions_of_the_pool_are_equally_likely(pool):
    """Chi-square for caption 0: below 18.5, its 99.9 % point with 4 degrees of freedom (13.8 with 2)."""
    drawn, _ = many(4000, "probabilistic", pool=pool)
    counts = torch.bincount(drawn[:, 0], minlength=8)
    counts = counts[counts > 0].double()
    expected = 4000 / len(counts)
    assert len(counts) == {"identity": 5, "other-images": 3}[pool]
    assert ((counts - expected) ** 2 / expected).sum() < {"identity": 18.5, "other-images": 13.8}[pool]


@pytest.mark.parametrize(
    ("pool", "label", "rate"),
    [
        ("identity", "caption", 0.3 * 3 / 5),  # caption 0: of five, 0 and 6 read the same
        ("identity", "image", 0.3 * 3 / 5),  # caption 0: of five, 0 and 1 are the own image's
        ("other-images", "image", 0.3),
        ("other-images", "caption", 0.3 * 2 / 3),  # of 3, 4, 6 the last reads the same
    ],
)
def test_share_of_weak_pairs(pool, label, rate):
    """Within 0.035 of p_weak times the pool's share of weak captions: more than four standard errors at 4000."""
    _, weak = many(4000, "probabilistic", p_weak=0.3, pool=pool, label=label)
    assert abs(weak[:, 0].double().mean().item() - rate) < 0.035


def test_released_rate_is_p_weak_times_all_but_own():
    """0.1 * (n - 1) / n for n captions that all differ: identity 9 has n = 2, so 0.05; four standard errors."""
    _, weak = many(8000, "probabilistic", p_weak=0.1)
    assert abs(weak[:, 5].double().mean().item() - 0.05) < 4 * (0.05 * 0.95 / 8000) ** 0.5


def test_identity_with_one_caption_keeps_it():
    for positives in ("uniform", "probabilistic"):
        for pool in ("identity", "other-images"):
            drawn, weak = draw(positives, pool=pool)
            assert drawn[2] == 2 and not weak[2]


def test_same_generator_same_draws_and_another_differs():
    first, again, other = (many(50, "uniform", seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_order_of_the_records_does_not_matter_for_who_is_drawn_from():
    """Captions in reversed order: every drawn caption is still of the own identity."""
    reversed_split = Split("train", SPLIT.image_files, SPLIT.image_identities, TEXTS[::-1], SPLIT.caption_images[::-1])
    drawn, _ = draw("uniform", split=reversed_split)
    identities = torch.from_numpy(reversed_split.caption_identities.copy())
    assert torch.equal(identities[drawn], identities)


@pytest.mark.parametrize(
    "options",
    [{"positives": "some"}, {"positives": "probabilistic", "pool": "all"}, {"positives": "uniform", "label": "x"}],
)
def test_unknown_names_are_refused(options):
    with pytest.raises(ValueError, match="is none of"):
        draw(**options)
