"""What the search page says of a query's words, measured: which relevance is better.

Relevance: words are deleted from a query, the most relevant first, and the match probability of the image that was
found first is followed (the deletion metric of RISE, Petsiuk et al. 2018). A relevance is good if the probability falls
faster than under deletions at random: the area under the curve is smaller. Compared are occlusion (what the score loses
without a word) and the cross-modal encoder's attention from [CLS] to a word, of the last layer and the mean of all.

    .venv/bin/python -m benchmarks.search_words RUN DATA --queries 200
"""

import argparse
import json
import random
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.search_speed import engine_of, linked
from rasa.data.transforms import decode
from rasa.evaluation.rank import encode_images, retrieval_mode
from rasa.model.packing import Text
from rasa.search.engine import Engine, Found

ORDERS = 5  # random orders of each query


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
        found = relevances(engine, chosen)
    print(json.dumps({"run": arguments.run.name, "queries": len(chosen), "relevance": found}, indent=1))


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description="Word relevance of the search page, measured.")
    found.add_argument(
        "run", type=Path, help="a run's folder, or weights, with an ITM head and the vocabulary of the benchmark"
    )
    found.add_argument("data", type=Path, help="the built-in benchmark on which it was tested")
    found.add_argument("--queries", type=int, default=200)
    found.add_argument("--threads", type=int, default=1)
    return found


def relevances(engine: Engine, captions: Sequence[str]) -> dict[str, Any]:
    """Area under the deletion curve by way of ordering, and by how much each beats random orders, with its error."""
    areas: dict[str, list[float]] = {"random": [], "occlusion": [], "attention_last": [], "attention_mean": []}
    for number, caption in enumerate(captions):
        found = engine.search(caption, 1)
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


if __name__ == "__main__":
    main()
