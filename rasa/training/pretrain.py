"""The common start: a small ALBEF pre-trained on other people, at other places, from coarse captions (decision 14).

From ITC, ITM and MLM alone, as ALBEF was: no PRD and no RTD, which are what the rows of an ablation test. Three things
that ALBEF does not do help a small cross-modal encoder off its plateau: matching is asked over several candidates, of
which one is right, instead of one pair at a time; negatives go from random to hard; and it is content words, not
function words, that are masked. Shape suffixes: B pairs, C candidates, L tokens, D text width.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from rasa.callbacks import Log, Notify
from rasa.config.benchmark import BenchmarkParams
from rasa.config.fidelity import Fidelity
from rasa.config.run import Config, Data, Evaluation, Model, Objectives, Optimisation, Section
from rasa.data.load import ensure_builtin, load_dataset
from rasa.data.loader import Batch, TrainingLoader, image_batches
from rasa.data.synthetic.write import captions_of
from rasa.data.tokenizer import Tokens, train_tokenizer
from rasa.data.transforms import two_views
from rasa.draws import Draws
from rasa.errors import ResourceError
from rasa.evaluation.split import evaluate_split
from rasa.model.momentum import ema_update
from rasa.model.packing import Text, Wanted
from rasa.model.rasa import RaSa, build_model
from rasa.objectives import contrastive, language, matching
from rasa.objectives.language import MaskDraws, SpecialIds
from rasa.training.optimizer import moments, parameter_groups, restore_moments
from rasa.weights.folder import newest_checkpoint, prune, save_checkpoint
from rasa.weights.released import to_released


class Recipe(Section):
    """All that decides the start's weights."""

    seed: int = Field(0, ge=0, description="Of initial weights, order, flips, negatives and masks.")
    people: BenchmarkParams = Field(
        BenchmarkParams(
            seed=90_210,
            train_identities=6000,
            val_identities=200,
            test_identities=1,
            images_per_identity=4,
            domain="web",
            captions="coarse",
        ),
        description=(
            "Rendered people to learn from: another seed than a benchmark's, other places and cameras, and coarse "
            "captions."
        ),
    )
    model: Model = Field(description="The sizes that fine-tuning runs must have too.")
    image_size: tuple[int, int] = Field((96, 48), description="Height and width in pixels.")
    vocabulary_size: int = Field(2000, ge=32, description="Largest vocabulary, built from the captions.")
    batch_size: int = Field(64, ge=2, description="Pairs per step.")
    steps: int = Field(10_000, ge=1, description="Optimizer steps.")
    learning_rate: float = Field(1e-3, gt=0, description="At the end of the warm-up; then a cosine to 1 % of it.")
    warmup_steps: int = Field(200, ge=0, description="Steps of linear warm-up.")
    weight_decay: float = Field(0.02, ge=0, description="AdamW's, not on biases and norms.")
    clip_norm: float = Field(1.0, gt=0, description="Bound on the gradient norm.")
    candidates: int = Field(4, ge=2, description="Images among which matching finds the text's own.")
    hard_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of hard negatives at the end; linear from 0. Coarse captions fit many people.",
    )
    hard_until: float = Field(0.5, gt=0, le=1, description="Share of the steps after which it is reached.")
    mask_rate: float = Field(0.35, gt=0, lt=1, description="Share of content words masked.")
    function_rate: float = Field(0.05, ge=0, lt=1, description="Share of function words masked.")
    function_words: float = Field(0.3, gt=0, le=1, description="A word in more captions than this share is no content.")
    position_std: float = Field(
        0.3,
        gt=0,
        description=(
            "Of the image position embeddings at the start, about that of a patch's content: at timm's 0.02 places are "
            "learned late."
        ),
    )
    averaging: float = Field(0.999, ge=0, lt=1, description="Decay of the average of weights that is kept.")
    evaluate_every: int = Field(500, ge=1, description="Steps between validations and checkpoints.")

    def config(self, root: Path, cache_gib: float = 32) -> Config:
        """The same as a run's config: what building the model, reading the data and retrieval take."""
        return Config(
            seed=self.seed,
            data=Data(
                root=root,
                image_size=self.image_size,
                tokenizer="captions",
                image_cache_gib=cache_gib,
                vocabulary_size=self.vocabulary_size,
                max_tokens=self.model.max_positions,
            ),
            model=self.model,
            objectives=Objectives(weights={"cl": 1.0, "itm": 1.0, "mlm": 1.0}),
            optimisation=Optimisation(batch_size=self.batch_size, learning_rate=self.learning_rate),
            evaluation=Evaluation(topk=32),
            fidelity=Fidelity.model_validate("paper"),
        )


