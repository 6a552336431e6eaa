"""What the search page says of a query's words, measured: which relevance is better, and how far a mark can be trusted.

Relevance: words are deleted from a query, the most relevant first, and the match probability of the image that was
found first is followed (the deletion metric of RISE, Petsiuk et al. 2018). A relevance is good if the probability falls
faster than under deletions at random: the area under the curve is smaller. Compared are occlusion (what the score loses
without a word) and the cross-modal encoder's attention from [CLS] to a word, of the last layer and the mean of all.

Marks: of queries with and without a word made wrong, a colour, garment or accessory that none of the ten images shows
should be marked, and no other. The truth is the benchmark's facts.json.

    .venv/bin/python -m benchmarks.search_words RUN DATA --queries 200
"""

import argparse
import json
import random
import statistics
import tempfile
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.search_speed import engine_of, linked
from rasa.data.tokenizer import clean_caption
from rasa.data.transforms import decode
from rasa.evaluation.rank import encode_images, retrieval_mode
from rasa.evaluation.word_probe import KINDS, SORTS, exchangeable, exchanged_at
from rasa.model.packing import Text
from rasa.search.engine import Engine, Found
from rasa.search.words import unsupported

ORDERS = 5  # random orders of each query
SLOTS = {"garment": ("top", "outer", "lower", "shoes"), "accessory": ("bag", "hat", "glasses", "carried")}


def main() -> None:
    arguments = parser().parse_args()
    torch.set_num_threads(arguments.threads)
    facts = [fact for fact in json.loads((arguments.data / "facts.json").read_text()) if fact["split"] == "test"]
    records = json.loads((arguments.data / "reid_raw.json").read_text())
    captions = [text for record in records if record["split"] == "test" for text in record["captions"]]
    chosen = random.Random(0).sample(captions, min(arguments.queries, len(captions)))
    with tempfile.TemporaryDirectory() as scratch:
        root = linked(arguments.data / "imgs", [fact["file_path"] for fact in facts], Path(scratch) / "gallery")
        engine = engine_of(arguments.run, root)
        visible = {fact["file_path"]: fact["visible"] for fact in facts}
        found = {"relevance": relevances(engine, chosen)} if engine.encoder.reranks else {}
        found |= {"marks": marks(engine, chosen, visible)}
    print(json.dumps({"run": arguments.run.name, "queries": len(chosen)} | found, indent=1))


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description="Word relevance and marks of the search page, measured.")
    found.add_argument("run", type=Path, help="a run's folder, or weights, with the vocabulary of the benchmark")
    found.add_argument("data", type=Path, help="the built-in benchmark on which it was tested")
    found.add_argument("--queries", type=int, default=200)
    found.add_argument("--threads", type=int, default=1)
    return found


def relevances(engine: Engine, captions: Sequence[str]) -> dict[str, Any]:
    """Area under the deletion curve by way of ordering, and by how much each beats random orders, with its error."""
    areas: dict[str, list[float]] = {"random": [], "occlusion": [], "attention_last": [], "attention_mean": []}
    for number, caption in enumerate(captions):
        found = engine.search(caption, 1, probe=False)
        words, draw = len(found.read.words), random.Random(number)
        by_layer = attention(engine, found)
        ways = {
            "occlusion": engine.relevance(found, 0),
            "attention_last": by_layer[-1].tolist(),
            "attention_mean": by_layer.mean(0).tolist(),
        }
        for name, values in ways.items():
            areas[name].append(area(engine, found, sorted(range(words), key=lambda word: -values[word])))
        shuffled = [draw.sample(range(words), words) for _ in range(ORDERS)]
        areas["random"].append(statistics.fmean(area(engine, found, order) for order in shuffled))
    gains = {
        name: [by - own for by, own in zip(areas["random"], areas[name], strict=True)]
        for name in areas
        if name != "random"
    }
    return {
        "area": {name: round(statistics.fmean(each), 4) for name, each in areas.items()},
        "beats_random_by": {name: round(statistics.fmean(each), 4) for name, each in gains.items()},
        "standard_error": {
            name: round(statistics.stdev(each) / len(each) ** 0.5, 4) for name, each in gains.items() if len(each) > 1
        },
    }


