"""One query searched in an index: stage 1 by features, stage 2 of the best by the cross-modal encoder, word by word.

Shape suffixes: T queries, K images, M image tokens, D width.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from rasa.data.transforms import decode
from rasa.evaluation.index import top_k
from rasa.evaluation.rank import EncodedQueries, encode_images, encode_queries, retrieval_mode
from rasa.evaluation.rerank import pair_scores
from rasa.search.encoder import Encoder
from rasa.search.folder import read_image
from rasa.search.index import Index, refuse_other
from rasa.search.words import Read, read_query, without_each


class Match(NamedTuple):
    """An image that was found."""

    number: int  # in the index
    file: str
    similarity: float  # stage 1: cosine
    match: float | None  # stage 2: the ITM head's score; None where it did not look
    stage1_place: int  # from 1


class Found(NamedTuple):
    """What a query finds."""

    read: Read
    matches: tuple[Match, ...]


class Engine:
    """An index and the weights that it was made with. Not for several threads at once."""

    def __init__(self, root: Path, index: Index, encoder: Encoder):
        """Raises ResourceError if the index was made with other weights."""
        refuse_other(root, index, encoder)
        self.root, self.index, self.encoder = root, index, encoder
        self._features = index.features_NE.to(encoder.device)

    @torch.inference_mode()
    def search(self, query: str, shown: int = 10) -> Found:
        """The `shown` best images, best first. A query without words finds nothing.

        Raises ResourceError if an image must be read again and cannot be.
        """
        data, evaluation = self.encoder.config.data, self.encoder.config.evaluation
        read = read_query(query, self.encoder.tokenizer, data.max_words, data.max_tokens)
        if not read.words:
            return Found(read, ())
        with retrieval_mode(self.encoder.model, self.encoder.device):
            texts = self._queries([read.text])
            similarity_1K, candidates_1K = top_k(texts.features_TE, self._features, max(evaluation.topk, shown))
            similarity, candidates = similarity_1K[0], candidates_1K[0]
            order, scores = torch.arange(len(candidates)), None
            if self.encoder.reranks:
                tokens = self._tokens(candidates[: evaluation.topk].tolist())
                scores = self._scores([read.text], tokens)[0].cpu()
                order = torch.cat([scores.sort(descending=True, stable=True).indices, order[len(scores) :]])
            matches = tuple(self._match(place, candidates, similarity, scores) for place in order[:shown].tolist())
        return Found(read, matches)

    @torch.inference_mode()
    def relevance(self, found: Found, place: int) -> tuple[float, ...]:
        """How much of the final score of an image that was found rests on each word: what it loses without the word."""
        with retrieval_mode(self.encoder.model, self.encoder.device):
            texts = [found.read.text, *without_each(found.read.words)]
            scores_T = self.final_scores(texts, [found.matches[place].number])[:, 0]
        return tuple((scores_T[0] - scores_T[1:]).tolist())

    def final_scores(self, texts: Sequence[str], numbers: Sequence[int]) -> Tensor:
        """Scores [T, K] of texts with images of the index: stage 2's, or stage 1's without one."""
        if self.encoder.reranks:
            return self._scores(texts, self._tokens(numbers))
        return self._queries(texts).features_TE @ self._features[list(numbers)].T

    def _match(self, place: int, candidates: Tensor, similarity: Tensor, scores: Tensor | None) -> Match:
        number = int(candidates[place])
        match = float(scores[place]) if scores is not None and place < len(scores) else None
        return Match(number, self.index.files[number], float(similarity[place]), match, place + 1)

    def _queries(self, texts: Sequence[str]) -> EncodedQueries:
        encoder, evaluation = self.encoder, self.encoder.config.evaluation
        encoded = encoder.tokenizer.encode_all(texts, encoder.config.data.max_tokens)
        return encode_queries(encoder.model, encoded, evaluation.batch_size, evaluation.precision, encoder.device)

    def _scores(self, texts: Sequence[str], tokens_KMD: Tensor) -> Tensor:
        """Stage 2's scores [T, K]."""
        packed, count, size = self._queries(texts).packed, len(texts), len(tokens_KMD)
        evaluation = self.encoder.config.evaluation
        assert packed is not None
        return pair_scores(
            self.encoder.model,
            [tokens_KMD],
            packed,
            torch.arange(count).repeat_interleave(size),
            torch.arange(size).repeat(count),
            self.encoder.config.fidelity.ranking_score,
            evaluation.tokens_per_call,
            evaluation.precision,
        ).view(count, size)

    def _tokens(self, numbers: Sequence[int]) -> Tensor:
        """Image tokens [K, M, D]: kept in the index, or encoded again."""
        if self.index.tokens_NMD is not None:
            return self.index.tokens_NMD[list(numbers)].to(self.encoder.device)
        size = self.encoder.config.data.image_size
        images = torch.stack([self._decoded(number, size) for number in numbers])
        parts = images.split(self.encoder.config.evaluation.batch_size)
        precision = self.encoder.config.evaluation.precision
        return torch.cat([encode_images(self.encoder.model, part, precision, self.encoder.device) for part in parts])

    def _decoded(self, number: int, size: tuple[int, int]) -> Tensor:
        file = self.index.files[number]
        content = read_image(self.root, file, self.index.digests[number])  # it is what was indexed
        return decode(self.root / file, size, content)
