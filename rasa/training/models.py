"""The models of one run as they are at its first step: the online one, and the teachers that no gradient trains."""

from pathlib import Path

import torch

from rasa.callbacks import Notify
from rasa.config.run import Config
from rasa.cost import Clock
from rasa.model.rasa import RaSa, compile_layers
from rasa.training.inputs import Inputs
from rasa.training.masked_lm import build_masked_lm
from rasa.training.state import untrained
from rasa.training.step import Teachers
from rasa.weights.released import initial_state, load_released


def build_models(
    config: Config, inputs: Inputs, device: torch.device, compiled: bool, cache: Path, notify: Notify, clock: Clock
) -> tuple[RaSa, Teachers]:
    """The online model; the momentum model, queues, and the fixed generator if the row has one (kept in `cache`).

    Raises ResourceError and SpecError.
    """
    tokenizer, objectives = inputs.tokenizer, config.objectives
    model, momentum, queue = untrained(config, tokenizer, device)
    if config.model.weights is not None:
        state = initial_state(config.model)
        kept = queue if config.fidelity.queue_from_weights else None
        report = load_released(state, model, momentum, kept, str(config.model.weights))
        notify(f"{config.model.weights}: {report}")
        if "idx_queue" in report.loaded:
            notify(
                f"{config.model.weights}: its queue comes with the identities of its own data; to train on another "
                "data set give -o fidelity.queue_from_weights=false"
            )
    masked_lm = None
    if objectives.generator == "fixed":
        captions = inputs.dataset.splits["train"].captions
        with clock.stopped():  # made once for all seeds, so not at this run's cost
            masked_lm = build_masked_lm(objectives.masked_lm, tokenizer, captions, cache).to(device)
    model.train()
    momentum.train(config.fidelity.momentum_dropout)
    if compiled:
        compile_layers(model.encoders)
        compile_layers(momentum)
    return model, Teachers(momentum, queue, masked_lm)
