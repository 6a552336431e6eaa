"""A finished run's checkpoint as a model of MLflow 3, with its figures and its data set.

The weights stay where they are, among the run's artifacts: the record names them, and nothing is kept twice.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.contents import Contents
from experiments.rundir import SELECTED, About
from experiments.tracking import (
    DATA_DIGEST,
    DIGEST_LENGTH,
    MODEL_FILES,
    PROFILE,
    ROW,
    RUN_ID,
    SEED,
    SELECTED_EPOCH,
    SUITE,
    VAL,
    seed_name,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

KIND = "RaSa"
GROUPS = ("test", VAL, "source", "probe")  # of figures that are the checkpoint's
FORBIDDEN = re.compile(r"""[/:.%"']+""")  # in a model's name


def record(client: "MlflowClient", said: Contents, run: "Run", new: bool) -> str | None:
    """The model of a run whose chosen weights are on this machine, made if there is none yet; its id.

    `new`: the run has just been made, so that nothing is to be looked for. None without weights.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    weights = _weights(said.directory)
    if weights is None or said.state != "finished":
        return None
    experiment, source = run.info.experiment_id, run.info.run_id
    if not new and (found := client.search_logged_models([experiment], f"source_run_id = '{source}'")):
        return str(found[0].model_id)
    about, selected = said.about, said.result.get("selected", {})
    who = {SUITE: about.suite, ROW: about.row, PROFILE: about.profile, SEED: str(about.seed), RUN_ID: about.run_id}
    who |= {DATA_DIGEST: about.data_digest, SELECTED_EPOCH: str(selected.get("epoch", ""))}
    who |= {MODEL_FILES: f"runs:/{source}/{SELECTED}/{weights.name}"}
    name = FORBIDDEN.sub("-", seed_name(about))
    model = client.create_logged_model(experiment, name, source, tags=who, model_type=KIND).model_id
    client.log_outputs(source, [LoggedModelOutput(model, int(selected.get("step") or 0))])
    client.finalize_logged_model(model, LoggedModelStatus.READY)
    return str(model)


def of_model(metrics: "Sequence[Metric]", model: str | None, about: About) -> "Sequence[Metric]":
    """The same figures; those that are the checkpoint's are also the model's, on the run's data set."""
    from mlflow.entities import Metric

    if model is None:
        return metrics
    data = about.target_name or about.data_name, about.data_digest[:DIGEST_LENGTH]
    return [
        Metric(each.key, each.value, each.timestamp, each.step, model, *data)
        if each.key.partition("/")[0] in GROUPS
        else each
        for each in metrics
    ]


def _weights(directory: Path) -> Path | None:
    """The chosen epoch's folder."""
    return max((directory / SELECTED).glob("epoch-*"), default=None)
