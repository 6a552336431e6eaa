"""What could tell a query's word that no image found shows: signals of a trained model, measured.

Of captions, half of them with one word made wrong, one colour, garment or
accessory each is asked about. It should be marked if none of the ten images found first shows it (the benchmark's
facts.json). The signals, the higher the less the word is supported:

- `exchange`: how much lower a match score is with the word than, on average, with wrong words of its sort, the lowest
  of the ten images;
- `exchange, mean`: the same as the mean of the ten images;
- `exchange, relative`: that mean against the same of random images of the folder, in their standard deviations;
- `best score`: by how much the best match score rises when the word is exchanged;
- `replaced`: the log-odds, by RTD's head, that the word was replaced, the lowest of the ten images (o-, m- or f-RTD);
- `replaced, contrast`: the mean of these less the mean with wrong words in the place;
- `replaced, relative`: that contrast against the same of random images;
- `masked`: minus the log-probability, by MLM's head, of the word in its masked place among the words of its sort, mean
  of the ten images;
- `masked, relative`: how much higher that log-probability is with random images than with the ten.

A signal's AUC is the probability that an unsupported word has a higher value than a supported one. Colours are hardly
ever unsupported, garments often: a signal that is high for all garments is right about kinds and says nothing of words.
So `within` compares words of one kind alone. Intervals are bootstrapped over queries. The threshold is the one of the
best F1 on validation people; what it gives on test people is told as precision and recall.

    .venv/bin/python -m benchmarks.word_marks RUN DATA --queries 200
"""

import argparse
import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from benchmarks.search_speed import linked
from experiments.evaluate import config_of_weights
from rasa.config.run import Objectives
from rasa.data.captions import clean_caption
from rasa.data.tokenizer import Tokenizer, Tokens
from rasa.evaluation.checkpoint import model_of
from rasa.evaluation.rank import retrieval_mode
from rasa.evaluation.rerank import match_scores
from rasa.evaluation.word_probe import KINDS, SORTS, Place, exchangeable, exchanged_at
from rasa.model.packing import Packing, Text
from rasa.search.encoder import Encoder, load_encoder
from rasa.search.engine import Engine
from rasa.search.index import update_index
from rasa.weights.released import initial_state

SLOTS = {"garment": ("top", "outer", "lower", "shoes"), "accessory": ("bag", "hat", "glasses", "carried")}
WRONG = 6  # wrong words tried for each
FIRST, OTHERS = 10, 24  # images found, and random images of the folder beside them
RESAMPLES = 2000


class Said(NamedTuple):
    """A query and where in it the word stands that is asked about."""

    text: str
    start: int
    stop: int


class Asked(NamedTuple):
    """One word of one query."""

    query: int
    kind: str
    lies: bool
    absent: bool  # no image found shows it
    signals: dict[str, float]


def main() -> None:
    arguments = parser().parse_args()
    torch.set_num_threads(arguments.threads)
    facts = json.loads((arguments.data / "facts.json").read_text())
    records = json.loads((arguments.data / "reid_raw.json").read_text())
    encoder = with_every_head(arguments.run, tuple(arguments.override))
    asked = {}
    for split in ("val", "test"):
        visible = {fact["file_path"]: fact["visible"] for fact in facts if fact["split"] == split}
        captions = [text for record in records if record["split"] == split for text in record["captions"]]
        chosen = random.Random(0).sample(captions, min(arguments.queries, len(captions)))
        with tempfile.TemporaryDirectory() as scratch:
            root = linked(arguments.data / "imgs", list(visible), Path(scratch) / "gallery")
            engine = Engine(root, update_index(root, encoder)[0], encoder)
            asked[split] = words_asked(engine, chosen, visible)
    print(json.dumps({"run": str(arguments.run), "queries": arguments.queries} | measured(**asked), indent=1))
    if arguments.keep:
        arguments.keep.write_text(json.dumps({split: [each._asdict() for each in asked[split]] for split in asked}))


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description="Signals that a word of a query is shown by no image found.")
    found.add_argument("run", type=Path, help="a run with MLM's and RTD's heads, or its weights")
    found.add_argument("data", type=Path, help="the built-in benchmark on which it was trained")
    found.add_argument("--queries", type=int, default=200, help="of each split")
    found.add_argument("--threads", type=int, default=1)
    found.add_argument("--keep", type=Path, help="write each word's signals there")
    found.add_argument("-o", "--override", action="append", default=[], help="e.g. data.tokenizer=vocab.txt")
    return found


