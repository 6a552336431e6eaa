"""One run, top to bottom: data, model, optimizer, resume, epochs, validation, test.

The trainer reports numbers through a plain callable and keeps what it needs to go on in its directory:
`checkpoints/step-*` (exact, see rasa/checkpoint.py), `selected/epoch-*` (the best weights under released key names),
`vocab.txt`, and `predictions.safetensors` at the end.
"""

import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from rasa.accumulation import batch_parts, forward_backward, out_of_memory
from rasa.checkpoint import load_checkpoint, newest_checkpoint, prune, save_checkpoint
from rasa.config import Config
from rasa.cost import peak_mib, reset_peak
from rasa.data.formats import FORMATS
from rasa.data.load import load_dataset
from rasa.data.loader import Batch, TrainingLoader, encode_captions, image_batches
from rasa.data.table import Dataset, Split
from rasa.data.tokens import Tokenizer, build_tokenizer
from rasa.data.transforms import two_views
from rasa.detectors import DETECTORS, detector_figures
from rasa.errors import ResourceError, RunFailed, SpecError
from rasa.fidelity import Fidelity
from rasa.model.checkpoints import initial_state, load_released, to_released
from rasa.model.masked_lm import build_masked_lm
from rasa.model.queue import FeatureQueue
from rasa.model.rasa import RaSa, build_model, ema_update, momentum_copy
from rasa.numerics import FiniteGuard, compile_layers, float32_products, resolve_compile, resolve_precision
from rasa.objectives.language import SpecialIds
from rasa.probe import sensitivity_figures
from rasa.retrieval.evaluate import Ranking
from rasa.retrieval.protocols import Settings, evaluate_by, query_identities, selection_key
from rasa.schedules import alpha_at, learning_rates
from rasa.step import StepInputs, Teachers

Log = Callable[[str, int, dict[str, float]], None]
CHECKPOINTS_KEPT = 2


class Progress(BaseModel):
    """Where a run stands; with the tensors, all that a resumed run needs. Draws are functions of seed and step."""

    identity: dict[str, Any]
    digests: dict[str, str]
    epoch: int = 0
    step_in_epoch: int = 0
    best_epoch: int | None = None
    best: tuple[float, float] = (float("-inf"), float("-inf"))
    history: list[dict[str, float]] = []
    tested: list[dict[str, float]] = []  # of every epoch, if the selection gap is asked for
    seconds: float = 0.0
    looks_seconds: float = 0.0  # of evaluations that training does not need; not among `seconds`
    train_seconds: float = 0.0
    pairs: int = 0
    peak_mib: float = 0.0


