"""What a command is asked to do: rows of suites, by name."""

from experiments.spec import FILE, load_suite
from experiments.suite import Row, Suite


def parse_target(target: str) -> tuple[Suite, list[Row]]:
    """The suite and the rows that `table4`, `table4/m-rtd`, `figure4/p-weak`, `my.yaml` or `my.yaml/row` names."""
    matched = FILE.fullmatch(target)
    name, row = (matched["file"], matched["row"]) if matched else (target.split("/", 1) + [None])[:2]
    suite = load_suite(name or "")
    if sweep := next((sweep for sweep in suite.sweeps if sweep.name == row), None):
        return suite, [suite.row(name) for name in sweep.row_names.values()]
    return suite, list(suite.rows) if row is None else [suite.row(row)]
