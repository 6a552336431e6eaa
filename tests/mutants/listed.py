"""All mistakes, in the order of a run."""

from tests.mutants import batches, pretraining, retrieval, several, specs, step, training, verdicts

MUTANTS = [
    *step.MUTANTS,
    *training.MUTANTS,
    *batches.MUTANTS,
    *several.MUTANTS,
    *pretraining.MUTANTS,
    *retrieval.MUTANTS,
    *specs.MUTANTS,
    *verdicts.MUTANTS,
]
