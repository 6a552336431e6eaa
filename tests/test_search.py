"""A query in an index: the same order as `rasa evaluate`'s two stages, words that are read, marked and weighed."""

import pytest
import torch

from rasa.data.tokenizer import train_tokenizer
from rasa.evaluation.index import top_k
from rasa.evaluation.rank import encode_gallery, encode_queries, retrieval_mode
from rasa.evaluation.rerank import rerank
from rasa.evaluation.word_probe import KINDS, exchange, exchangeable, exchanged_at
from rasa.model.packing import Text
from rasa.search.replaced import cells_of, looks_replaced, replaced_odds
from rasa.search.words import LONGEST_QUERY, Said, probed_words, read_query, said_at, without_each
from reports.search import document, remarks
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


def test_wrong_words_stand_where_the_word_stood():
    found = probed_words("a woman in a red coat with a white backpack")
    assert [each.words for each in found] == [(4,), (5,), (8,), (9,)]
    for each in found:
        assert 1 < len(each.wrong) <= 6
        for wrong in each.wrong:
            words = wrong.text.split()
            assert words[:3] == ["a", "woman", "in"] and wrong.text != "a woman in a red coat with a white backpack"
            before, after = wrong.text[: wrong.start].split(), wrong.text[wrong.stop :].split()
            assert before[-1] in ("a", "an", "red", "white") and after == each.own.text[each.own.stop :].split()
    assert [each.own.text[each.own.start : each.own.stop] for each in found] == ["red", "coat", "white", "backpack"]
    assert all(" coat with a white backpack" in wrong.text for wrong in found[0].wrong)
    assert probed_words("a woman in a red coat with a white backpack") == found  # the same each time
    assert [each.words for each in probed_words("a light blue shirt")] == [(1, 2), (3,)]


def test_exchange_is_still_one_of_the_places():
    import random

    caption = "a woman in a red coat with a white backpack and blue jeans"
    for kind in KINDS:
        texts = {exchanged_at(caption, place, word) for place in exchangeable(caption, kind) for word in place.others}
        assert {exchange(caption, kind, random.Random(seed)) for seed in range(20)} <= texts


def test_a_word_is_marked_if_it_looks_more_replaced_than_wrong_ones():
    """Two images, two wrong words: (2 - 1) and (0 - 0.5), in the mean 0.25; with -1.2 for 0 it is -0.35."""
    wrong = [[1.0, 0.0], [1.0, 1.0]]
    assert looks_replaced(torch.tensor([[2.0, 0.0], *wrong]))
    assert not looks_replaced(torch.tensor([[2.0, -1.2], *wrong]))


def test_the_detector_reads_the_word_that_is_asked_about(tmp_path_factory):
    """Against the whole sequence of one pair at a time; the word is in several pieces, and the article is another."""
    searching = engine(write_gallery(tmp_path_factory.mktemp("detector")), losses={"rtd": 1.0})
    encoder, text = searching.encoder, "a man with a white backpack in a red coat"
    (place,) = exchangeable(text, "accessory")
    said = [Said(text, place.start, place.stop), said_at(text, place, "umbrella"), said_at(text, place, "bagpack")]
    assert said[1].text == "a man with a white umbrella in a red coat"
    assert [cells_of(each, encoder.tokenizer)[0] for each in said] == [6, 6, 6]
    lengths = [len(encoder.tokenizer.encode([word]).ids[0]) - 2 for word in ("backpack", "umbrella", "bagpack")]
    assert lengths[0] == 1 and lengths[2] > 1
    with torch.inference_mode(), retrieval_mode(encoder.model, encoder.device):
        odds_TK = replaced_odds(encoder, said, searching.index.tokens_NMD[[4, 1]])
        for row, (each, length) in enumerate(zip(said, lengths, strict=True)):
            own = Text.of(encoder.tokenizer.encode([each.text]), encoder.device)
            for column, number in enumerate((4, 1)):
                image = encoder.model.encoders.project_image(searching.index.tokens_NMD[number][None])
                states = encoder.model.encoders.fuse(encoder.model.encoders.encode_text(own), own.packing, image)
                logits = encoder.model.heads["rtd"](states)[6 : 6 + length]
                expected = float((logits[:, 1] - logits[:, 0]).max())
                assert float(odds_TK[row, column]) == pytest.approx(expected, abs=1e-5)
    assert len(set(odds_TK.flatten().tolist())) == 6


def test_marks_are_those_of_the_first_images(tmp_path, monkeypatch):
    """A detector for which `red`, and a backpack, look replaced, and a coat less than what stands for it."""
    searching = engine(write_gallery(tmp_path), losses={"rtd": 1.0})
    asked = []

    def odds(encoder, said, tokens_KMD):
        asked.append(tokens_KMD)
        words = [each.text[each.start : each.stop] for each in said]
        return torch.tensor([[float(word in ("red", "backpack"))] * len(tokens_KMD) for word in words])

    monkeypatch.setattr("rasa.search.engine.replaced_odds", odds)
    monkeypatch.setattr("rasa.search.engine.PROBED", 3)
    found = searching.search("A woman in a red coat with a white backpack.", 5)
    assert {found.read.words[place] for place in found.unsupported} == {"red", "backpack"} and found.probed == 3
    numbers = [match.number for match in found.matches[:3]]
    assert len(asked) == 4 and all(torch.equal(each, searching.index.tokens_NMD[numbers]) for each in asked)


def test_weights_without_the_detector_mark_nothing_and_say_so(root):
    found = engine(root).search("A woman in a red coat with a white backpack.", 5)
    assert found.unsupported == frozenset() and found.probed == 0
    assert document(found)["unsupported"] is None and remarks(found) == []


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
