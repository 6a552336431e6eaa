"""Storages of another Optuna, and studies by the names that they have in their storage."""

import json
import sqlite3

import pytest

from rasa.commands.cli import main
from rasa.errors import ResourceError, SpecError
from studies.reading import begun
from studies.space import load_space
from studies.storage import elsewhere, open_storage, remember
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
        found = begun(storage, name)
        assert (found.name, found.profile, found.overrides) == ("mine", "smoke", ())  # of an older version: no options
        assert found.space.model_dump() == space.model_dump()
    with pytest.raises(SpecError, match="two is the name of several studies: two/smoke, two/synth; give one of these"):
        begun(storage, "two")
    assert begun(storage, "two/synth").profile == begun(storage, "two", "synth").profile == "synth"
    assert begun(storage, "two", usual="smoke").profile == "smoke"
    assert begun(storage, "none") is None and begun(storage, "mine", "synth") is None


def test_where_a_study_is_kept_is_noted_and_never_a_password(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    remember(tmp_path, "mine/smoke", "journal:///some/where.log")
    remember(tmp_path, "mine/synth", "sqlite:///studies.db")  # from the working folder
    remember(tmp_path, "theirs/smoke", "postgresql://ann:secret@host/db")
    remember(tmp_path, "ours/smoke", "postgresql://ann@host/db")
    assert elsewhere(tmp_path, "mine/smoke") == [f"journal:///{tmp_path / 'some/where.log'}"]
    assert elsewhere(tmp_path, "mine/synth") == [f"sqlite:///{tmp_path / 'studies.db'}"]
    assert len(elsewhere(tmp_path, "mine")) == 2 and elsewhere(tmp_path, "theirs") == elsewhere(tmp_path, "no") == []
    assert elsewhere(tmp_path, "ours") == ["postgresql://ann@host/db"]
    assert "secret" not in (tmp_path / "studies" / "storages.json").read_text()


def test_a_study_in_another_storage_is_read_by_its_name(tmp_path, capsys):
    """Without --storage, and with a study of no such name in the workspace's journal."""
    import optuna

    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    optuna.create_study(storage=open_storage(url, tmp_path).optuna, study_name="relation/smoke")
    remember(tmp_path, "relation/smoke", url)
    for name in ("relation", "relation/smoke"):
        assert main(["study", "status", name, "--workspace", str(tmp_path), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["study"] == "relation/smoke"
    remember(tmp_path, "relation/synth", f"sqlite:///{tmp_path / 'other.db'}")
    assert main(["study", "status", "relation", "--workspace", str(tmp_path)]) == 3
    assert "relation was begun in several storages: sqlite:///" in capsys.readouterr().err
    assert main(["study", "status", "relation/smoke", "--workspace", str(tmp_path)]) == 0
