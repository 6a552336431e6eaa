"""Runs of Table 4 in a workspace that is tracked, and what its store has of them."""

from experiments.plan import plan
from experiments.spec import load_suite
from tests.helpers.people import write_people


def planned(workspace, *rows, seeds=(0,)):
    people = workspace / "people"
    if not people.exists():
        write_people(people, train=4, val=2, test=2, images=1)
    suite = load_suite("table4")
    return plan(
        suite,
        [suite.row(name) for name in rows],
        "smoke",
        [f"data.root={people}", "optimisation.epochs=2"],
        seeds,
        workspace,
    )


def children(client, **tags):
    found = client.search_runs([client.get_experiment_by_name("table4").experiment_id], max_results=1000)
    wanted = {"rasa.kind": "seed"} | {f"rasa.{name}": value for name, value in tags.items()}
    return [run for run in found if wanted.items() <= run.data.tags.items()]