def train(
    config: Config,
    directory: Path,
    log: Log,
    should_stop: Callable[[], bool] = lambda: False,
    resume_from_step: Callable[[int], None] = lambda step: None,
    cache: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train, select by validation, test once. Returns the run's figures as plain JSON types.

    `log(group, step, values)` receives every figure, `resume_from_step` once the step from which this process goes
    on, `say` a line for a person. With `should_stop` true the step is finished, a checkpoint written, and
    KeyboardInterrupt raised. Raises RunFailed, ResourceError or SpecError with one line.
    """
    started = time.monotonic()
    device = pick_device(config.optimisation.device)
    if config.optimisation.threads:
        torch.set_num_threads(config.optimisation.threads)
    reset_peak(device)
    on, fidelity, optimisation = config.objectives.weights, config.fidelity, config.optimisation
    precision = resolve_precision(optimisation.precision, device)
    compiled = resolve_compile(optimisation.compile, device)

    # Data.
    dataset = load_dataset(config.data, config.seed)
    tested = dataset.tested
    for note in dict.fromkeys((*dataset.notes, *tested.notes)):
        say(note)
    captions = dataset.splits["train"].captions
    tokenizer = build_tokenizer(config.data.tokenizer, captions, config.data.vocabulary_size)
    tokenizer.save(directory / tokenizer.file)
    special = SpecialIds(tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
    tick = time.monotonic()
    on_gpu = device.type == "cuda"
    loader = training_pairs(dataset, "train", tokenizer, config, cache, on_gpu, say)
    held_out = None
    if config.evaluation.detectors and set(DETECTORS) & set(on):
        held_out = training_pairs(dataset, "val", tokenizer, config, cache, on_gpu, say)
    galleries = {"val": gallery(dataset, "val", config, cache, on_gpu, say)}
    galleries["test"] = gallery(tested, "test", config, cache, on_gpu, say)
    if dataset.target is not None:
        galleries["source"] = gallery(dataset, "test", config, cache, on_gpu, say)
    started += time.monotonic() - tick  # images are decoded once for all runs, so not at this run's cost
    steps_per_epoch = loader.steps_per_epoch
    if "prd" in on and not loader.has_weak_pairs:
        raise SpecError(
            "weights.prd needs weak pairs, but no identity of train has a caption that would make one; leave prd out"
        )
    parts = batch_parts(loader.batch_size, fidelity.ranks, optimisation.accumulation)
    if parts.note:
        say(parts.note)
    if loader.longest_caption > config.model.max_positions:
        raise SpecError(
            f"model.max_positions {config.model.max_positions} is less than the longest training caption, "
            f"{loader.longest_caption} tokens; raise it, or set fidelity.truncate_training_tokens=true"
        )

    # Models: online, momentum, queues, and the fixed generator if the row has one.
    model = build_model(config, tokenizer.vocabulary_size, tokenizer.pad_id, device)
    asked = ("mlm" in on and fidelity.mlm_soft_targets) or config.objectives.generator == "momentum"
    momentum = momentum_copy(model.encoders, fusion=asked, language=asked)
    queue = FeatureQueue(config.model.queue_size, config.model.embed_dim, config.seed).to(device)
    if config.model.weights is not None:
        state = initial_state(config.model)
        kept = queue if fidelity.queue_from_weights else None
        say(f"{config.model.weights}: {load_released(state, model, momentum, kept, str(config.model.weights))}")
    masked_lm = None
    if config.objectives.generator == "fixed":
        tick = time.monotonic()
        masked_lm = build_masked_lm(config.objectives.masked_lm, tokenizer, captions, cache or directory / "cache").to(
            device
        )
        started += time.monotonic() - tick  # made once for all seeds, so not this run's cost
    teachers = Teachers(momentum, queue, masked_lm)
    model.train()
    momentum.train(fidelity.momentum_dropout)
    if compiled:
        compile_layers(model.encoders)
        compile_layers(momentum)

    # Optimizer and resume.
    optimizer = torch.optim.AdamW(
        parameter_groups(model, optimisation.weight_decay, fidelity.decay_temperature_and_positions), fused=True
    )
    guard = FiniteGuard(device)
    progress = Progress(
        identity=computation(config, precision, compiled),
        digests={"data": dataset.digest, "tokenizer": tokenizer.digest},
    )
    if found := newest_checkpoint(directory / "checkpoints"):
        tensors, saved, problems = found
        for problem in problems:
            say(f"{problem}; going on from the one before")
        restored = Progress.model_validate(saved)
        if (restored.identity, restored.digests) != (progress.identity, progress.digests):
            raise ResourceError(f"{directory}: its checkpoint belongs to another config or to other data; remove it")
        progress = restored
        restore(tensors, model, teachers, optimizer)
    step = progress.epoch * steps_per_epoch + progress.step_in_epoch
    resume_from_step(step)
    seconds_before = progress.seconds
    log_every = max(10 if on_gpu else 1, steps_per_epoch // 100)  # a GPU is waited for at each

    def checkpoint() -> None:
        guard.check()
        progress.seconds = seconds_before + time.monotonic() - started
        progress.peak_mib = max(progress.peak_mib, peak_mib(device))
        position = progress.epoch * steps_per_epoch + progress.step_in_epoch
        folder = directory / "checkpoints"
        save_checkpoint(
            folder / f"step-{position:09d}", training_tensors(model, teachers, optimizer), progress.model_dump()
        )
        prune(folder, CHECKPOINTS_KEPT)

    while progress.epoch < optimisation.epochs:
        epoch = progress.epoch
        tick = time.monotonic()
        for batch in loader.epoch(epoch, start=progress.step_in_epoch):
            i = progress.step_in_epoch
            rates = learning_rates(optimisation, fidelity.head_rate_from == "iteration-101", epoch, i, steps_per_epoch)
            for group in optimizer.param_groups:
                group["lr"] = rates[1] if group["heads"] else rates[0]
            alpha = alpha_at(config.objectives.alpha, config.objectives.alpha_warmup_epochs, epoch, i, steps_per_epoch)
            if fidelity.ema_timing == "before":
                ema_update(momentum, model.encoders, config.model.momentum)
            optimizer.zero_grad(set_to_none=True)
            try:
                inputs = step_inputs(batch, device)
                with float32_products(precision):
                    out = forward_backward(model, teachers, inputs, config, parts, alpha, step, special, precision)
                norm = gradient_norm(model, optimisation.clip_norm)
                # As a gradient scaler would: the fused kernel applies nothing where this is 1.
                optimizer.found_inf = guard.note(epoch, i, {**out.losses, "gradient norm": norm})  # type: ignore[attr-defined]
                if device.type == "cpu":
                    guard.check()
                optimizer.step()
            except torch.OutOfMemoryError as fault:
                size = config.data.image_size
                raise RunFailed(out_of_memory(loader.batch_size, fidelity.ranks, parts.number, size)) from fault
            if config.model.temperature_range:
                with torch.no_grad():
                    model.temperature.clamp_(*config.model.temperature_range)
            if out.image_feature_m is not None and out.text_feature_m is not None:
                queue.push(out.image_feature_m, out.text_feature_m, inputs.identity)
            if fidelity.ema_timing == "after":
                ema_update(momentum, model.encoders, config.model.momentum)

            if i % log_every == 0:
                guard.check()
                told = {f"loss_{name}": value for name, value in out.losses.items()}
                told |= {"gradient_norm": norm, "temperature": model.temperature.detach()}
                figures = dict(zip(told, torch.stack(list(told.values())).tolist(), strict=True))  # one wait for all
                total = sum(weight * figures[f"loss_{name}"] for name, weight in on.items())
                figures |= {"loss": total, "learning_rate": rates[0], "head_learning_rate": rates[1], "alpha": alpha}
                log("train", step, figures)
            step += 1
            progress.step_in_epoch += 1
            progress.pairs += len(batch.identity)
            tock = time.monotonic()
            progress.train_seconds += tock - tick
            tick = tock
            if should_stop():
                checkpoint()
                raise KeyboardInterrupt
            if optimisation.checkpoint_steps and progress.step_in_epoch % optimisation.checkpoint_steps == 0:
                checkpoint()
                tick = time.monotonic()

        # Validate, select, move to the next epoch.
        guard.check()
        ranking = evaluate_split(model, dataset.splits["val"], galleries["val"], tokenizer, config, device)
        figures = ranking.figures()
        if held_out is not None:
            held_out_inputs = (step_inputs(batch, device) for batch in held_out.epoch(0))
            figures |= detector_figures(model, teachers, held_out_inputs, config.objectives, fidelity, special)
        log("val", step, figures | {"epoch": epoch + 1})
        progress.history.append({"epoch": epoch + 1, **figures})
        if config.evaluation.selection_gap:
            tick = time.monotonic()
            ranking = evaluate_split(model, tested.splits["test"], galleries["test"], tokenizer, config, device)
            progress.tested.append({"epoch": epoch + 1, **ranking.final.metrics})
            started += (took := time.monotonic() - tick)  # a look that training without it does not take
            progress.looks_seconds += took
        key = selection_key(figures)
        progress.epoch, progress.step_in_epoch = epoch + 1, 0
        if key > progress.best:
            progress.best, progress.best_epoch = key, epoch + 1
            folder = directory / "selected" / f"epoch-{epoch + 1:04d}"
            save_checkpoint(folder, to_released(model, redundant=False), progress.history[-1])
        checkpoint()
        for old in (directory / "selected").glob("epoch-*"):
            if old.name != f"epoch-{progress.best_epoch:04d}":
                shutil.rmtree(old)

    # Test once, on the selected weights.
    assert progress.best_epoch is not None
    weights, _ = load_checkpoint(directory / "selected" / f"epoch-{progress.best_epoch:04d}")
    load_released(weights, model, source=str(directory / "selected"))
    ranking = evaluate_split(model, tested.splits["test"], galleries["test"], tokenizer, config, device)
    test = ranking.figures()
    log("test", step, test)
    source = {}
    if dataset.target is not None:
        own = evaluate_split(model, dataset.splits["test"], galleries["source"], tokenizer, config, device)
        log("source", step, source := own.figures())
    probed = {}
    if config.evaluation.sensitivity:
        tick = time.monotonic()
        probed = sensitivity_figures(model, lambda: galleries["test"], tested.splits["test"], tokenizer, config, device)
        log("probe", step, probed)
        started += (took := time.monotonic() - tick)  # nor does training take this
        progress.looks_seconds += took
    protocol = FORMATS[config.data.format].protocol
    save_predictions(directory, ranking, query_identities(protocol, tested.splits["test"]))
    cost = {
        "seconds": seconds_before + time.monotonic() - started,
        "looks_seconds": progress.looks_seconds,
        "pairs_per_s": progress.pairs / progress.train_seconds,
        "peak_mib": max(progress.peak_mib, peak_mib(device)),
        "steps": float(step),
        "parameters": float(sum(p.numel() for p in model.parameters())),
    }
    log("cost", step, cost)
    selected = progress.history[progress.best_epoch - 1]
    last_test, oracle = {}, {}
    if progress.tested:
        best = max(progress.tested, key=lambda figures: selection_key(figures)[0])
        last_test = {"test": _figures(progress.tested[-1])}
        oracle = {"test_oracle": {"epoch": int(best["epoch"]), "test": _figures(best)}}
    return (
        oracle
        | ({"sensitivity": probed} if probed else {})
        | ({"source": source} if source else {})
        | {
            "selected": {"epoch": progress.best_epoch, "step": progress.best_epoch * steps_per_epoch, "val": selected},
            "test": test,
            "last": {"epoch": optimisation.epochs, "val": progress.history[-1]} | last_test,
            "cost": cost,
            "numerics": {"precision": precision, "compiled": compiled, "batch": str(parts)},
            "digests": {"data": dataset.digest, "tokenizer": tokenizer.digest},
            "sizes": {
                name: {
                    "images": len(split.image_files),
                    "captions": len(split.captions),
                    "identities": len(set(split.image_identities.tolist())),
                }
                for name, split in {**dataset.splits, "test": tested.splits["test"]}.items()
            },
        }
    )


def gallery(
    dataset: Dataset, split: str, config: Config, cache: Path | None, prefetch: bool, say: Callable[[str], None]
) -> Iterable[Tensor]:
    """A split's images in batches, each time it is iterated."""
    return image_batches(
        dataset.splits[split].image_files,
        dataset.image_root,
        config.data.image_size,
        config.evaluation.batch_size,
        config.data.workers,
        cache,
        config.data.image_cache_gib,
        prefetch=prefetch,
        say=say,
    )


def training_pairs(
    dataset: Dataset,
    split: str,
    tokenizer: Tokenizer,
    config: Config,
    cache: Path | None,
    prefetch: bool,
    say: Callable[[str], None],
) -> TrainingLoader:
    """The pairs of `train`; of another split the same kind of pairs, for which draws do not depend on the run's seed."""
    fidelity, training = config.fidelity, split == "train"
    return TrainingLoader(
        dataset.splits[split],
        dataset.image_root,
        tokenizer,
        config.data,
        positives=config.objectives.positives if draws_captions(config.objectives.weights, fidelity) else None,
        p_weak=config.objectives.p_weak,
        weak_pool=fidelity.weak_pool,
        weak_label=fidelity.weak_label,
        truncate=fidelity.truncate_training_tokens or not training,
        batch_size=config.optimisation.batch_size,
        max_steps=config.optimisation.max_steps_per_epoch if training else None,
        seed=config.seed if training else 0,
        cache=cache,
        prefetch=prefetch,
        say=say,
    )


def computation(config: Config, precision: str, compiled: bool) -> dict[str, Any]:
    """The config as far as a checkpoint depends on it: places of files left out, since their contents count, `auto` settled."""
    identity = config.identity()
    del identity["data"]["tokenizer"], identity["objectives"]["masked_lm"]
    identity["optimisation"] |= {"precision": precision, "compile": compiled}
    return identity


def draws_captions(weights: Collection[str], fidelity: Fidelity) -> bool:
    """Whether a loss looks at the caption drawn for matching: ITM and PRD, and in the released reading CL and ITC too."""
    contrasting = "cl" in weights or "itc" in weights
    return "itm" in weights or "prd" in weights or (contrasting and fidelity.contrastive_text == "matching")


def pick_device(name: str) -> torch.device:
    """`auto` is a GPU if there is one. Raises ResourceError for a device this machine lacks."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as fault:
        raise ResourceError(f"optimisation.device: {name} is not available here; use auto or cpu") from fault
    return device


def step_inputs(batch: Batch, device: torch.device) -> StepInputs:
    """The batch on the device, with the two augmented views that share one decoding."""
    view1, view2 = two_views(batch.images.to(device, non_blocking=True), batch.flip, batch.crops)
    return StepInputs(
        view1,
        view2,
        batch.annotated,
        batch.matched,
        batch.weak.to(device, non_blocking=True),
        batch.identity.to(device, non_blocking=True),
    )


def parameter_groups(model: RaSa, weight_decay: float, decay_all_matrices: bool) -> list[dict[str, Any]]:
    """Four groups: (model | PRD and RTD heads) x (without | with weight decay). Biases and norms have none.

    `decay_all_matrices`: released code: everything that is not a vector decays, so the temperature (a scalar), position
    and class embeddings do (OF 38, 52-54).
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {(h, d): [] for h in (False, True) for d in (False, True)}
    for name, parameter in model.named_parameters():
        special = name == "temperature" or name.endswith(("pos_embed", "cls_token", "position_embeddings.weight"))
        decays = parameter.dim() != 1 and (decay_all_matrices or not special)
        groups[name.startswith(("heads.prd", "heads.rtd")), decays].append(parameter)
    return [
        {"params": parameters, "weight_decay": weight_decay if decays else 0.0, "heads": heads}
        for (heads, decays), parameters in groups.items()
        if parameters
    ]


def gradient_norm(model: nn.Module, clip: float | None) -> Tensor:
    """L2 norm of all gradients before clipping to `clip`."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if clip is not None:
        torch.nn.utils.clip_grads_with_norm_(model.parameters(), clip, norm)
    return norm


def training_tensors(model: RaSa, teachers: Teachers, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Everything that has a tensor's shape: online, momentum, queues, optimizer moments."""
    return {**model_tensors(model, teachers), **dict(_moments(model, optimizer))}


def model_tensors(model: RaSa, teachers: Teachers) -> dict[str, Tensor]:
    """The same without the optimizer's."""
    tensors: dict[str, Tensor] = {f"model.{name}": p for name, p in model.named_parameters()}
    tensors |= {f"momentum.{name}": p for name, p in teachers.momentum.named_parameters()}
    return tensors | {f"queue.{name}": b for name, b in teachers.queue.named_buffers()}


def _moments(model: RaSa, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        for kind, value in optimizer.state.get(parameter, {}).items():
            yield f"optimizer.{kind}.{name}", value


@torch.no_grad()
def restore(tensors: dict[str, Tensor], model: RaSa, teachers: Teachers, optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's tensors in place. Raises ResourceError if they are another model's."""
    own = model_tensors(model, teachers)
    differing = sorted(set(own) ^ {name for name in tensors if not name.startswith("optimizer.")})
    if differing:
        raise ResourceError(f"the checkpoint has other tensors than the model: {', '.join(differing[:5])}")
    for name, target in own.items():
        target.copy_(tensors[name])
    for name, parameter in model.named_parameters():
        saved = {
            kind: tensors[f"optimizer.{kind}.{name}"]
            for kind in ("step", "exp_avg", "exp_avg_sq")
            if f"optimizer.{kind}.{name}" in tensors
        }
        if saved:
            optimizer.state[parameter] = {kind: value.to(parameter.device) for kind, value in saved.items()}


def evaluate_split(
    model: RaSa, split: Split, gallery: Iterable[Tensor], tokenizer: Tokenizer, config: Config, device: torch.device
) -> Ranking:
    """The split ranked by its format's protocol; `gallery` yields its images in batches each time it is iterated."""
    evaluation = config.evaluation
    try:
        return evaluate_by(
            FORMATS[config.data.format].protocol,
            model,
            lambda: gallery,
            encode_captions(tokenizer, split.captions, config.data.max_tokens),
            split,
            Settings(
                evaluation.topk,
                config.fidelity.ranking_score,
                config.fidelity.beyond_topk,
                evaluation.batch_size,
                evaluation.tokens_per_call,
                evaluation.gallery_mib,
                evaluation.precision,
                device,
            ),
        )
    except torch.OutOfMemoryError as fault:
        raise RunFailed(
            f"out of memory in retrieval on {split.name}; try -o evaluation.gallery_mib={evaluation.gallery_mib // 4}, "
            f"or a smaller evaluation.batch_size or tokens_per_call"
        ) from fault


def _figures(of_epoch: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in of_epoch.items() if name != "epoch"}


def save_predictions(directory: Path, ranking: Ranking, identity: Tensor) -> None:
    """`predictions.safetensors`: per test query whom it describes, the ten best images, the first right one's rank, the AP."""
    from safetensors.torch import save_file

    temporary = directory / ".predictions.tmp"
    save_file(ranking.predictions() | {"identity": identity.clone()}, temporary)
    temporary.replace(directory / "predictions.safetensors")
