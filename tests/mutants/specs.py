"""Mistakes in what suites, rows and profiles say."""

from tests.mutants.mutant import A2, FIGURE4, mistake

MUTANTS = [
    mistake(
        "experiments/spec.py",
        "a sweep over a loss weight switches the others off",
        '"kept" if self.parameter.startswith("objectives.weights.") else "off"',
        '"off"',
        "tests/test_sweeps.py::test_a_sweep_is_rows_that_differ_in_one_field",
        FIGURE4,
    ),
    mistake(
        "experiments/spec.py",
        "the suite's base over an extended row of its own",
        "yield from own if origin is suite else (*base, *own)",
        "yield from (*base, *own)",
        "tests/test_spec.py::test_a_row_that_extends_one_of_its_own_suite_keeps_that_rows_changes",
    ),
    mistake(
        "experiments/spec.py",
        "the row below the suite's base",
        "        yield from (*base, *own)\n        return",
        "        yield from (*own, *base)\n        return",
        "tests/test_spec.py",
    ),
    mistake(
        "experiments/spec.py",
        "one seed for all runs",
        "for text in overrides], seed)",
        "for text in overrides], 0)",
        "tests/test_spec.py",
    ),
    mistake(
        "experiments/spec.py",
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
    mistake(
        "experiments/specs/profiles/paper.yaml",
        "queue_size: 4096",
        "    queue_size: 65536\n",
        "    queue_size: 4096\n",
        A2,
    ),
    mistake(
        "experiments/specs/profiles/paper.yaml", "momentum: 0.5", "    momentum: 0.995\n", "    momentum: 0.5\n", A2
    ),
    mistake(
        "experiments/specs/profiles/paper.yaml",
        "temperature: 0.7",
        "    temperature: 0.07\n",
        "    temperature: 0.7\n",
        A2,
    ),
    mistake(
        "experiments/specs/profiles/paper.yaml",
        "weight_decay: 0.2",
        "    weight_decay: 0.02\n",
        "    weight_decay: 0.2\n",
        A2,
    ),
    mistake(
        "experiments/specs/profiles/paper.yaml",
        "min_learning_rate: 1e-4",
        "    min_learning_rate: 1e-6\n",
        "    min_learning_rate: 1e-4\n",
        A2,
    ),
    mistake(
        "experiments/specs/profiles/paper.yaml",
        "warmup_learning_rate: 1e-2",
        "    warmup_learning_rate: 1e-5\n",
        "    warmup_learning_rate: 1e-2\n",
        A2,
    ),
    mistake("experiments/specs/profiles/paper.yaml", "alpha: 0", "    alpha: 0.4\n", "    alpha: 0\n", A2),
    mistake("experiments/specs/profiles/paper.yaml", "topk: 8", "    topk: 128\n", "    topk: 8\n", A2),
    mistake(
        "experiments/specs/profiles/paper.yaml",
        "flip_probability: 0",
        "    flip_probability: 0.5\n",
        "    flip_probability: 0\n",
        A2,
    ),
    mistake("experiments/specs/profiles/paper.yaml", "max_words: 20", "    max_words: 50\n", "    max_words: 20\n", A2),
    mistake(
        "experiments/specs/profiles/paper.yaml",
        "schedule: constant",
        "    schedule: cosine-epoch\n",
        "    schedule: constant\n",
        A2,
    ),
]