def with_every_head(run: Path, overrides: tuple[str, ...]) -> Encoder:
    """The weights with MLM's and RTD's heads beside those that a search needs."""
    config = config_of_weights(run, overrides)
    encoder = load_encoder(config)
    objectives = Objectives(weights={"cl": 1.0, "itm": 1.0, "mlm": 1.0, "rtd": 1.0}, generator="momentum")
    whole = encoder.config.model_copy(update={"objectives": objectives})
    model = model_of(whole, initial_state(config.model), encoder.tokenizer, encoder.device, lambda line: None)
    return encoder._replace(model=model.eval())


def words_asked(engine: Engine, captions: Sequence[str], visible: dict[str, dict[str, str]]) -> list[Asked]:
    """One word of each kind of each caption, as it stands or made wrong."""
    told, draw, names = [], random.Random(0), engine.index.files
    others = draw.sample(range(len(names)), OTHERS)
    for query, caption in enumerate(captions):
        text = clean_caption(caption, engine.encoder.config.data.max_words)
        for kind in KINDS:
            places = [place for place in exchangeable(text, kind) if place.others]
            if not places:
                continue
            place, lies = draw.choice(places), draw.random() < 0.5
            word = draw.choice(place.others) if lies else text[place.start : place.stop]
            wrong = [other for other in place.others if other != word]
            wrong = draw.sample(wrong, min(WRONG, len(wrong)))
            if not wrong:
                continue
            found = engine.search(exchanged_at(text, place, word) if lies else text, FIRST)
            numbers = [match.number for match in found.matches]
            background = [number for number in others if number not in numbers]
            absent = not any(shows(visible[match.file], kind, word) for match in found.matches)
            signals = signals_of(engine, text, place, [word, *wrong], numbers, background)
            told.append(Asked(query, kind, lies, absent, signals))
    return told


@torch.inference_mode()
def signals_of(
    engine: Engine, text: str, place: Place, words: Sequence[str], found: Sequence[int], others: Sequence[int]
) -> dict[str, float]:
    """All signals of the first of `words` in its place of a text, which the rest would make wrong."""
    images, own = len(found), slice(None, len(found))
    with retrieval_mode(engine.encoder.model, engine.encoder.device):
        match_WK, replaced_WK = judged(engine, text, place, words, [*found, *others])
        chance_K = masked(engine, text, place, words, [*found, *others])
    exchange_K = match_WK[1:].mean(0) - match_WK[0]
    contrast_K = replaced_WK[0] - replaced_WK[1:].mean(0)
    best = match_WK[:, own].amax(1)
    return {
        "exchange": float(exchange_K[own].min()),
        "exchange, mean": float(exchange_K[own].mean()),
        "exchange, relative": relative(exchange_K, images),
        "best score": float(best[1:].mean() - best[0]),
        "replaced": float(replaced_WK[0, own].min()),
        "replaced, contrast": float(contrast_K[own].mean()),
        "replaced, relative": relative(contrast_K, images),
        "masked": float(-chance_K[own].mean()),
        "masked, relative": float(chance_K[images:].mean() - chance_K[own].mean()),
    }


def relative(values_K: Tensor, images: int) -> float:
    """The mean of the images found against that of the others behind them, in the others' standard deviations."""
    others = values_K[images:]
    return float((values_K[:images].mean() - others.mean()) / others.std())


