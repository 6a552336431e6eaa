"""Every field of a config does something: two values of it give another first step, ranking, result or other bytes.

The table has a line for each field of rasa/config/run.py, rasa/config/fidelity.py and BenchmarkParams; a field without
one fails, and so does a category that no line names. What changes no number says why. What is observed:

- step: losses, gradient norm, rates and alpha of the first steps (the logged total is left out: the log adds it up
  itself)
- ranking: scores, best images and ranks of the untrained model on the test split
- result: what a whole run of one step returns, less its cost
- bytes: the built-in benchmark's files
- same: the order of the images, which must not change
"""

import hashlib
import json
import typing
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import Any, NamedTuple

import pytest
import torch
from pydantic import BaseModel
from safetensors.torch import save_file

from rasa.config.benchmark import BenchmarkParams
from rasa.config.fidelity import Fidelity
from rasa.config.run import Config, Data, Objectives, Target
from rasa.data.synthetic.write import write_benchmark
from rasa.training.train import train
from rasa.weights.released import to_released
from tests.helpers.people import tiny_config, write_people
from tests.helpers.recipe import training


class Line(NamedTuple):
    """Values of a field, each of which must be observed to differ from the others, under some other fields' values."""

    how: str
    values: tuple[Any, ...]
    given: Mapping[str, Any] = MappingProxyType({})
    steps: int = 2
    but: str = ""  # why not all categories


RELEASED = {"fidelity": {"preset": "released"}, "objectives.alpha_warmup_epochs": 0}
WEAK = {"objectives.p_weak": 0.9}
SMALL = {
    "train_identities": 2,
    "val_identities": 1,
    "test_identities": 1,
    "images_per_identity": 2,
    "captions_per_image": 1,
    "image_height": 32,
    "image_width": 16,
}
TARGET = {"data.target": {"root": "@other"}}