SHIPPED = Recipe(
    model=Model(
        patch_size=12,
        vision_width=96,
        vision_depth=3,
        vision_heads=4,
        text_width=96,
        text_layers=2,
        fusion_layers=3,
        text_heads=4,
        text_mlp_width=192,
        max_positions=64,
        embed_dim=64,
        queue_size=2048,
    )
)
"""The recipe of the weights that ship with the package; the `synth` profile has the same model."""


class Masking(NamedTuple):
    """How often each word is masked [vocabulary]."""

    rates: Tensor

    @classmethod
    def of(cls, captions: Tokens, vocabulary: int, recipe: Recipe) -> "Masking":
        """By the share of captions that hold the word."""
        seen = torch.zeros(vocabulary)
        for ids in captions.ids.split(4096):
            seen += torch.zeros(len(ids), vocabulary, dtype=torch.bool).scatter_(1, ids, True).sum(0)
        common = seen / len(captions.ids) > recipe.function_words
        return cls(torch.where(common, recipe.function_rate, recipe.mask_rate))

    def mask(self, text: Tokens, draws: Draws, special: SpecialIds) -> tuple[Tensor, Tensor]:
        """Masked ids and labels [B, L]; chosen words become [MASK]."""
        shape = text.ids.shape
        select = draws.uniform("mask", shape) < self.rates[text.ids]
        never = torch.zeros(shape, dtype=torch.bool)
        raw = MaskDraws(select & text.mask, never, never, text.ids)
        return language.mask_tokens(text.ids, raw, special, separator=False, corruption="mask")


def losses(
    model: RaSa,
    batch: Batch,
    device: torch.device,
    draws: Draws,
    masking: Masking,
    special: SpecialIds,
    candidates: int,
    hard_share: float,
) -> dict[str, Tensor]:
    """ITC over the batch, ITM over candidates, MLM; scalars by name."""
    encoders, identity = model.encoders, batch.identity.to(device)
    view, _ = two_views(batch.images.to(device), batch.flip)
    image = encoders.encode_image(view)
    text = Text.of(batch.annotated, device)
    with draws.dropout("text"):
        states = encoders.encode_text(text)
    image_BE, text_BE = encoders.image_feature(image), encoders.text_feature(states, text.packing)
    similar_BB = text_BE @ image_BE.T / model.temperature
    targets_BB = contrastive.positive_targets(identity, identity, similar_BB.dtype)
    itc = (contrastive.info_nce(similar_BB, targets_BB) + contrastive.info_nce(similar_BB.T, targets_BB)) / 2

    kv = encoders.project_image(image)
    with torch.no_grad():
        hard = matching.negative_weights(similar_BB, identity)
        weights, _ = matching.drawable(
            hard_share * hard + (1 - hard_share) * matching.random_negative_weights(identity)
        )
        own = torch.arange(len(identity), device=device)
        chosen = [own] + [draws.categorical(f"candidate {k}", weights) for k in range(1, candidates)]
    scores = []
    for k, images in enumerate(chosen):
        with draws.dropout(f"candidate {k}"):
            cls_BD = encoders.fuse(states, text.packing, kv if k == 0 else kv.take(images), Wanted.first(text.packing))
        scores.append(model.heads["itm"](cls_BD))
    itm = matching_over_candidates(torch.stack(scores, 1))

    ids, labels = masking.mask(batch.annotated, draws, special)
    cells = labels.flatten().ne(language.IGNORED).nonzero().squeeze(1)
    with draws.dropout("masked text"):
        masked = encoders.encode_text(Text(ids.to(device), text.packing))
        hidden = encoders.fuse(masked, text.packing, kv, Wanted.at(text.packing, cells))
    mlm = language.hard_loss(encoders.words(hidden), labels.flatten()[cells].to(device))
    return {"itc": itc, "itm": itm, "mlm": mlm}


