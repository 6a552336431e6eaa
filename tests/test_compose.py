"""docs/compose.yaml, by what it says: no Docker is needed. Names, references and addresses fit, and nothing is open."""

import re
import warnings
from pathlib import Path

import pytest
from ruamel.yaml import YAML

FILE = Path(__file__).parents[1] / "docs" / "compose.yaml"
VARIABLE = re.compile(r"\$\{(\w+)(:[-?])?([^}]*)\}")


@pytest.fixture(scope="module")
def compose():
    return YAML(typ="safe", pure=True).load(FILE.read_text())


def test_what_a_service_names_is_there(compose):
    services = compose["services"]
    assert {"name", "services", "configs", "volumes"} == set(compose)
    for service in services.values():
        assert ("image" in service) != ("build" in service)
        for volume in service["volumes"]:
            assert volume.partition(":")[0] in compose["volumes"]
        assert {given["source"] for given in service.get("configs", ())} <= set(compose["configs"])
        for other, wanted in service.get("depends_on", {}).items():
            assert wanted["condition"] == "service_healthy" and "healthcheck" in services[other]


def test_the_server_opens_the_database_that_is_made_and_studies_have_another(compose):
    """Optuna's tables and MLflow's in one database would share `alembic_version`."""
    database, server = compose["services"]["postgres"], compose["services"]["mlflow"]
    made = database["environment"]
    (address,) = [word for word in server["command"] if word.startswith("--backend-store-uri=")]
    user = f"{made['POSTGRES_USER']}:${{RASA_PASSWORD}}@postgres"
    assert address == f"--backend-store-uri=postgresql+psycopg://{user}/{made['POSTGRES_DB']}"
    assert compose["configs"]["studies"]["content"] == "create database studies;"
    assert made["POSTGRES_DB"] != "studies" and "studies" in database["healthcheck"]["test"]


def test_without_an_address_nothing_listens_to_other_machines(compose):
    for service in compose["services"].values():
        for port in service["ports"]:
            (name, kind, default) = VARIABLE.match(port).groups()
            assert (name, kind, default) == ("RASA_ADDRESS", ":-", "127.0.0.1")
    (hosts,) = [word for word in compose["services"]["mlflow"]["command"] if word.startswith("--allowed-hosts")]
    assert "*" not in hosts and hosts.endswith("${RASA_ADDRESS:-127.0.0.1}:5000")


def test_a_password_must_be_given(compose):
    name, kind, told = VARIABLE.match(compose["services"]["postgres"]["environment"]["POSTGRES_PASSWORD"]).groups()
    assert (name, kind) == ("RASA_PASSWORD", ":?") and told


def test_the_server_is_of_the_versions_that_we_lock(compose):
    locked = dict(re.findall(r"^([\w-]+)==([\d.]+)", (FILE.parents[1] / "requirements.lock").read_text(), re.MULTILINE))
    wanted = re.findall(
        r"'([\w]+)(?:\[binary\])?~=([\d.]+)'", compose["services"]["mlflow"]["build"]["dockerfile_inline"]
    )
    assert [name for name, _ in wanted] == ["mlflow", "psycopg"]
    for name, version in wanted:
        major, minor = map(int, version.split("."))
        own = [int(part) for part in locked[name].split(".")[:2]]
        assert own[0] == major and own[1] >= minor


def test_every_option_of_the_server_is_one_of_mlflow_s(compose):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow's own libraries, at import
        from mlflow.cli import server

    known = {option for parameter in server.params for option in parameter.opts}
    given = {word.partition("=")[0] for word in compose["services"]["mlflow"]["command"] if word.startswith("--")}
    assert given and given <= known
