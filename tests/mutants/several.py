"""Mistakes in what several processes share out and put together again."""

from tests.mutants.mutant import mistake

TESTS = "tests/test_processes.py::test_"
SHARES = f"{TESTS}two_processes_are_two_shares_in_one"
PARTS = f"{TESTS}with_dropout_they_are_the_parts_of_an_accumulated_batch"
OWN_CHOICE = f"{TESTS}a_loss_of_its_own_choice_may_leave_weights_unused"

MUTANTS = [
    mistake(
        "rasa/training/processes.py",
        "losses of processes summed",
        "losses / self.size, strict",
        "losses, strict",
        SHARES,
    ),
    mistake(
        "rasa/training/processes.py",
        "image features pushed as text features",
        "self._gathered(out.text_feature_m)",
        "self._gathered(out.image_feature_m)",
        SHARES,
    ),
    mistake(
        "rasa/training/processes.py",
        "features in the opposite order of processes",
        "return torch.cat(found)",
        "return torch.cat(found[::-1] if rows.dim() > 1 else found)",
        SHARES,
    ),
    mistake(
        "rasa/training/processes.py",
        "weights without a gradient are waited for",
        "find_unused_parameters=True, gradient",
        "find_unused_parameters=False, gradient",
        OWN_CHOICE,
    ),
    mistake(
        "rasa/training/accumulation.py",
        "every process draws as the first",
        "parts.of(process)",
        "parts.of(0)",
        SHARES,
    ),
    mistake(
        "rasa/training/accumulation.py",
        "processes forget that a batch is accumulated",
        "math.lcm(accumulation, processes)",
        "max(processes, 1 if processes > 1 else accumulation)",
        PARTS,
    ),
    mistake(
        "rasa/data/loader.py",
        "every process loads the first rows",
        "slice(process * each, (process + 1) * each)",
        "slice(0, each)",
        SHARES,
    ),
    mistake(
        "rasa/training/state.py",
        "another number of processes goes on",
        "if saved.processes != now.processes:",
        "if False:",
        f"{TESTS}a_checkpoint_is_gone_on_with_by_as_many_processes",
    ),
]
