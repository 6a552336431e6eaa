"""Two-stage retrieval against plain forms of itself: the whole similarity matrix sorted, every pair computed alone."""

import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rasa.evaluation.index import top_k
from rasa.evaluation.metrics import evaluate_order, final_order, stage1_order
from rasa.evaluation.rank import measure
from rasa.evaluation.rerank import PackedTexts, blocks, match_scores, pieces, rerank
from rasa.model.packing import Text
from rasa.model.rasa import build_model
from tests.helpers.tiny_model import tiny
from tests.helpers.tiny_retrieval import CPU, encode, few_pairs, query_major, random_split, run, seeded, sharp_model


def whole(values):
    """Small whole numbers: products and sums are exact in float32 in any order, and many scores are equal."""
    return torch.randint(-1, 2, values, generator=seeded(sum(values))).float()


class Largest(TorchDispatchMode):
    """Records the size of the largest tensor that any operation makes."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else (out,):
            if isinstance(value, torch.Tensor):
                self.size = max(self.size, value.numel())
        return out


# Stage 1: index.py


def test_top_k_by_hand():
    """Scores 1, 3, 2, 3, 3 in chunks of two: the threes are images 1, 3 and 4, in this order, then the two."""
    scores, indices = top_k(torch.ones(1, 1), torch.tensor([[1.0], [3], [2], [3], [3]]), 4, chunk=2)
    assert scores.tolist() == [[3, 3, 3, 2]] and indices.tolist() == [[1, 3, 4, 2]]


@pytest.mark.parametrize("k", [1, 5, 20, 49, 50, 70])
@pytest.mark.parametrize(("chunk", "query_chunk"), [(1, 4), (3, 1), (7, 100), (16, 4), (50, 100), (64, 3)])
def test_top_k_is_the_whole_sort_with_ties(k, chunk, query_chunk):
    queries, gallery = whole((9, 4)), whole((50, 4))
    similarity = queries @ gallery.T
    assert len(similarity.unique()) < 10  # so nearly all scores are tied
    scores, indices = top_k(queries, gallery, k, chunk, query_chunk)
    assert torch.equal(indices, stage1_order(similarity)[:, :k])
    assert torch.equal(scores, similarity.gather(1, indices))


def test_top_k_of_every_kind_of_gallery(tmp_path):
    queries, gallery = whole((9, 4)), whole((50, 4))
    expected = top_k(queries, gallery, 12)
    stored = np.memmap(tmp_path / "gallery", np.float32, "w+", shape=(50, 4))
    stored[:] = gallery.numpy()
    stored.flush()
    read_only = np.memmap(tmp_path / "gallery", np.float32, "r", shape=(50, 4))
    sources = gallery.numpy(), read_only, list(gallery.split(8)), iter(gallery.split([1, 0, 30, 19])), gallery.double()
    for source in sources:
        scores, indices = top_k(queries, source, 12, chunk=7)
        assert torch.equal(indices, expected[1]) and torch.equal(scores.float(), expected[0])


def test_top_k_scores_are_at_least_float32():
    queries, gallery = torch.randn(3, 8, generator=seeded(1)), torch.randn(30, 8, generator=seeded(2))
    for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64,) * 2):
        scores, indices = top_k(queries.to(dtype), gallery.to(dtype), 5, chunk=4)
        assert scores.dtype == expected and indices.dtype == torch.int64
        similarity = queries.to(dtype).double() @ gallery.to(dtype).double().T
        assert torch.allclose(scores.double(), similarity.gather(1, indices), atol=1e-6)  # float32 sums of 8 products


def test_top_k_of_nothing():
    scores, indices = top_k(torch.ones(3, 4), torch.ones(0, 4), 5)
    assert scores.shape == indices.shape == (3, 0)
    scores, indices = top_k(torch.ones(0, 4), torch.ones(6, 4), 5)
    assert scores.shape == indices.shape == (0, 5)


def test_top_k_refuses():
    with pytest.raises(ValueError, match="k is 0"):
        top_k(torch.ones(1, 2), torch.ones(1, 2), 0)
    with pytest.raises(ValueError, match=r"gallery rows of shape \[3\], queries \[2\]"):
        top_k(torch.ones(1, 2), torch.ones(1, 3), 1)


def test_top_k_never_holds_the_score_matrix():
    with Largest() as largest:
        top_k(whole((40, 4)), whole((1000, 4)), 5, chunk=50, query_chunk=20)
    assert largest.size <= 1000 * 4  # the gallery itself; a block of scores has 1,000, the matrix 40,000


# Metrics: evaluate.measure


@pytest.mark.parametrize("beyond", ["stage1", "tied"])
@pytest.mark.parametrize("k", [1, 7, 20])
@pytest.mark.parametrize("cells", [1, 60, 100, 10**6])
def test_measure_is_the_evaluation_of_the_whole_order(beyond, k, cells):
    texts, images = whole((13, 3)), whole((20, 3))
    identities = torch.randint(0, 6, (20,), generator=seeded(3)), torch.randint(0, 6, (13,), generator=seeded(4))
    order = stage1_order(texts @ images.T)
    scores = torch.randint(0, 3, (13, k), generator=seeded(5)).float()
    _, candidates = top_k(texts, images, k, chunk=6)
    for given in (scores, None):
        expected = order if given is None else final_order(order, given, beyond)
        final, stage1, best, similarity = measure(texts, images, candidates, given, beyond, *identities, cells=cells)
        assert torch.equal(best, expected[:, :10])
        assert torch.equal(similarity, (texts @ images.T).gather(1, best))
        for ours, theirs in ((final, expected), (stage1, order)):
            reference = evaluate_order(theirs, *identities)
            assert ours.metrics == pytest.approx(reference.metrics, abs=0, rel=0, nan_ok=True)
            assert torch.equal(ours.first_rank_T, reference.first_rank_T)
            # no tolerance: bit for bit
            assert torch.equal(ours.average_precision_T.nan_to_num(-1), reference.average_precision_T.nan_to_num(-1))


def test_measure_keeps_the_candidates_in_front():
    """Even where rounding would put another image among them: here image 1 is nearer, but image 0 is the candidate."""
    texts, images, identity = torch.tensor([[1.0]]), torch.tensor([[1.0], [2.0], [0.5]]), torch.tensor([0, 1, 2])
    final, stage1, best, _ = measure(texts, images, torch.tensor([[0]]), None, "stage1", identity, torch.tensor([0]))
    assert best.tolist() == [[0, 1, 2]] and stage1.first_rank_T.tolist() == final.first_rank_T.tolist() == [1]


def test_measure_never_holds_the_similarity_matrix():
    texts, images, identities = whole((60, 3)), whole((100, 3)), (torch.arange(100), torch.arange(60))
    candidates = top_k(texts, images, 5)[1]
    with Largest() as largest:
        measure(texts, images, candidates, candidates.float(), "stage1", *identities, cells=1000)
    assert largest.size <= 1000  # of 6,000


# Stage 2: rerank.py


@pytest.fixture(scope="module")
def small():
    return few_pairs()


@pytest.mark.parametrize("tokens_per_call", [1, 10, 37, 100, 10**6])
@pytest.mark.parametrize("batch", [1, 3, 7])
@torch.no_grad()
def test_scores_depend_on_no_size(small, tokens_per_call, batch):
    expected = query_major(small.model, small.states, small.packing, small.tokens, small.candidates)
    scores = rerank(
        small.model, small.tokens.split(batch), small.texts, small.candidates, tokens_per_call=tokens_per_call
    )
    assert scores.dtype == torch.float64 and torch.allclose(scores, expected, atol=1e-12)


def test_probability_ranks_by_the_log_odds(small):
    """Of a softmax of two logits: the first less the second,
    so with the other class's held at 0 the match logit itself.

    Odds of e^17, e^18 and e^25 are three scores in float32, where their probabilities are all 1.
    """
    head = small.model.heads["itm"]
    weight, bias = head.weight.detach().clone(), head.bias.detach().clone()
    with torch.no_grad():
        head.weight[0], head.bias[0] = 0, 0
        logits, odds = (
            rerank(small.model, [small.tokens], small.texts, small.candidates, score)
            for score in ("logit", "probability")
        )
        head.weight[0], head.bias[0] = weight[1], bias[1]
        even = rerank(small.model, [small.tokens], small.texts, small.candidates, "probability")
        head.weight.copy_(weight), head.bias.copy_(bias)
    assert torch.allclose(odds, logits, atol=1e-12) and logits.abs().max() > 0.1
    assert even.abs().max() < 1e-12  # where both classes are told alike, nothing is


def test_far_matches_stay_apart_in_float32():
    """Margins of 17, 18 and 25: float32's softmax makes them all 1."""
    head = torch.nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        head.weight[:] = torch.tensor([[-0.5], [0.5]])
        model = SimpleNamespace(heads={"itm": head})
        scores = match_scores(model, torch.tensor([[17.0], [25.0], [18.0]]), "probability")
    assert scores.tolist() == [17.0, 25.0, 18.0]
    assert (torch.stack([-scores / 2, scores / 2], 1).softmax(1)[:, 1] == 1).all()


