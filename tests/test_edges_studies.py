"""Storages of another Optuna, and studies by the names that they have in their storage."""

import sqlite3

import pytest

from rasa.errors import ResourceError
from studies.reading import space_of
from studies.space import load_space
from studies.storage import open_storage
from studies.trials import SPACE


@pytest.mark.parametrize(
    "changes",
    [
        [
            "update alembic_version set version_num = 'v3.0.0.d'",
            "update version_info set schema_version = 12, library_version = '3.0.0'",
        ],
        ["update alembic_version set version_num = 'of the future'"],
    ],
)
@pytest.mark.parametrize("reading", [False, True])
def test_another_optuna_s_tables_are_a_line_with_what_to_do(tmp_path, changes, reading):
    url = f"sqlite:///{tmp_path / 'o.db'}"
    open_storage(url, tmp_path)
    with sqlite3.connect(tmp_path / "o.db") as connection:
        for change in changes:
            connection.execute(change)
    with pytest.raises(
        ResourceError, match=r"o.db: is not of Optuna .*give another --storage, or .*optuna storage upgrade"
    ):
        open_storage(url, tmp_path, reading)


def test_another_optuna_s_journal_is_a_line(tmp_path):
    journal = tmp_path / "journal.log"
    open_storage(f"journal:///{journal}", tmp_path)
    journal.write_text('{"op_code": 99, "worker_id": "x"}\n')
    with pytest.raises(ResourceError, match="journal.log"):
        open_storage(f"journal:///{journal}", tmp_path)


def test_a_study_is_found_by_its_name_with_and_without_the_profile(tmp_path):
    import optuna

    file = tmp_path / "mine.yaml"
    file.write_text(
        "study: mine\nrow: table4/cl\nprofile: smoke\nparameters:\n"
        "  optimisation.learning_rate: {low: 1e-4, high: 1e-2, log: true}\n"
    )
    space, storage = load_space(str(file)), open_storage(None, tmp_path)
    for name in ("mine/smoke", "two/smoke", "two/synth"):
        study = optuna.create_study(storage=storage.optuna, study_name=name)
        study.set_user_attr(SPACE, space.model_dump(mode="json"))
    for name in ("mine", "mine/smoke"):
        found, profile = space_of(storage, name)
        assert (found.model_dump(), profile) == (space.model_dump(), "smoke")
    assert space_of(storage, "two") is None  # of which profile?
    assert space_of(storage, "two/synth")[1] == "synth"
    assert space_of(storage, "none") is None
