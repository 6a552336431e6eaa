"""Optuna's samplers and pruners, as a space names them."""

import warnings
from typing import TYPE_CHECKING

from experiments.spec import short_digest
from rasa.errors import ResourceError
from studies.space import Pruner, Sampler

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler


def make_sampler(sampler: Sampler, trial: int) -> "BaseSampler":
    """The sampler that proposes trial number `trial`.

    Its seed depends on that number, so a study that goes on draws what it has not drawn, whoever goes on with it, and
    the same as it would have drawn unbroken. Samplers keep what they know in the storage, not in themselves.
    """
    from optuna.samplers import GPSampler, RandomSampler, TPESampler

    seed, startup = int(short_digest([sampler.seed, trial]), 16) % 2**32, sampler.startup_trials
    if sampler.name == "tpe":
        return TPESampler(seed=seed, n_startup_trials=startup)
    if sampler.name == "gp":
        return GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
    if sampler.name == "cmaes":
        return _cmaes(seed, startup)
    return RandomSampler(seed=seed)


def _cmaes(seed: int, startup: int) -> "BaseSampler":
    from optuna.samplers import CmaEsSampler

    try:
        import cmaes  # noqa: F401  # Optuna itself says so only at the first draw
    except ImportError as error:
        raise ResourceError("sampler cmaes: the package cmaes is missing; pip install cmaes") from error
    return CmaEsSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)


def make_pruner(pruner: Pruner, epochs: int, seeds: int) -> "BasePruner":
    """The pruner of trials whose steps are epochs from 1 on, seed after seed (Wilcoxon: seeds)."""
    from optuna.exceptions import ExperimentalWarning
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner, WilcoxonPruner

    if pruner.name == "median":
        return MedianPruner(pruner.startup_trials, n_warmup_steps=pruner.warmup_epochs + 1)
    if pruner.name == "hyperband":
        return HyperbandPruner(1, epochs * seeds, pruner.reduction_factor)
    if pruner.name == "wilcoxon":
        with warnings.catch_warnings():  # that it is experimental, no user can do anything about
            warnings.simplefilter("ignore", ExperimentalWarning)
            return WilcoxonPruner(p_threshold=pruner.p_threshold)
    return NopPruner()