@pytest.mark.parametrize("tokens_per_call", [1, 10, 10**6])
def test_calls_have_at_most_so_many_tokens_and_an_image_is_projected_once(small, tokens_per_call):
    projected, called = [], []
    layer = small.model.encoders.fusion.layers[0]
    hooks = [
        layer.cross_attention.key.register_forward_hook(lambda _, given, out: projected.append(len(given[0]))),
        layer.cross_attention.query.register_forward_hook(lambda _, given, out: called.append(len(given[0]))),
    ]
    rerank(small.model, small.tokens.split(3), small.texts, small.candidates, tokens_per_call=tokens_per_call)
    for hook in hooks:
        hook.remove()
    longest = int(small.texts.lengths.max())
    assert max(called) <= max(tokens_per_call, longest)
    assert sum(called) == int(small.texts.lengths.sum()) * 4
    assert sum(projected) == len(small.candidates.unique()) == 6


def test_blocks_and_pieces_by_hand():
    """Images with 5, 0, 4, 12 and 3 tokens, ten a call: 5 + 4, then 12 alone, then 3. Texts of 4 split 12 as 8 + 4."""
    assert list(blocks([5, 0, 4, 12, 3], 10)) == [[0, 2], [3], [4]]
    assert [len(images) for images in blocks([1] * 40, 1000)] == [16, 16, 8]
    total = torch.tensor([0, 5, 9, 13, 17, 21, 24])
    assert list(pieces(total, 2, 5, 10)) == [(2, 4), (4, 5)]
    assert list(pieces(total, 2, 5, 1)) == [(2, 3), (3, 4), (4, 5)]


