"""What a store has of a suite, in a form that two stores can be compared by."""

from experiments.store import open_store

OF_TIME = ("cost/seconds", "cost/looks_seconds", "cost/pairs_per_s", "cost/peak_mib")


def filed(uri):
    """All that a store has of the suite: rows, and of each seed's run state, parameters,
    every point, names of files."""
    client = open_store(uri)
    experiment = client.get_experiment_by_name("own")
    found = client.search_runs([experiment.experiment_id])
    rows = sorted(run.data.tags["rasa.row"] for run in found if run.data.tags["rasa.kind"] == "row")
    seeds = sorted(
        (
            run.data.tags["rasa.row"],
            run.data.tags["rasa.run_id"],
            (run.info.status, run.data.tags["rasa.state"]),
            run.data.params,
            {name: points(client, run, name) for name in run.data.metrics if name not in OF_TIME},
            sorted(file.path for file in client.list_artifacts(run.info.run_id)),
        )
        for run in found
        if run.data.tags["rasa.kind"] == "seed"
    )
    return rows, seeds


def points(client, run, name):
    return sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, name))