# A value that starts with @ is a path in the folder of `world`.
FIELDS: dict[str, Line | str] = {
    "seed": Line("step", (0, 1, 2)),
    # data
    "data.format": Line("step", ("cuhk-pedes", "rstpreid"), but="tests/test_datasets.py reads each of the others"),
    "data.root": Line("step", ("@people", "@other")),
    "data.annotations": Line("step", (None, "fewer.json")),
    "data.image_folder": Line("step", ("imgs", "dark")),
    "data.synthetic": "built by the runner, and given as data.root; its own fields are below",
    "data.image_size": Line("step", ((32, 16), (16, 16), (32, 32))),
    "data.flip_probability": Line("step", (0.0, 0.4, 1.0)),
    "data.max_words": Line("step", (50, 6)),
    "data.max_tokens": Line("step", (24, 8)),
    "data.tokenizer": Line("step", ("captions", "@vocab.txt")),
    "data.vocabulary_size": Line("step", (2000, 32)),
    "data.val_identities": Line("step", (2, 4), {"data.format": "icfg-pedes"}),
    "data.workers": (
        "who decodes; tests/test_train.py::test_the_same_seed_repeats_to_the_bit_and_workers_change_nothing"
    ),
    "data.image_cache_gib": "where decoded images lie; tests/test_loader.py::test_cache_and_prefetch_change_nothing",
    "data.target.format": Line("ranking", ("cuhk-pedes", "rstpreid"), TARGET, but="as data.format"),
    "data.target.root": Line("ranking", ("@people", "@other"), {"data.target": {}}),
    "data.target.annotations": Line("ranking", (None, "fewer.json"), TARGET),
    "data.target.image_folder": Line("ranking", ("imgs", "dark"), TARGET),
    "data.target.synthetic": "built by the runner, and given as data.target.root; tests/test_datasets.py",
    # model
    "model.backbone": Line("step", ("albef", "clip"), but="tcl is albef's structure, trained otherwise (A.4)"),
    "model.patch_size": Line("step", (8, 4)),
    "model.vision_width": Line("step", (16, 32)),
    "model.vision_depth": Line("step", (1, 2)),
    "model.vision_heads": Line("step", (2, 4)),
    "model.text_width": Line("step", (16, 24)),
    "model.text_layers": Line("step", (1, 2)),
    "model.fusion_layers": Line("step", (1, 2)),
    "model.text_heads": Line("step", (2, 4)),
    "model.text_mlp_width": Line("step", (32, 48)),
    "model.max_positions": "a longer table has more rows, which no shorter caption reads; too short a one is refused: "
    "tests/test_train.py::test_a_caption_longer_than_the_position_table_is_refused_before_training",
    "model.dropout": Line("step", (0.0, 0.1, 0.3)),
    "model.embed_dim": Line("step", (8, 12)),
    "model.queue_size": Line("step", (20, 12)),
    "model.momentum": Line("step", (0.995, 0.5)),
    "model.temperature": Line("step", (0.07, 0.1)),
    "model.temperature_range": Line("step", (None, (0.08, 0.5), (0.01, 0.06))),
    "model.weights": Line("step", (None, "@start.safetensors")),
    # objectives
    "objectives.weights.cl": Line("step", (0.5, 1.0)),
    "objectives.weights.itc": Line(
        "step", (0.5, 1.0), {"objectives.weights": {"itm": 1.0}, "objectives.generator": None}
    ),
    "objectives.weights.itm": Line("step", (0.5, 1.0)),
    "objectives.weights.prd": Line("step", (0.5, 1.0), WEAK),
    "objectives.weights.mlm": Line("step", (0.5, 1.0)),
    "objectives.weights.rtd": Line("step", (0.5, 1.0)),
    "objectives.positives": Line(
        "step",
        ("annotated", "uniform", "probabilistic"),
        WEAK | {"objectives.weights": {"cl": 0.5, "itm": 1.0}, "objectives.generator": None},
    ),
    "objectives.p_weak": Line("step", (0.05, 0.5, 0.9)),
    "objectives.p_mask": Line("step", (0.1, 0.3, 0.6)),
    "objectives.generator": Line("step", ("fixed", "online", "momentum"), but="none: without RTD"),
    "objectives.masked_lm": Line("step", ("captions", "@distilbert"), {"objectives.generator": "fixed"}),
    "objectives.alpha": Line("step", (0.1, 0.4), RELEASED),
    "objectives.alpha_warmup_epochs": Line("step", (0, 1), RELEASED),
    # optimisation
    "optimisation.epochs": Line("step", (2, 4)),
    "optimisation.batch_size": Line("step", (8, 6)),
    "optimisation.max_steps_per_epoch": Line("step", (None, 3, 1)),
    "optimisation.learning_rate": Line("step", (1e-3, 2e-3)),
    "optimisation.head_learning_rate": Line("step", (1e-3, 2e-3)),
    "optimisation.min_learning_rate": Line("step", (1e-6, 5e-4)),
    "optimisation.warmup_learning_rate": Line("step", (1e-5, 1e-4), {"optimisation.warmup_steps": 2}),
    "optimisation.warmup_steps": Line("step", (0, 2, 4)),
    "optimisation.schedule": Line(
        "step", ("cosine-epoch", "cosine-step", "constant"), {"optimisation.max_steps_per_epoch": 2}, 3
    ),
    "optimisation.weight_decay": Line("step", (0.02, 5.0)),
    "optimisation.clip_norm": Line("step", (None, 0.01, 1e-9)),
    "optimisation.checkpoint_steps": "when a checkpoint is written; tests/test_train.py stops and resumes",
    "optimisation.accumulation": Line("step", (1, 2)),
    "optimisation.precision": Line("step", ("float32", "bf16"), but="auto is one of them, tf32 a GPU's"),
    "optimisation.compile": "takes a compiler; tests/test_numerics.py::test_compiled_layers_keep_names_and_numbers",
    "optimisation.device": "where it runs; tests/test_numerics.py, tests/test_fake_cuda.py",
    "optimisation.threads": "how many sum up, so that the last digit may differ and nothing else",
    # evaluation
    "evaluation.topk": Line("ranking", (6, 2)),
    "evaluation.batch_size": Line("same", (64, 5)),
    "evaluation.tokens_per_call": Line("same", (8192, 40)),
    "evaluation.gallery_mib": "what is kept or encoded again; tests/test_retrieval.py::test_streaming_is_keeping",
    "evaluation.selection_gap": Line("result", (False, True)),
    "evaluation.detectors": Line("result", (False, True)),
    "evaluation.sensitivity": Line("result", (0, 2, 5)),
    "evaluation.precision": Line("ranking", ("float32", "bf16")),
    # fidelity
    "fidelity.preset": Line("step", ("released", "paper")),
    "fidelity.mlm_mask_rate": Line("step", (None, 0.15, 0.5), RELEASED),
    "fidelity.shared_masking": Line("step", (False, True)),
    "fidelity.mask_corruption": Line("step", ("bert", "mask")),
    "fidelity.mask_separator": Line("step", (False, True)),
    "fidelity.mlm_soft_targets": Line("step", (False, True), RELEASED),
    "fidelity.mlm_soft_axis": Line("step", ("sequence", "vocabulary"), RELEASED),
    "fidelity.rtd_replace": Line("step", ("all", "masked")),
    "fidelity.rtd_choice": Line("step", ("sample", "argmax")),
    "fidelity.rtd_ignore": Line("step", ("sampled-special", "padding"), RELEASED),
    "fidelity.contrastive_soft_targets": Line("step", (False, True), RELEASED),
    "fidelity.contrastive_positives": Line("step", ("identity", "own")),
    "fidelity.contrastive_keys": Line("step", ("batch-and-queue", "queue")),
    "fidelity.contrastive_text": Line("step", ("matching", "annotated"), WEAK),
    "fidelity.weak_pool": Line("step", ("identity", "other-images"), WEAK),
    "fidelity.weak_label": Line("step", ("caption", "image"), WEAK | {"fidelity.weak_pool": "identity"}),
    "fidelity.itm_negatives": Line("step", ("hard", "random")),
    # A momentum model that starts equal to the online one is so before its first update and after none.
    "fidelity.ema_timing": Line("step", ("before", "after"), {"model.weights": "@start.safetensors"}),
    "fidelity.momentum_view": Line("step", ("second", "same")),
    "fidelity.momentum_dropout": Line("step", (False, True)),
    "fidelity.generator_dropout": Line("step", (False, True)),
    "fidelity.decay_temperature_and_positions": Line("step", (False, True), {"optimisation.weight_decay": 5.0}),
    "fidelity.queue_from_weights": Line("step", (False, True), {"model.weights": "@start.safetensors"}),
    "fidelity.head_rate_from": Line("step", ("iteration-101", "start")),
    "fidelity.truncate_training_tokens": Line("step", (False, True), {"data.max_tokens": 8}),
    "fidelity.ranks": Line("step", (1, 2, 4)),
    "fidelity.ranking_score": Line("ranking", ("logit", "probability")),
    "fidelity.beyond_topk": Line("ranking", ("tied", "stage1"), {"evaluation.topk": 2}),
    # the built-in benchmark
    "data.synthetic.seed": Line("bytes", (0, 1)),
    "data.synthetic.train_identities": Line("bytes", (2, 3)),
    "data.synthetic.val_identities": Line("bytes", (1, 2)),
    "data.synthetic.test_identities": Line("bytes", (1, 2)),
    "data.synthetic.images_per_identity": Line("bytes", (1, 2)),
    "data.synthetic.captions_per_image": Line("bytes", (1, 2)),
    "data.synthetic.image_height": Line("bytes", (32, 48)),
    "data.synthetic.image_width": Line("bytes", (16, 24)),
    "data.synthetic.twin_share": Line("bytes", (0.0, 1.0)),
    "data.synthetic.noise": Line("bytes", (0.0, 1.0, 3.0)),
    "data.synthetic.mistakes": Line("bytes", (0.0, 0.5)),
    "data.synthetic.domain": Line("bytes", ("day", "evening", "web")),
    "data.synthetic.captions": Line("bytes", ("detailed", "coarse")),
}
NESTED: dict[str, type[BaseModel]] = {"data.target": Target, "data.synthetic": BenchmarkParams}