def test_a_gallery_that_ends_early_is_refused(small):
    with pytest.raises(ValueError, match="the gallery ended after 3 images, but image 5 is a candidate"):
        rerank(small.model, [small.tokens[:3]], small.texts, small.candidates)


@torch.no_grad()
def test_scores_at_full_width():
    """ALBEF's width, heads and 577 image tokens in float32; two layers, which is where the calls differ."""
    config = tiny(
        {"itm": 1.0},
        vision_width=768,
        vision_depth=1,
        vision_heads=12,
        text_width=768,
        text_layers=2,
        fusion_layers=2,
        text_heads=12,
        text_mlp_width=3072,
        max_positions=50,
        embed_dim=256,
    )
    model = build_model(config, 50).eval()
    states, packing, image_tokens = encode(model, 8, 5, 577, 50, 768)
    candidates = torch.rand(8, 5, generator=seeded(9)).topk(3).indices
    texts = PackedTexts([(model.encoders.fusion.attend(states, packing), packing)])
    scores = rerank(model, image_tokens.split(2), texts, candidates, tokens_per_call=60)
    expected = query_major(model, states, packing, image_tokens, candidates)
    assert scores.dtype == torch.float32
    assert torch.allclose(scores, expected, atol=1e-5, rtol=0)  # measured: 1e-6 at scores of about 1
    assert torch.equal(scores.argsort(dim=1, descending=True), expected.argsort(dim=1, descending=True))


# The whole evaluation: evaluate.py


@pytest.fixture(scope="module")
def split():
    return random_split()


@pytest.fixture(scope="module")
def model():
    return sharp_model()


def same(first, second):
    assert first.final.metrics == second.final.metrics and first.stage1.metrics == second.stage1.metrics
    assert torch.equal(first.scores_TK, second.scores_TK) and torch.equal(first.candidates_TK, second.candidates_TK)
    for name, value in first.predictions().items():
        assert torch.equal(value, second.predictions()[name]), name


@pytest.mark.parametrize("topk", [6, 20])
def test_predictions_keep_both_stages_scores_of_the_best_images(model, split, topk):
    """Fewer candidates than the ten that are kept: stage 2 did not look at the others."""
    found = run(model, split, topk=topk)
    kept = found.predictions()
    for query, images in enumerate(kept["best"].tolist()):
        looked = dict(zip(found.candidates_TK[query].tolist(), found.scores_TK[query].tolist(), strict=True))
        assert kept["match"][query].tolist() == [looked.get(image, -float("inf")) for image in images]
        behind = kept["match"][query].isinf()
        assert behind.sum() == max(0, 10 - topk) and kept["match"][query].diff()[~behind[1:]].le(0).all()
        assert kept["similarity"][query][behind].diff().le(0).all()