@torch.inference_mode()
def area(engine: Engine, found: Found, order: Sequence[int]) -> float:
    """Mean match probability while words are deleted in `order`, from none to all, by the trapezoidal rule."""
    words, texts = found.read.words, [found.read.text]
    for gone in range(1, len(order) + 1):
        texts.append(" ".join(words[word] for word in sorted(order[gone:])))
    with retrieval_mode(engine.encoder.model, engine.encoder.device):
        odds = engine.final_scores(texts, [found.matches[0].number])[:, 0]
    return float(torch.trapezoid(odds.sigmoid().cpu(), dx=1 / len(order)))


@torch.inference_mode()
def attention(engine: Engine, found: Found) -> Tensor:
    """Attention [layers, words] from [CLS] to each word in the cross-modal encoder, heads averaged, pieces summed."""
    encoder, model = engine.encoder, engine.encoder.model
    fusion = model.encoders.fusion
    assert fusion is not None
    seen: list[Tensor] = []
    pieces = [len(encoder.tokenizer.encode([word]).ids[0]) - 2 for word in found.read.words]
    file = engine.root / found.matches[0].file
    image = decode(file, encoder.config.data.image_size)[None]
    with retrieval_mode(model, encoder.device):
        text = Text.of(encoder.tokenizer.encode([found.read.text]), encoder.device)
        states = model.encoders.encode_text(text)
        keys_values = fusion.project_image(encode_images(model, image, "float32", encoder.device))
        for layer, keys, values in zip(fusion.layers, keys_values.keys, keys_values.values, strict=True):
            own = layer.attention
            first, key = (
                own.split(text.packing.unpack(own.query(states))[:, :1]),
                own.split(text.packing.unpack(own.key(states))),
            )
            seen.append((first @ key.mT / first.shape[-1] ** 0.5).softmax(-1).mean(1)[0, 0, 1:-1])
            states = layer.fuse(states, text.packing, keys, values)
    return torch.stack([torch.stack([part.sum() for part in row.split(pieces)]) for row in seen])


def marks(engine: Engine, captions: Sequence[str], visible: dict[str, dict[str, str]]) -> dict[str, Any]:
    """By kind of word: words looked at, those that no image shows, marks that are right, words that are found."""
    told: dict[str, list[tuple[bool, bool]]] = {kind: [] for kind in KINDS}
    draw = random.Random(0)
    for caption in captions:
        text = clean_caption(caption, 50)
        for kind in KINDS:
            places = [place for place in exchangeable(text, kind) if place.others]
            if not places:
                continue
            place, lies = draw.choice(places), draw.random() < 0.5
            word = draw.choice(place.others) if lies else text[place.start : place.stop]
            asked = exchanged_at(text, place, word) if lies else text
            found = engine.search(asked, probe=False)
            shown = any(shows(visible[match.file], kind, word) for match in found.matches)
            lying = [exchanged_at(text, place, other) for other in place.others if other != word][:6]
            with retrieval_mode(engine.encoder.model, engine.encoder.device):
                scores = engine.final_scores([asked, *lying], [match.number for match in found.matches])
            told[kind].append((not shown, unsupported(scores[0], scores[1:])))
    return {kind: _rates(pairs) for kind, pairs in (told | {"all": list(chain(*told.values()))}).items()}


def shows(visible: dict[str, str], kind: str, word: str) -> bool:
    """Whether a person visibly has what the word says; of a colour: anywhere but in the hair."""
    values = {value for words in SORTS[kind] for value, names in words.items() if word in map(_cleaned, names)}
    if kind == "colour":
        return any(visible[slot] in values for slot in visible if slot.endswith("_colour") and slot != "hair_colour")
    return any(visible.get(slot) in values for slot in SLOTS[kind])


def _cleaned(name: str) -> str:
    return clean_caption(name, 10)


def _rates(pairs: Sequence[tuple[bool, bool]]) -> dict[str, float]:
    absent, marked = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    right = sum(absent and marked for absent, marked in pairs)
    return {
        "words": len(pairs),
        "shown_by_no_image": absent,
        "marked": marked,
        "rightly_marked": right,
        "false_alarms_percent": round(100 * (marked - right) / max(1, len(pairs) - absent), 1),
    }


if __name__ == "__main__":
    main()
