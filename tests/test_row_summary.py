"""A row's figures and parameters from its seeds by hand, and notes in which what comes from outside is text."""

import html
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import notes
from experiments.rundir import About
from experiments.summary import Seed, differs, own_fields, shared, summary
from experiments.tracking import LONGEST_NAME, NOTE, row_name, seed_name
from rasa.config.run import Config

ABOUT = About.model_validate(
    {
        **dict.fromkeys(("run_id", "profile", "row_digest", "data_digest", "weights_digest", "data_name"), "x"),
        "suite": "own",
        "row": "m-rtd",
        "seed": 3,
        "title": "A <b>title</b>",
        "order": 0,
        "data_root": "",
        "labels": {"Module": "<script>alert(1)</script>", "Setting": ""},
        "paper": {"r1": 76.51},
        "versus": "o-rtd",
        "identity": {},
    }
)
NEW = {"val_last/r1": 1.0}  # what a run of this version has


def seed(number, figures, state="finished", began=0, params=None):
    return Seed(f"run-{number}-{began}", str(number), state, "FINISHED", began, figures, params or {})


def test_mean_standard_deviation_and_n_by_hand():
    """Of 40, 43 and 46: mean 43; squared distances 9 + 0 + 9, by n - 1 = 2: sd 3."""
    found = summary([seed(number, {"test/r1": 40.0 + 3 * number}) for number in range(3)])
    assert found == {"test/r1": 43.0, "test/r1_sd": 3.0, "test/r1_n": 3.0}
    assert summary([seed(0, {"test/r1": 40.0})]) == {"test/r1": 40.0, "test/r1_n": 1.0}
    assert summary([]) == {}


def test_only_finished_seeds_count_each_once_by_its_newest_training():
    seeds = [
        seed(0, {"test/r1": 10.0}, began=2),
        seed(0, {"test/r1": 50.0}, began=1),
        seed(1, {"test/r1": 20.0}),
        seed(2, {"test/r1": 90.0}, state="running"),
        seed(3, {"test/r1": 90.0}, state="failed"),
        seed(4, {"test/r1": 90.0}, state="superseded"),
    ]
    assert summary(seeds)["test/r1"] == 15.0 and summary(seeds)["test/r1_n"] == 2.0
    assert summary(list(reversed(seeds))) == summary(seeds)


def test_what_is_no_number_is_not_counted():
    values = (1.0, math.nan, math.inf, 1.7976931348623157e308, 3.0)  # sqlite keeps infinity as the largest number
    found = summary([seed(number, {"train/loss": value}) for number, value in enumerate(values)])
    assert found == {"train/loss": 2.0, "train/loss_sd": math.sqrt(2), "train/loss_n": 2.0}


def test_the_last_epoch_of_an_older_run_is_not_taken_for_the_chosen_one():
    old, new = seed(0, {"val/r1": 10.0, "test/r1": 1.0}), seed(1, {"val/r1": 30.0, "test/r1": 3.0} | NEW)
    found = summary([old, new])
    assert (found["val/r1"], found["val/r1_n"], found["test/r1"], found["test/r1_n"]) == (30.0, 1.0, 2.0, 2.0)


def test_a_row_differs_if_any_figure_does_and_not_by_rounding():
    assert differs({"a": 1.0}, {}) and differs({"a": 1.0}, {"a": 1.0 + 1e-9})
    assert not differs({"a": 1 / 3}, {"a": 0.33333333333333337, "b": 2.0})


def test_a_row_has_what_all_its_seeds_were_told_and_nothing_of_where_they_ran():
    told = {"seed": "0", "data.root": "/a", "optimisation.threads": "1", "optimisation.epochs": "2", "extra": "1"}
    seeds = [seed(0, {}, params=told), seed(1, {}, params=told | {"seed": "1", "extra": "2"}), seed(2, {})]
    assert shared(seeds) == {"optimisation.epochs": "2"}
    assert shared(seeds[:1]) == {"optimisation.epochs": "2", "extra": "1"}  # not its seed, which another will not share
    assert shared([]) == {}


def test_a_row_s_own_fields_are_those_that_no_run_id_knows():
    fields = own_fields()
    assert {"seed", "data.root", "data.target.root", "optimisation.threads"} <= fields
    assert not fields & {"optimisation.epochs", "objectives.p_weak", "data.image_size"}
    assert all(name.split(".")[0] in Config.model_fields for name in fields)


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "[a](javascript:x)", "# big", "`code` $x$", "a\n\n- b"])
def test_text_in_a_note_has_no_sign_that_means_something(text):
    shown = notes.as_text(text)
    assert "<" not in shown and "\n" not in shown
    assert re.search(r"(?<!\\)[\[\]`#$*_]", shown) is None


@given(st.text())
def test_text_in_a_note_reads_as_it_was(text):
    shown = html.unescape(re.sub(r"\\([\\`*_{}\[\]()#+.!|~$-])", r"\1", notes.as_text(text)))
    assert shown == " ".join(text.split())


def test_the_notes_of_a_suite_and_a_row():
    suite = notes.of_suite(ABOUT, built_in=True)[NOTE]
    assert suite.startswith("**A &lt;b&gt;title&lt;/b&gt;**\n")
    assert "\nrasa run own --profile" in suite and "rasa gallery own/ROW" in suite and "m-rtd" not in suite
    assert "rasa run FILE.yaml" in notes.of_suite(ABOUT, built_in=False)[NOTE]
    row = notes.of_row(ABOUT)
    assert row.splitlines()[0] == r"- Module: &lt;script&gt;alert\(1\)&lt;/script&gt;"
    assert row.splitlines()[1:] == ["- Published: r1 76.51", r"- A step further than: o\-rtd"]


def test_a_note_of_ours_is_renewed_and_one_that_a_person_wrote_stays():
    old, new = notes.described("old"), notes.described("new")
    assert notes.renewed(new, {}) == new and notes.renewed(new, old) == new
    assert notes.renewed(new, new) == {}
    assert notes.renewed(new, old | {NOTE: "mine"}) == {} and notes.renewed(new, {NOTE: "mine"}) == {}


def test_a_long_note_ends_with_a_whole_paragraph_and_says_where_the_rest_is():
    paragraphs = ["a" * 3000, "b" * 3000, "Next:", "c" * 3000]
    assert notes.shortened("\n\n".join(paragraphs[:2]), "more") == "\n\n".join(paragraphs[:2])
    assert notes.shortened("\n\n".join(paragraphs), "more") == "\n\n".join([*paragraphs[:2], "more"])


def test_names_tell_row_seed_and_what_was_overridden_and_fit_a_database():
    assert (seed_name(ABOUT), row_name(ABOUT)) == ("m-rtd/seed-3", "m-rtd")
    changed = ABOUT.model_copy(update={"variant": "optimisation.epochs=2"})
    assert seed_name(changed) == "m-rtd/seed-3 (optimisation.epochs=2)"
    long = seed_name(ABOUT.model_copy(update={"variant": "x" * 500}))
    assert len(long) == LONGEST_NAME <= 250 and long.endswith("…")