def judged(
    engine: Engine, text: str, place: Place, words: Sequence[str], numbers: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Match scores and log-odds that the word was replaced [W, K], with each of the words in the place."""
    said = [said_at(text, place, word) for word in words]
    texts = [each.text for each in said]
    tokens = engine.encoder.tokenizer.encode(texts)
    states, packing = fused(engine, tokens.ids, tokens.mask, numbers)
    heads, size = engine.encoder.model.heads, len(numbers)
    score = engine.encoder.config.fidelity.ranking_score
    match_WK = match_scores(engine.encoder.model, states[packing.first()], score).view(len(texts), size)
    odds = packing.unpack(heads["rtd"](states)).diff(dim=-1).squeeze(-1).view(len(texts), size, -1)
    # Of a word in several pieces the piece that looks most replaced.
    cells = [cells_of(each, engine.encoder.tokenizer) for each in said]
    return match_WK, torch.stack([odds[row, :, start:stop].amax(1) for row, (start, stop) in enumerate(cells)])


def masked(engine: Engine, text: str, place: Place, words: Sequence[str], numbers: Sequence[int]) -> Tensor:
    """Log-probability [K] of the first word in its masked place among all the words."""
    tokenizer, asked = engine.encoder.tokenizer, said_at(text, place, words[0])
    pieces = [tokenizer.encode([word]).ids[0, 1:-1] for word in words]
    chances: dict[int, Tensor] = {}  # of the vocabulary [K, n, V] in a place of n masked pieces
    for count in {len(each) for each in pieces}:
        start, stop = cells_of(asked, tokenizer)
        ids = tokenizer.encode([asked.text]).ids[0]
        ids = torch.cat([ids[:start], torch.full((count,), tokenizer.mask_id), ids[stop:]])
        states, packing = fused(engine, ids[None], torch.ones(1, len(ids), dtype=torch.bool), numbers)
        cells = packing.unpack(states)[:, start : start + count]
        chances[count] = engine.encoder.model.encoders.words(cells).log_softmax(-1)
    by_word = [
        torch.stack([chances[len(each)][:, at, piece] for at, piece in enumerate(each.tolist())]).sum(0)
        for each in pieces
    ]
    return torch.stack(by_word).log_softmax(0)[0]


def said_at(text: str, place: Place, word: str) -> Said:
    """The query with that word there; what stands before it may change, too: its article."""
    asked = exchanged_at(text, place, word)
    stop = len(asked) - len(text[place.stop :])
    return Said(asked, stop - len(word), stop)


def cells_of(said: Said, tokenizer: Tokenizer) -> tuple[int, int]:
    """Cells of the word in what the model reads, where [CLS] is cell 0."""
    before, own = (
        len(tokenizer.encode([part]).ids[0]) - 2  # without [CLS] and [SEP]
        for part in (said.text[: said.start], said.text[said.start : said.stop])
    )
    return 1 + before, 1 + before + own


def fused(engine: Engine, ids_TL: Tensor, mask_TL: Tensor, numbers: Sequence[int]) -> tuple[Tensor, Packing]:
    """Joint states of each text with each image, packed, text by text."""
    encoder, size = engine.encoder, len(numbers)
    assert engine.index.tokens_NMD is not None
    pairs = Tokens(ids_TL.repeat_interleave(size, 0), mask_TL.repeat_interleave(size, 0))
    text = Text.of(pairs, encoder.device)
    image = encoder.model.encoders.project_image(engine.index.tokens_NMD[list(numbers)].to(encoder.device))
    image = image.take(torch.arange(size).repeat(len(ids_TL)))
    return encoder.model.encoders.fuse(encoder.model.encoders.encode_text(text), text.packing, image), text.packing


# ---- The truth ----


def shows(visible: dict[str, str], kind: str, word: str) -> bool:
    """Whether a person visibly has what the word says; of a colour: anywhere but in the hair."""
    values = {value for words in SORTS[kind] for value, names in words.items() if word in map(_cleaned, names)}
    if kind == "colour":
        return any(visible[slot] in values for slot in visible if slot.endswith("_colour") and slot != "hair_colour")
    return any(visible.get(slot) in values for slot in SLOTS[kind])


def _cleaned(name: str) -> str:
    return clean_caption(name, 10)


# ---- Figures ----


def measured(val: Sequence[Asked], test: Sequence[Asked]) -> dict[str, Any]:
    """Numbers of cases, and of each signal its AUC with an interval and what val's threshold gives on test."""
    figures: dict[str, Any] = {
        split: {"words": len(asked), "absent": sum(each.absent for each in asked)}
        for split, asked in (("val", val), ("test", test))
    }
    for name in test[0].signals:
        values, absent = columns(test, name)
        threshold = best_threshold(*columns(val, name))
        told = marks_at(values, absent, threshold)
        kinds, query = np.array([each.kind for each in test]), np.array([each.query for each in test])
        areas = {"auc": auc_interval(values, absent, np.full(len(test), ""), query)}
        areas["within"] = auc_interval(values, absent, kinds, query)
        figures[name] = {key: [round(value, 3) for value in each] for key, each in areas.items()}
        figures[name] |= {"auc_val": round(auc(*columns(val, name)), 3), "threshold": round(threshold, 3)} | told
    return figures


def columns(asked: Sequence[Asked], name: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A signal of each word, and whether no image shows it."""
    return np.array([each.signals[name] for each in asked]), np.array([each.absent for each in asked])


def auc(values: NDArray[np.float64], absent: NDArray[np.bool_], kinds: NDArray[np.str_] | None = None) -> float:
    """The probability that an absent word has a higher value than another, of its kind if `kinds` are given; ties half.

    NaN without a pair.
    """
    right = pairs = 0.0
    for of_kind in [np.ones(len(values), bool)] if kinds is None else [kinds == kind for kind in np.unique(kinds)]:
        positives, negatives = int((absent & of_kind).sum()), int((~absent & of_kind).sum())
        ranks = rankdata(values[of_kind])[absent[of_kind]]
        right, pairs = right + ranks.sum() - positives * (positives + 1) / 2, pairs + positives * negatives
    return float(right / pairs) if pairs else float("nan")


def auc_interval(
    values: NDArray[np.float64], absent: NDArray[np.bool_], kinds: NDArray[np.str_], query: NDArray[np.int64]
) -> tuple[float, float, float]:
    """AUC within kinds and its 95 % interval by resampling queries, each with all its words."""
    rows = [np.flatnonzero(query == each) for each in np.unique(query)]
    draw, areas = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        chosen = np.concatenate([rows[place] for place in draw.integers(len(rows), size=len(rows))])
        areas.append(auc(values[chosen], absent[chosen], kinds[chosen]))
    low, high = np.nanquantile(areas, (0.025, 0.975))
    return auc(values, absent, kinds), float(low), float(high)


def best_threshold(values: NDArray[np.float64], absent: NDArray[np.bool_]) -> float:
    """The value from which on a word is marked for the best F1; of equal ones the highest."""
    found = sorted(set(values.tolist()), reverse=True)
    scores = [2 * (absent & (values >= value)).sum() / (absent.sum() + (values >= value).sum()) for value in found]
    return float(found[int(np.argmax(scores))])


def marks_at(values: NDArray[np.float64], absent: NDArray[np.bool_], threshold: float) -> dict[str, Any]:
    """How many words are marked, rightly, and their precision, recall and false alarms in percent."""
    marked = values >= threshold
    right = int((marked & absent).sum())
    return {
        "marked": int(marked.sum()),
        "right": right,
        "precision": round(100 * right / max(1, int(marked.sum())), 1),
        "recall": round(100 * right / max(1, int(absent.sum())), 1),
        "false_alarms": round(100 * (int(marked.sum()) - right) / max(1, int((~absent).sum())), 1),
    }


if __name__ == "__main__":
    main()