def fields_of(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Dotted names of all fields, those of sections and of the losses' weights too, and their types."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        dotted = prefix + name
        if dotted == "objectives.weights":
            losses = typing.get_args(typing.get_args(field.annotation)[0])
            found |= {f"{dotted}.{loss}": float for loss in losses}
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= fields_of(field.annotation, f"{dotted}.")
        else:
            if dotted != "data.target":
                found[dotted] = field.annotation
            found |= fields_of(NESTED[dotted], f"{dotted}.") if dotted in NESTED else {}
    return found


def categories(annotation: Any) -> set[Any]:
    """The values of a bool or of a Literal, none of other types."""
    if annotation is bool:
        return {False, True}
    if typing.get_origin(annotation) is typing.Literal:
        return set(typing.get_args(annotation))
    if typing.get_origin(annotation) in (UnionType, typing.Union):
        return {value for part in typing.get_args(annotation) for value in categories(part)}
    return set()


def test_every_field_has_a_line_and_every_line_a_field():
    """If this fails for a field of yours: add a line to FIELDS with two values that change something,
    or say why not."""
    assert {"data.target.format", "data.synthetic.noise", "objectives.weights.itc"} <= fields_of(Config).keys()
    assert fields_of(Config).keys() ^ FIELDS.keys() == set()
    assert {Data, Objectives, Fidelity} <= {f.annotation for f in Config.model_fields.values()}


def test_every_category_is_tried_or_it_is_said_why_not():
    for name, annotation in fields_of(Config).items():
        line = FIELDS[name]
        if isinstance(line, Line) and not line.but and categories(annotation):
            assert categories(annotation) == set(line.values), name


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Folders with people in two layouts each, a vocabulary, weights with queues, and a DistilBERT."""
    folder = tmp_path_factory.mktemp("world")
    for name, seed in (("people", 0), ("other", 1)):
        root = write_people(folder / name, train=8, val=2, images=2, seed=seed)
        write_people(folder / "spare", train=8, val=2, images=2, seed=seed + 5)
        (folder / "spare" / "imgs").rename(root / "dark")
        records = json.loads((root / "reid_raw.json").read_text())
        fewer = [r for r in records if (r["id"] % 4 if r["split"] == "train" else r["id"] % 2)]
        (root / "fewer.json").write_text(json.dumps(fewer))
        (root / "data_captions.json").write_text(json.dumps([r | {"img_path": r["file_path"]} for r in fewer]))
        without_val = [r | {"split": "train" if r["split"] == "val" else r["split"]} for r in records]
        (root / "ICFG-PEDES.json").write_text(json.dumps(without_val))
    run, _ = training(tiny_config(folder / "people") | {"seed": 3}, folder / "start")
    words = (folder / "start" / "vocab.txt").read_text().splitlines()
    (folder / "vocab.txt").write_text("\n".join([*words[:5], *reversed(words[5:])]) + "\n")
    run.teachers.queue.identities.fill_(1)
    for parameter in run.teachers.momentum.parameters():
        parameter.mul_(1.1)
    state = to_released(run.model, run.teachers.momentum, run.teachers.queue, redundant=False)
    save_file({name: tensor.detach().contiguous() for name, tensor in state.items()}, folder / "start.safetensors")
    from transformers import DistilBertConfig, DistilBertForMaskedLM

    torch.manual_seed(0)
    sizes = {"dim": 8, "n_heads": 2, "n_layers": 1, "hidden_dim": 8, "max_position_embeddings": 32}
    DistilBertForMaskedLM(DistilBertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder / "distilbert")
    return folder


@pytest.fixture(scope="module")
def seen():
    """What has been observed, so that a config that many lines share is run once."""
    return {}


def put(config, name, value):
    """The config with one more field, by its dotted name; a mapping replaces what is there."""
    *path, last = name.split(".")
    section = config
    for part in path:
        section = section.setdefault(part, {})
    section[last] = dict(value) if isinstance(value, dict) else value


def placed(value, world):
    """With paths in place of what starts with @, at any depth."""
    if isinstance(value, dict):
        return {name: placed(inner, world) for name, inner in value.items()}
    return str(world / value[1:]) if isinstance(value, str) and value.startswith("@") else value


def observed(name, line, value, world, tmp_path, seen):
    """What the field's value leads to, as a string."""
    if line.how == "bytes":
        write_benchmark(tmp_path / "built", BenchmarkParams.model_validate(SMALL | {name.rsplit(".")[-1]: value}))
        files = sorted(path for path in (tmp_path / "built").rglob("*") if path.is_file())
        skipped = "synthetic.json"  # the parameters themselves
        return "".join(hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.name != skipped)
    config = tiny_config(world / "people")
    for field, given in {**line.given, name: value}.items():
        put(config, field, placed(given, world))
    key = json.dumps([line.how, line.steps, config], sort_keys=True, default=str)
    if key not in seen:
        seen[key] = {"step": steps, "ranking": ranking, "same": order, "result": result}[line.how](
            config, line.steps, tmp_path, world
        )
    return seen[key]


def steps(config, number, directory, world):
    run, log = training(config, directory, world / "cache")
    for epoch in range(number):
        for i, batch in enumerate(run.inputs.loader.epoch(epoch)):
            run.progress.epoch, run.progress.step_in_epoch = epoch, i
            run._train_step(batch)
            if len(log) == number:
                return repr([{name: v for name, v in row.items() if name != "loss"} for row in log.of("train")])
    raise AssertionError(f"fewer than {number} steps")


def ranking(config, number, directory, world):
    found = training(config, directory, world / "cache")[0]._ranking("test")
    return repr([found.scores_TK.tolist(), found.best_TJ.tolist(), found.final.first_rank_T.tolist(), found.figures()])


def order(config, number, directory, world):
    """The ranking without its scores, whose last digit may depend on how many are computed at once."""
    found = training(config, directory, world / "cache")[0]._ranking("test")
    return repr([found.best_TJ.tolist(), found.final.first_rank_T.tolist(), found.figures()])


def result(config, number, directory, world):
    directory.mkdir()
    config["optimisation"] |= {"epochs": 1, "max_steps_per_epoch": 1}
    found = train(Config.model_validate(config), directory, lambda *row: None, cache=world / "cache")
    return repr({name: value for name, value in found.items() if name != "cost"})


@pytest.mark.parametrize("name", [name for name, line in FIELDS.items() if isinstance(line, Line)])
def test_a_field_changes_what_it_should(name, world, tmp_path, seen):
    line = FIELDS[name]
    found = [observed(name, line, value, world, tmp_path / str(i), seen) for i, value in enumerate(line.values)]
    if line.how == "same":
        assert len(set(found)) == 1
        return
    assert len(line.values) > 1 and len(set(found)) == len(found)
    assert found[0] != "" and Path(world).is_dir()