@torch.no_grad()
def test_evaluation_is_both_stages_written_out(model, split):
    """Whole matrices, pair by pair: the order is that of the scores, and the figures those of the order."""
    from rasa.data.transforms import normalise

    pixels, texts, *identities = split
    encoders = model.eval().encoders
    tokens = encoders.encode_image(normalise(pixels, torch.zeros(20, dtype=torch.bool)))
    text = Text.of(texts.take(torch.arange(30)), CPU)
    states = encoders.encode_text(text)
    order = stage1_order(encoders.text_feature(states, text.packing) @ encoders.image_feature(tokens).T)
    expected = query_major(model, states, text.packing, tokens, order[:, :6])
    final = final_order(order, expected)
    ranking = run(model, split)
    assert torch.equal(ranking.candidates_TK, order[:, :6])
    assert torch.allclose(ranking.scores_TK, expected, atol=1e-5)
    assert torch.equal(ranking.best_TJ, final[:, :10])
    assert ranking.stage1.metrics == evaluate_order(order, *identities).metrics
    assert ranking.final.metrics == evaluate_order(final, *identities).metrics


def test_streaming_is_keeping(model, split):
    """20 images x 7 tokens x 32 x 4 bytes are less than a MiB, so the images are read twice only with no memory."""
    passes = []

    def images():
        passes.append(1)
        return iter(split[0].split(6))

    kept = run(model, split, images)
    assert len(passes) == 1
    streamed = run(model, split, images, gallery_mib=0)
    assert len(passes) == 3
    same(kept, streamed)


def test_streaming_holds_one_batch_of_tokens_beside_the_next(model, split):
    made, alive = [], []

    def callbacks(module, given, out):
        alive.append(sum(reference() is not None for reference in made))
        made.append(weakref.ref(out))

    for gallery_mib, most in ((100, 3), (0, 1)):
        made.clear()
        alive.clear()
        hook = model.encoders.vision.norm.register_forward_hook(callbacks)
        run(model, split, gallery_mib=gallery_mib)
        hook.remove()
        assert max(alive) == most  # beside the one being encoded: of four batches kept three, or the one before


def test_images_that_can_be_read_once_only_are_refused_if_they_must_be_read_twice(model, split):
    once = iter(split[0].split(6))
    with pytest.raises(ValueError, match="the gallery ended after 0 images"):
        run(model, split, lambda: once, gallery_mib=0)
    with pytest.raises(ValueError, match="14 images, but the gallery has 20 identities"):
        run(model, split, lambda: split[0][:14].split(6))


def test_bf16_ranks_nearly_alike(model, split):
    """Scores move by less than a tenth of their spread; float32 is what it was, also under an outer autocast."""
    exact, rounded = run(model, split, topk=20), run(model, split, topk=20, precision="bf16")
    assert rounded.scores_TK.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        same(exact, run(model, split, topk=20))
    everything = [torch.empty(30, 20).scatter_(1, r.candidates_TK, r.scores_TK) for r in (exact, rounded)]
    difference = (everything[0] - everything[1]).abs().max()
    assert 0 < difference < 0.1 * everything[0].std()
    ranks = [scores.argsort(1).argsort(1).flatten().double() for scores in everything]
    assert torch.corrcoef(torch.stack(ranks))[0, 1] > 0.99


def test_bf16_features_are_float32(model, split):
    projected = []
    hooks = [
        part.register_forward_hook(lambda _, given, out: projected.append((given[0].dtype, out.dtype)))
        for part in (model.encoders.vision_proj, model.encoders.text_proj, model.heads["itm"])
    ]
    run(model, split, precision="bf16")
    for hook in hooks:
        hook.remove()
    assert set(projected) == {(torch.float32, torch.float32)}


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_in_its_mode(model, split, training):
    model.train(training)
    run(model, split)
    assert model.training == training
    with pytest.raises(ValueError):
        run(model, split, lambda: split[0][:14].split(6))
    assert model.training == training


def test_without_a_match_head_stage_1_is_final(split):
    passes = []

    def images():
        passes.append(1)
        return split[0].split(6)

    ranking = run(build_model(tiny({"cl": 0.5}), 50), split, images, gallery_mib=0)
    assert ranking.scores_TK is None and len(passes) == 1
    assert ranking.final.metrics == ranking.stage1.metrics
