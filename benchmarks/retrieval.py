"""Re-ranking, query by query as the released code does against image by image: seconds per query, FLOPs, agreement.

Every query has all `candidates` images of the gallery as its candidates, so an image has as many texts as there are
queries. On CUHK-PEDES it has 256 (6,156 texts x 128 of 3,074 images), and the fast path gains with that number.
"""

import statistics
from functools import partial
from typing import Any

import torch

from benchmarks.plain import plain_rerank
from benchmarks.scene import SIZES, captions, config_of, scene
from benchmarks.train import measured_peak, seconds_of
from rasa.cost import peak_mib, reset_peak
from rasa.data.tokenizer import Tokens
from rasa.evaluation.rerank import PackedTexts, rerank
from rasa.model.packing import Text
from rasa.model.rasa import RaSa
from rasa.numerics import autocast, device_name, float32_products
from rasa.training.flops import counter

TEXTS, CANDIDATES = 6156, 128  # the test split of CUHK-PEDES
BATCH, TURNS = 64, 3


@torch.inference_mode()
def fast(
    model: RaSa,
    tokens: torch.Tensor,
    ids: torch.Tensor,
    mask: torch.Tensor,
    candidates: torch.Tensor,
    precision: str,
    tokens_per_call: int,
) -> torch.Tensor:
    """Scores [T, C] as `rasa.evaluation.rank` computes them, the texts' encoding included."""
    assert model.encoders.fusion is not None
    parts = []
    for i, m in zip(ids.split(BATCH), mask.split(BATCH), strict=True):
        text = Text.of(Tokens(i, m), tokens.device)
        with autocast(precision, tokens.device):
            states = model.encoders.encode_text(text)
            parts.append((model.encoders.fusion.attend(states, text.packing), text.packing))
    return rerank(model, tokens.split(BATCH), PackedTexts(parts), candidates, "logit", tokens_per_call, precision)


def compare(
    size: str,
    device: torch.device,
    precision: str | None,
    queries: int,
    plain_queries: int,
    candidates: int,
    tokens_per_call: int,
    overrides: list[str],
) -> dict[str, Any]:
    """All figures as plain JSON types.

    The plain side runs `plain_queries` of the queries, since its cost is per query.
    """
    config = config_of(size, "table4/m-rtd", overrides)
    _, vocabulary, shortest, longest, _ = SIZES[size]
    model = scene(config, vocabulary, device).model.eval()
    text = captions(0, queries, vocabulary, shortest, longest)
    patches = config.data.image_size[0] * config.data.image_size[1] // config.model.patch_size**2 + 1
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randn(candidates, patches, config.model.vision_width, generator=draw).to(device)
    order = torch.stack([torch.randperm(candidates, generator=draw) for _ in range(queries)]).to(device)
    few = slice(0, plain_queries)
    run_plain = partial(plain_rerank, model, tokens, text.ids[few], text.mask[few], order[few])
    run_fast = partial(fast, model, tokens, text.ids, text.mask, order, tokens_per_call=tokens_per_call)

    with float32_products("float32"), torch.inference_mode():
        with counter() as plain_flops:
            expected = run_plain()
        with counter() as fast_flops:
            scores = run_fast(precision="float32")
        difference = (scores[few] - expected).abs().max().item()
        same_order = bool((scores[few].argsort(1) == expected.argsort(1)).all())
        chosen = precision or "float32"
        sides = {"plain": run_plain, "fast": partial(run_fast, precision=chosen)}
        peaks: dict[str, float] = {}
        times: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(TURNS):
            for name, run in sides.items():
                reset_peak(device)
                before = peak_mib(device)
                times[name].append(seconds_of(run, device))
                peaks[name] = peak_mib(device) - before
        seconds_plain = statistics.median(times["plain"]) / plain_queries
        seconds_fast = statistics.median(times["fast"]) / queries
        moved = (run_fast(precision=chosen) - scores).abs().max().item() if chosen != "float32" else 0.0
    pairs = candidates / seconds_plain, candidates / seconds_fast
    return {
        "benchmark": "retrieval",
        "size": size,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "queries": queries,
        "candidates": candidates,
        "texts_per_image": queries,
        "tokens_mean": text.mask.sum(1).double().mean().item(),
        "tokens_padded": longest,
        "precision": chosen,
        "plain_seconds_per_query": seconds_plain,
        "fast_seconds_per_query": seconds_fast,
        "plain_pairs_per_s": pairs[0],
        "fast_pairs_per_s": pairs[1],
        "ratio": seconds_plain / seconds_fast,
        "plain_gflop_per_pair": plain_flops.get_total_flops() / plain_queries / candidates / 1e9,
        "fast_gflop_per_pair": fast_flops.get_total_flops() / queries / candidates / 1e9,
        "max_abs_difference": difference,
        "same_order": same_order,
        "precision_moves_scores_by": moved,
        "score_spread": scores.std().item(),
        "plain_peak_mib": peaks["plain"],
        "fast_peak_mib": peaks["fast"],
        "peak_matrix_gflops": measured_peak(device, chosen) / 1e9,
        "cuhk_pedes_rerank_seconds": TEXTS * CANDIDATES / pairs[1],
    }
