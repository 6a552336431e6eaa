"""A query in an index: the same order as `rasa evaluate`'s two stages, words that are read and weighed."""

import pytest
import torch

from rasa.data.tokenizer import train_tokenizer
from rasa.evaluation.index import top_k
from rasa.evaluation.rank import encode_gallery, encode_queries, retrieval_mode
from rasa.evaluation.rerank import rerank
from rasa.evaluation.word_probe import KINDS, exchange, exchangeable, exchanged_at
from rasa.search.words import LONGEST_QUERY, read_query, without_each
from tests.helpers.galleries import WORDS, engine, write_gallery

QUERY = "A woman in a red coat with a white bag."


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_gallery(tmp_path_factory.mktemp("search"))


def reference(found, query):
    """Similarities [N] and stage 2's scores of the first K, through the code that evaluates a split."""
    own, config = found.encoder, found.encoder.config
    images = [torch.stack([_decoded(found, file) for file in found.index.files])]
    with torch.inference_mode(), retrieval_mode(own.model, own.device):
        gallery = encode_gallery(own.model, lambda: images, len(found.index.files), 64, "float32", own.device)
        texts = encode_queries(own.model, own.tokenizer.encode_all([query]), 4, "float32", own.device)
        similarity, candidates = top_k(texts.features_TE, gallery.features_NE, len(images[0]))
        scores = None
        if texts.packed is not None:
            first = candidates[:, : config.evaluation.topk]
            scores = rerank(own.model, gallery.tokens(), texts.packed, first, config.fidelity.ranking_score)[0]
    return similarity[0], candidates[0], scores


def _decoded(found, file):
    from rasa.data.transforms import decode

    return decode(found.root / file, found.encoder.config.data.image_size)


@pytest.mark.parametrize("kept", [64, 0])
def test_both_stages_are_those_of_evaluation(tmp_path, kept, monkeypatch):
    """Also where the tokens are too many to be kept, and images are encoded again."""
    root = write_gallery(tmp_path)
    if not kept:
        monkeypatch.setattr("rasa.search.index._Building._room", lambda self: 0)
    searching = engine(root)
    assert (searching.index.tokens_NMD is None) == (not kept)
    found = searching.search(QUERY, 6)
    similarity, candidates, scores = reference(searching, "a woman in a red coat with a white bag")
    order = scores.argsort(descending=True, stable=True).tolist() + [4, 5]
    assert [match.number for match in found.matches] == [int(candidates[place]) for place in order]
    assert [match.stage1_place for match in found.matches] == [place + 1 for place in order]
    for match, place in zip(found.matches, order, strict=True):
        assert match.similarity == pytest.approx(float(similarity[place]), abs=1e-5)
        assert match.file == searching.index.files[match.number]
        if place < 4:
            assert match.match == pytest.approx(float(scores[place]), abs=1e-5)
        else:
            assert match.match is None


def test_without_a_matching_head_similarity_orders(root, tmp_path):
    own = write_gallery(tmp_path)
    searching = engine(own, reranks=False)
    assert searching.index.tokens_NMD is None
    found = searching.search(QUERY, 3)
    similarity, candidates, _ = reference(searching, "a woman in a red coat with a white bag")
    assert [match.number for match in found.matches] == candidates[:3].tolist()
    assert [match.match for match in found.matches] == [None] * 3
    own = searching.relevance(found, 0)
    without = searching.search("A woman in a coat with a white bag", 6)
    lost = float(similarity[0]) - next(m.similarity for m in without.matches if m.number == found.matches[0].number)
    assert own[4] == pytest.approx(lost, abs=1e-5)


def test_relevance_is_what_the_score_loses_without_a_word(root):
    searching = engine(root)
    found = searching.search(QUERY, 4)
    relevance = searching.relevance(found, 1)
    assert len(relevance) == 10 and len(set(relevance)) > 5
    number = found.matches[1].number
    for word, text in ((4, "a woman in a coat with a white bag"), (9, "a woman in a red coat with a white")):
        with retrieval_mode(searching.encoder.model, searching.encoder.device), torch.inference_mode():
            score = float(searching.final_scores([text], [number])[0, 0])
        assert relevance[word] == pytest.approx(found.matches[1].match - score, abs=1e-5)


def test_scores_of_several_texts_and_images_are_those_of_each_pair(root):
    searching, texts = engine(root), ["a red coat", "a man with a blue hat and a bag", "white shoes"]
    with retrieval_mode(searching.encoder.model, searching.encoder.device), torch.inference_mode():
        scores_TK = searching.final_scores(texts, [4, 1])
        alone = [[float(searching.final_scores([text], [number])) for number in (4, 1)] for text in texts]
    torch.testing.assert_close(scores_TK, torch.tensor(alone), atol=1e-5, rtol=0)
    assert len(set(scores_TK.flatten().tolist())) == 6


def test_a_query_without_words_finds_nothing(root):
    searching = engine(root)
    assert searching.search("").matches == () and searching.search(" .,! ").matches == ()


def test_words_behind_the_longest_caption_are_told():
    tokenizer = train_tokenizer([WORDS], 200)
    read = read_query("red coat, blue jeans and a hat", tokenizer, 4, 50)
    assert read.words == ("red", "coat", "blue", "jeans") and read.unread == ("and", "a", "hat")
    read = read_query("red coat, blue jeans", tokenizer, 50, 4)  # [CLS] red coat [SEP]
    assert read.text == "red coat" and read.unread == ("blue", "jeans")
    assert read_query("red coat", tokenizer, 50, 4).unread == ()
    assert LONGEST_QUERY >= 500


def test_words_that_the_vocabulary_lacks_are_told():
    tokenizer = train_tokenizer([WORDS], 200)
    read = read_query("red zzz a 上 coat hat", tokenizer, 50, 50)
    assert [read.words[place] for place in sorted(read.unknown)] == ["zzz", "上"]


def test_exchange_is_still_one_of_the_places():
    import random

    caption = "a woman in a red coat with a white backpack and blue jeans"
    for kind in KINDS:
        texts = {exchanged_at(caption, place, word) for place in exchangeable(caption, kind) for word in place.others}
        assert {exchange(caption, kind, random.Random(seed)) for seed in range(20)} <= texts


def test_without_each_word():
    assert without_each(("a", "red", "hat")) == ["red hat", "a hat", "a red"]


def test_an_image_that_has_changed_is_not_shown_as_found(tmp_path, monkeypatch):
    from rasa.errors import ResourceError

    root = write_gallery(tmp_path)
    monkeypatch.setattr("rasa.search.index._Building._room", lambda self: 0)
    searching = engine(root)
    for file in searching.index.files:
        (root / file).write_bytes((root / file).read_bytes() + b"x")
    with pytest.raises(ResourceError, match="has changed since it was indexed"):
        searching.search(QUERY)