def matching_over_candidates(logits_BC2: Tensor) -> Tensor:
    """Which of a text's candidates is its own (the first), and for each whether it is: both in balance.

    The mean of a softmax over the candidates' match logits (class 1 less class 0) and of the pairwise cross-entropy
    with the positive weighing as much as all negatives together.
    """
    among = F.cross_entropy(logits_BC2[..., 1] - logits_BC2[..., 0], logits_BC2.new_zeros(len(logits_BC2)).long())
    positive = F.cross_entropy(logits_BC2[:, 0], torch.ones_like(logits_BC2[:, 0, 0]).long())
    negatives = logits_BC2[:, 1:].flatten(0, 1)
    negative = F.cross_entropy(negatives, torch.zeros_like(negatives[:, 0]).long())
    return (among + (positive + negative) / 2) / 2


def rate_at(recipe: Recipe, step: int) -> float:
    """Learning rate of a step: linear warm-up, then a cosine to 1 % of the peak."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    progress = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return recipe.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def pretrain(
    recipe: Recipe,
    directory: Path,
    workspace: Path,
    log: Log,
    notify: Notify = lambda line: None,
    should_stop: Callable[[], bool] = lambda: False,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Train the start in `directory` (resumed if it was begun there); returns its figures as plain JSON types.

    Leaves `start/`, a checkpoint folder of averaged weights under the released key names, and `vocab.txt`. People are
    rendered below `workspace` and kept. Raises ResourceError, or KeyboardInterrupt after a checkpoint.
    """
    run = Pretraining(recipe, directory, workspace, log, notify, torch.device(device))
    run.resume()
    while run.step < recipe.steps:
        run.train_epoch(should_stop)
    return run.finish()


