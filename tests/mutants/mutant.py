"""What a deliberate mistake is, and the names of the tests that notice most of them."""

from pathlib import Path
from typing import NamedTuple


class Mutant(NamedTuple):
    """A mistake in one file; `edits` are pairs of an old text, which must stand there once, and a new one."""

    file: str
    name: str
    edits: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]

    def problem(self, root: Path) -> str | None:
        """What is wrong with the entry itself; None if the mistake can be made."""
        text = (root / self.file).read_text()
        for old, _ in self.edits:
            if text.count(old) != 1:
                return f"{self.file}: {self.name}: {old!r} stands there {text.count(old)} times, not once"
        if self.file.endswith(".py"):
            compile(self.applied(text), self.file, "exec")
        files = {test.split("::")[0] for test in self.tests}
        return next((f"{self.name}: no file {file}" for file in files if not (root / file).is_file()), None)

    def applied(self, text: str) -> str:
        """The file's text with the mistake in it. What is swapped is swapped at once."""
        marks = [f"\0{number}\0" for number in range(len(self.edits))]
        for mark, (old, _) in zip(marks, self.edits, strict=True):
            text = text.replace(old, mark)
        for mark, (_, new) in zip(marks, self.edits, strict=True):
            text = text.replace(mark, new)
        return text


def field(name: str) -> str:
    """The test that two values of this config field differ in what they do."""
    return f"tests/test_every_field.py::test_a_field_changes_what_it_should[{name}]"


def plain(row: str, preset: str) -> str:
    """The test that this row's losses and gradients are those of the plain step."""
    return f"tests/test_plain.py::test_fast_step_is_the_plain_one[{row}-{preset}]"


def six_steps(scenario: str) -> str:
    """The test that six steps of a run are those of the plain recipe."""
    return f"tests/test_recipe_golden.py::test_six_steps_of_a_run_are_those_of_the_plain_recipe[{scenario}]"


def draw(test: str) -> str:
    """A test of what draws depend on."""
    return f"tests/test_every_draw.py::{test}"


def mistake(file: str, name: str, old: str, new: str, *tests: str, also: tuple[tuple[str, str], ...] = ()) -> Mutant:
    """A mistake of one edit, or with `also` of several."""
    return Mutant(file, name, ((old, new), *also), tests)


RECORDED = "tests/test_recipe_golden.py::test_losses_of_three_steps"
RECORDED_WEIGHTS = "tests/test_recipe_golden.py::test_weights_after_three_steps"
RECORDED_QUEUES = "tests/test_recipe_golden.py::test_queues_after_the_first_and_third_step"
MOMENTUM_DROPOUT = "tests/test_recipe_golden.py::test_dropout_in_the_momentum_model_is_as_the_fidelity_says"
SHARES = "tests/test_plain.py::test_ranks_are_processes_one_after_the_other"
GALLERIES = "tests/test_recipe_galleries.py"
PROBE = "tests/test_probe_recomputed.py"
PRETRAINING = "tests/test_pretrain_recomputed.py"
PROFILES = "tests/test_profiles_frozen.py"
A2 = f"{PROFILES}::test_the_paper_profile_is_appendix_a2_value_by_value"
FIGURE4 = f"{PROFILES}::test_a_point_of_figure_4_differs_from_m_rtd_in_its_parameter_alone"
