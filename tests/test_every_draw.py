"""Each kind of draw is another one at another seed and, where it is drawn again, at another epoch;
dropout acts everywhere."""

import numpy as np
import pytest
import torch

from rasa.config.run import Data
from rasa.data.dataset import Split
from rasa.data.loader import TrainingLoader
from rasa.data.tokenizer import train_tokenizer
from rasa.draws import Draws
from rasa.model.packing import Text
from rasa.model.rasa import build_model
from rasa.training.train import train
from tests.helpers.people import tiny_config, write_people
from tests.helpers.recipe import training
from tests.helpers.tiny_model import tiny
from tests.helpers.tiny_step import inputs

# 40 images of ten people, a caption each
SPLIT = Split(
    "train",
    tuple(f"{i}.png" for i in range(40)),
    np.arange(40) // 4,
    tuple(f"person {i}" for i in range(40)),
    np.arange(40),
)


def drawn(tmp_path, seed, epoch, format="cub"):
    """Order, flips, captions and crops of an epoch, by sample and not by place."""
    tokenizer = train_tokenizer(SPLIT.captions, 200)
    loader = TrainingLoader(
        SPLIT,
        tmp_path,
        tokenizer,
        Data(root=tmp_path, format=format, image_size=(16, 16)),
        positives="uniform",
        p_weak=0.1,
        weak_pool="identity",
        weak_label="caption",
        truncate=True,
        batch_size=40,
        max_steps=None,
        seed=seed,
    )
    (matched, _), crops = loader._pairs(epoch), loader._crops(epoch)
    return {
        "order": loader._order(epoch)[0],
        "flips": loader._flips(epoch),
        "captions": matched,
        "crops": crops.corners,
    }


@pytest.mark.parametrize("kind", ["order", "flips", "captions", "crops"])
def test_a_draw_of_the_loader_belongs_to_its_seed_and_epoch(tmp_path, kind):
    places = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    found = [drawn(tmp_path, *place)[kind] for place in places]
    assert all(torch.equal(drawn(tmp_path, *place)[kind], x) for place, x in zip(places, found, strict=True))
    assert all(not torch.equal(a, b) for i, a in enumerate(found) for b in found[:i])


def test_the_two_views_have_flips_and_crops_of_their_own(tmp_path):
    found = drawn(tmp_path, 0, 0)
    for kind in ("flips", "crops"):
        assert not torch.equal(*found[kind])
    assert 10 < found["flips"][0].sum() < 30  # 40 draws at 1/2


def test_order_and_flips_do_not_share_their_draws(tmp_path):
    """The flip of a sample says nothing of its place: of 40 samples,
    as many of the flipped as of the others come early."""
    early = torch.zeros(40, dtype=torch.bool)
    found = [drawn(tmp_path, seed, 0) for seed in range(20)]
    both = 0
    for each in found:
        early[:] = False
        early[each["order"][:20]] = True
        both += int((early & each["flips"][0]).sum())
    assert abs(both - 200) < 60  # 800 samples, a quarter expected, standard deviation 12


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("people"))


def test_initial_weights_and_queues_are_the_seeds(people, tmp_path):
    runs = [training(tiny_config(people) | {"seed": seed}, tmp_path / str(seed))[0] for seed in (0, 1)]
    for get in (
        lambda run: run.teachers.queue.images,
        lambda run: run.teachers.queue.texts,
        lambda run: run.model.heads["itm"].weight,
        lambda run: run.model.encoders.vision.cls_token,
    ):
        assert not torch.equal(*map(get, runs))
    assert runs[0].inputs.loader.seed == 0 and runs[1].inputs.loader.seed == 1


@pytest.mark.parametrize(("preset", "drawn"), [("released", True), ("paper", False)])
def test_contrast_alone_is_given_weak_captions_where_the_reading_says_so(people, tmp_path, preset, drawn):
    """Released: CL sees the caption drawn for matching (MPS 62-65), also in a row without matching."""
    config = tiny_config(people, {"cl": 1.0}, fidelity={"preset": preset})
    config["objectives"] |= {"positives": "probabilistic", "p_weak": 0.9}
    batch = next(training(config, tmp_path)[0].inputs.loader.epoch(0))
    assert (batch.matched is not None) == drawn == bool(batch.weak.any())
    assert not drawn or (batch.matched.ids != batch.annotated.ids).any()


def test_train_takes_the_steps_of_the_loaders_epochs(people, tmp_path):
    """Six steps in two epochs by `train`, and one by one with the batches of epochs 0 and 1."""
    config = tiny_config(people, optimisation={"max_steps_per_epoch": 3}, evaluation={"detectors": True})
    run, by_hand = training(config, tmp_path / "hand")
    for epoch in (0, 1):
        for i, batch in enumerate(run.inputs.loader.epoch(epoch)):
            run.progress.epoch, run.progress.step_in_epoch = epoch, i
            run._train_step(batch)
    rows = []
    (tmp_path / "run").mkdir()
    train(run.config, tmp_path / "run", lambda *row: rows.append(row))
    assert [values for group, _, values in rows if group == "train"] == by_hand.of("train")
    assert [step for group, step, _ in rows if group == "train"] == list(range(6))


def test_of_equal_epochs_the_first_is_kept(people, tmp_path):
    """Weights that hardly move rank alike after every epoch."""
    config = tiny_config(
        people,
        {"cl": 1.0},
        optimisation={"learning_rate": 1e-12, "min_learning_rate": 0.0, "max_steps_per_epoch": 1, "epochs": 3},
    )
    rows = []
    (tmp_path / "run").mkdir()
    found = train(training(config, tmp_path / "other")[0].config, tmp_path / "run", lambda *row: rows.append(row))
    assert len({values["r1"] for group, _, values in rows if group == "val"}) == 1
    assert found["selected"]["epoch"] == 1


def places(encoder):
    """The modules that drop: their name, and themselves."""
    return {
        name: module for name, module in encoder.named_modules() if isinstance(getattr(module, "dropout", None), float)
    }


def test_dropout_acts_at_every_place_of_both_encoders():
    """Embeddings, attention weights and every sublayer's output: switched on alone, each makes two passes differ."""
    encoders = build_model(tiny(dropout=0.2), 50).encoders.train()
    caption, image = Text.of(inputs().annotated, "cpu"), encoders.project_image(encoders.encode_image(inputs().view1))
    with torch.no_grad():
        states = encoders.eval().encode_text(caption)
    encoders.train()

    def one_pass(step, fused):
        with torch.no_grad(), Draws(0, step).dropout("any"):
            return encoders.fuse(states, caption.packing, image) if fused else encoders.encode_text(caption)

    for part, fused, number in ((encoders.text, False, 1 + 3 * 2), (encoders.fusion, True, 5 * 2)):
        dropping = places(part)
        assert len(dropping) == number and {module.dropout for module in dropping.values()} == {0.2}
        for module in dropping.values():
            module.dropout = 0.0
        assert torch.equal(one_pass(0, fused), one_pass(1, fused))
        for name, module in dropping.items():
            module.dropout = 0.2
            assert not torch.equal(one_pass(0, fused), one_pass(1, fused)), name
            assert torch.equal(one_pass(0, fused), one_pass(0, fused)), name
            module.dropout = 0.0