class Pretraining:
    """The state of one pre-training: its people, the model and the average of its weights, and how far it is."""

    def __init__(
        self, recipe: Recipe, directory: Path, workspace: Path, log: Log, notify: Notify, device: torch.device
    ):
        self.started = time.monotonic()
        self.recipe, self.directory, self.log, self.notify, self.device = recipe, directory, log, notify, device
        directory.mkdir(parents=True, exist_ok=True)
        folder = workspace / "data"
        root = ensure_builtin(
            recipe.people, folder, lambda done, of: notify(f"{done} of {of} images") if done == of else None
        )
        self.config = recipe.config(root)
        self.dataset = load_dataset(self.config.data)
        train, val = self.dataset.splits["train"], self.dataset.splits["val"]
        # The words of an annotator who tells everything, too: as BERT's vocabulary is larger than ALBEF's captions.
        detailed = captions_of(recipe.people.model_copy(update={"captions": "detailed"}), "train")
        self.tokenizer = train_tokenizer((*train.captions, *detailed), recipe.vocabulary_size)
        self.tokenizer.save(directory / "vocab.txt")
        words = self.tokenizer
        self.special = SpecialIds(words.pad_id, words.cls_id, words.sep_id, words.mask_id)
        self.loader = TrainingLoader(
            train,
            self.dataset.image_root,
            words,
            self.config.data,
            positives=None,
            p_weak=0.0,
            weak_pool="identity",
            weak_label="image",
            truncate=True,
            batch_size=recipe.batch_size,
            max_steps=None,
            seed=recipe.seed,
            cache=folder,
            notify=notify,
        )
        self.gallery = image_batches(
            val.image_files, self.dataset.image_root, recipe.image_size, 256, 0, folder, notify=notify
        )
        captions = words.encode(list(train.captions), self.config.data.max_tokens)
        self.masking = Masking.of(captions, words.vocabulary_size, recipe)
        self.model, self.average = (
            build_model(self.config, words.vocabulary_size, words.pad_id, device) for _ in range(2)
        )
        with torch.no_grad():
            for model in (self.model, self.average):
                positions = model.encoders.vision.pos_embed
                assert positions is not None
                positions.mul_(recipe.position_std / positions.std())
        self.model.train()
        self.average.requires_grad_(False)
        self.optimizer = torch.optim.AdamW(parameter_groups(self.model, recipe.weight_decay, False), fused=True)
        self.step, self.before = 0, 0.0
        self.curve: list[dict[str, float]] = []

    @property
    def seconds(self) -> float:
        """Wall time over all processes of this pre-training."""
        return self.before + time.monotonic() - self.started

    def resume(self) -> None:
        """Go on from the newest checkpoint, if there is one. Raises ResourceError if it is of another recipe."""
        if found := newest_checkpoint(self.directory / "checkpoints"):
            tensors, saved, _ = found
            if Recipe.model_validate(saved["recipe"]) != self.recipe:
                raise ResourceError(f"{self.directory}: was begun with another recipe; give another folder")
            self.step, self.before, self.curve = saved["step"], saved["seconds"], saved["curve"]
            _restore(tensors, self.model, self.average, self.optimizer)
            self.notify(f"going on from step {self.step}")

    def train_epoch(self, should_stop: Callable[[], bool]) -> None:
        """From where it stands to the end of the epoch, or of the recipe. Raises KeyboardInterrupt if told to stop."""
        epoch, first = divmod(self.step, self.loader.steps_per_epoch)
        for batch in self.loader.epoch(epoch, start=first):
            figures = self._train_step(batch)
            if self.step % 50 == 0:
                self.log("train", self.step, {name: float(value) for name, value in figures.items()})
            if self.step % self.recipe.evaluate_every == 0 or self.step == self.recipe.steps:
                self._validate()
            if should_stop():
                self._checkpoint()
                raise KeyboardInterrupt
            if self.step >= self.recipe.steps:
                break

    def _train_step(self, batch: Batch) -> dict[str, Tensor | float]:
        """The losses, and the share of hard negatives that matching had."""
        recipe = self.recipe
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(recipe, self.step)
        hard = recipe.hard_share * min(1.0, self.step / (recipe.hard_until * recipe.steps))
        draws = Draws(recipe.seed, self.step)
        found = losses(self.model, batch, self.device, draws, self.masking, self.special, recipe.candidates, hard)
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(found.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip_norm)
        self.optimizer.step()
        with torch.no_grad():
            self.model.temperature.clamp_(0.01, 0.5)
        # A short memory at first, or the random start would weigh on the average for long.
        ema_update(self.average, self.model, min(recipe.averaging, (1 + self.step) / (10 + self.step)))
        self.step += 1
        return {name: value.detach() for name, value in found.items()} | {"hard": hard}

    def _validate(self) -> None:
        val = self.dataset.splits["val"]
        figures = evaluate_split(self.average, val, self.gallery, self.tokenizer, self.config, self.device).figures()
        self.curve.append({"step": self.step} | figures)
        self.log("val", self.step, figures)
        self._checkpoint()

    def _checkpoint(self) -> None:
        state = {
            "recipe": self.recipe.model_dump(mode="json"),
            "step": self.step,
            "curve": self.curve,
            "seconds": self.seconds,
        }
        folder = self.directory / "checkpoints"
        save_checkpoint(folder / f"step-{self.step:09d}", _tensors(self.model, self.average, self.optimizer), state)
        prune(folder, 2)

    def finish(self) -> dict[str, Any]:
        """Write `start/`; returns what its record says."""
        result = {
            "recipe": self.recipe.model_dump(mode="json"),
            "people_digest": self.dataset.digest,
            "seconds": self.seconds,
            "val": self.curve[-1],
            "val_identities": self.recipe.people.val_identities,
            "curve": self.curve,
        }
        save_checkpoint(self.directory / "start", to_released(self.average, redundant=False), result)
        return result


def _tensors(model: RaSa, average: RaSa, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {f"model.{name}": p for name, p in model.named_parameters()}
    found |= {f"average.{name}": p for name, p in average.named_parameters()}
    return found | dict(moments(model, optimizer))


@torch.no_grad()
def _restore(tensors: dict[str, Tensor], model: RaSa, average: RaSa, optimizer: torch.optim.Optimizer) -> None:
    for prefix, target in (("model", model), ("average", average)):
        for name, parameter in target.named_parameters():
            parameter.copy_(tensors[f"{prefix}.{name}"])
    restore_moments(tensors, model, optimizer)
