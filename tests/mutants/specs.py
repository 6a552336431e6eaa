"""Mistakes in what suites, rows and profiles say."""

from pathlib import Path

from tests.mutants.mutant import A2, FIGURE4, PROFILES, Mutant, mistake

FROZEN = f"{PROFILES}::test_a_profile_is_what_was_frozen"
ROOT = Path(__file__).parents[2]


def setting(profile: str, name: str, value: str, test: str) -> Mutant:
    """Another value in a profile, in the one line that sets it, whatever is there now."""
    file = f"experiments/specs/profiles/{profile}.yaml"
    lines = (ROOT / file).read_text().splitlines()
    old = next(line for line in lines if line.split(":")[0].strip() == name)
    new = old[: len(old) - len(old.lstrip())] + f"{name}: {value}"
    return mistake(file, f"{name}: {value}", f"{old}\n", f"{new}\n", test)


MUTANTS = [
    mistake(
        "experiments/suite.py",
        "a sweep over a loss weight switches the others off",
        '"kept" if self.parameter.startswith(WEIGHTS) else "off"',
        '"off"',
        "tests/test_sweeps.py::test_a_sweep_is_rows_that_differ_in_one_field",
        FIGURE4,
    ),
    mistake(
        "experiments/spec.py",
        "the suite's base over an extended row of its own",
        "if below is None or (suite.file, suite.suite) != (below.file, below.suite):",
        "if True:",
        "tests/test_spec.py::test_a_row_that_extends_one_of_its_own_suite_keeps_that_rows_changes",
    ),
    mistake(
        "experiments/spec.py",
        "the extended row over the row",
        "return links[::-1]",
        "return links",
        "tests/test_spec.py",
    ),
    mistake(
        "experiments/suite.py",
        "a grid over one loss switches the others off",
        '"kept" if keeps else row.other_weights',
        "row.other_weights",
        "tests/test_rows.py::test_a_grid_over_one_loss_leaves_the_others_as_they_are",
    ),
    mistake(
        "experiments/ablation.py",
        "RTD kept without the head that proposes its words",
        'BY_MLM = ("online", "momentum")',
        'BY_MLM = ("online",)',
        "tests/test_rows.py::test_an_ablation_leaves_out_each_objective_and_what_needs_it",
    ),
    mistake(
        "experiments/suite.py",
        "a row that changes nothing compared with another",
        "row.extends is None or not (row.changes or row.at)",
        "row.extends is None",
        "tests/test_rows.py::test_a_row_is_compared_with_the_one_that_it_extends",
    ),
    mistake(
        "experiments/spec.py",
        "one seed for all runs",
        "for text in overrides], seed)",
        "for text in overrides], 0)",
        f"{PROFILES}::test_the_seed_and_overrides_come_last",
    ),
    mistake(
        "experiments/suite.py",
        "a point's own changes left out",
        "merge(nested, point.changes, whole=True)",
        "nested",
        FIGURE4,
    ),
    mistake(
        "experiments/specs/figure4.yaml",
        "p^w = 0 with MLM at a tenth",
        "weights: {cl: 0.5, itm: 1, mlm: 1, rtd: 0.5}}}}",
        "weights: {cl: 0.5, itm: 1, mlm: 0.1, rtd: 0.5}}}}",
        FIGURE4,
    ),
    mistake("experiments/specs/table4.yaml", "p_mask 0.15 in all rows", "p_mask: 0.3", "p_mask: 0.15", A2),
    setting("paper", "queue_size", "4096", A2),
    setting("paper", "momentum", "0.5", A2),
    setting("paper", "temperature", "0.7", A2),
    setting("paper", "weight_decay", "0.2", A2),
    setting("paper", "min_learning_rate", "1e-4", A2),
    setting("paper", "warmup_learning_rate", "1e-2", A2),
    setting("paper", "alpha", "0", A2),
    setting("paper", "topk", "8", A2),
    setting("paper", "flip_probability", "0", A2),
    setting("paper", "max_words", "20", A2),
    setting("paper", "schedule", "constant", A2),
    setting("paper", "precision", "bf16", FROZEN),
    setting("synth", "learning_rate", "5e-6", FROZEN),
    setting("synth", "epochs", "1", FROZEN),
    setting("synth", "fidelity", "released", FROZEN),
    setting("bench", "batch_size", "64", FROZEN),
    setting("smoke", "momentum", "0.995", FROZEN),
]
