"""Whole runs of any row on a few people, and what they report."""

from rasa.config.run import Config
from rasa.training.train import train
from tests.helpers.people import tiny_config
from tests.helpers.tiny_step import ROWS, WEIGHTS


class Recorder:
    """Keeps what a run reports."""

    def __init__(self):
        self.rows, self.start = [], None

    def __call__(self, group, step, values):
        self.rows.append((group, step, values))

    def of(self, group):
        return [(step, values) for g, step, values in self.rows if g == group]


def go(config, directory, cache=None, **kwargs):
    directory.mkdir(exist_ok=True)
    log = Recorder()
    starts = []
    result = train(Config.model_validate(config), directory, log, resume_from_step=starts.append, cache=cache, **kwargs)
    log.start = starts[0]
    return result, log


def row(people, name, **changes):
    losses, positives, generator = ROWS[name]
    config = tiny_config(people, {n: WEIGHTS[n] for n in losses}, generator)
    config["objectives"]["positives"] = positives
    for section, values in changes.items():
        config[section] = config[section] | values
    return config
