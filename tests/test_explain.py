"""`rasa explain`, `show --all` and `schema`: every field in words, in YAML, for editors; nothing that needs data."""

import json
import re
from importlib.resources import files

import pytest

from experiments.commented import commented
from experiments.explain import explain, lines
from experiments.fields import fields
from experiments.schema import profile_schema, suite_schema
from experiments.sources import CODE, TEXT
from experiments.spec import load_suite, profile_names, resolve_without_data, suite_names
from experiments.wording import field_paths
from experiments.yaml_io import load, load_mapping
from rasa.commands.cli import main
from rasa.config.run import Config
from rasa.errors import SpecError
from studies.schema_command import space_schema
from studies.space import space_names
from tests.helpers.json_schema import faults
from tests.test_profiles_frozen import APPENDIX_A2

FIELDS = {field.name: field for field in fields()}
ROWS = [(suite, row.name) for suite in suite_names() for row in load_suite(suite).rows]


def test_every_field_has_a_sentence_a_type_and_a_default():
    assert [*FIELDS] == list(field_paths(Config))
    for field in FIELDS.values():
        assert field.sentence.endswith(".") or field.sentence, field.name
        assert field.kind and (field.default or field.model), field.name


@pytest.mark.parametrize(
    ("name", "kind", "default"),
    [
        ("objectives.p_weak", "a number from 0 to 1", "0.1"),
        ("objectives.p_mask", "a number above 0 below 1", "0.3"),
        ("objectives.generator", "fixed, online, momentum or null", "null"),
        ("objectives.weights", "a mapping of cl, itc, itm, prd, mlm, rtd", "must be given"),
        ("objectives.weights.prd", "a number above 0", "off"),
        ("model.text_layers", "a whole number from 1 on", "6; 12 with model.backbone clip"),
        ("data.max_words", "a whole number from 1 on", "50; 30 with data.format cub or flowers"),
        ("data.image_size", "a list of 2 whole numbers", "[384, 384]"),
        ("data.synthetic.seed", "a whole number from 0 below 4294967296", "0"),
        ("data.target", "a section or null", ""),
        ("optimisation.compile", "true or false or auto", "false"),
        ("optimisation.learning_rate", "a number above 0", "1e-05"),
        ("fidelity.mlm_mask_rate", "a number above 0 below 1 or null", "0.15 (preset released), null (preset paper)"),
        ("fidelity.rtd_choice", "sample or argmax", "sample"),
    ],
)
def test_what_may_stand_in_a_field_and_what_stands_there_if_nothing_is_said(name, kind, default):
    assert (FIELDS[name].kind, FIELDS[name].default) == (kind, default)


def test_a_field_explained():
    assert list(lines(explain("objectives.p_weak"))) == [
        "objectives.p_weak: Probability p^w of a weak caption under `probabilistic`.",
        "",
        "  may be   a number from 0 to 1",
        "  default  0.1",
        "  paper    0.1 (the paper, Appendix A.2; 4.4 and Figure 4 vary it and find 0.1 best)",
        "  run id   part of it",
        "  set by   figure4/p-weak: 0.0, 0.1, 0.2, 0.3, 0.5",
        "           table4, all rows: 0.1",
    ]
    told = {each.where: each.value for each in explain("objectives.positives").settings}
    assert told["table4/p-itm, p-itm-prd, mlm, f-rtd, o-rtd, m-rtd"] == "probabilistic"
    assert told["figure4/p-weak-0.0"] == "annotated"  # what else a point changes
    told = {each.where: each.value for each in explain("objectives.weights").settings}
    assert told["figure4/lambda1"] == "prd 0.1, 0.3, 0.5, 0.7, 1.0" and "figure4/lambda1-0.1" not in told
    told = {each.where: each.value for each in explain("model.backbone").settings}
    assert told["table8/clip, rasa-clip at synth"] == "clip"
    assert {each.where: each.value for each in explain("fidelity.preset").settings}["profile synth"] == "paper"


def test_the_papers_value_is_that_of_its_profile_and_the_place_is_named():
    """What the record of A.2 has from the text has a place in the text, what it has from the code one in the code."""
    names = list(APPENDIX_A2)
    of_text = names[: names.index("objectives.alpha")]
    assert set(of_text) <= TEXT.keys() and not TEXT.keys() & CODE.keys() and TEXT.keys() | CODE.keys() <= FIELDS.keys()
    for name in (*of_text, "objectives.alpha"):
        value = APPENDIX_A2[name]
        shown = value if isinstance(value, str) else json.dumps(value)
        assert explain(name).paper == shown, name
    assert explain("objectives.alpha").source.startswith("the released code, ")
    found = explain("fidelity.mlm_mask_rate")
    assert (found.paper, found.source.rpartition(" ")[2]) == ("null", "0.15")
    for sweep in load_suite("figure4").sweeps:
        assert re.search(r"finds? (\S+) best", TEXT[sweep.parameter])[1] == str(sweep.paper_best)


def test_which_fields_make_another_run():
    for name, said in (
        ("optimisation.threads", "not part of it"),
        ("model.weights", "by content"),
        ("data.root", "by content"),
        ("data.synthetic.noise", "by content"),
        ("model.dropout", "part of it"),
    ):
        assert explain(name).run_id.startswith(said), name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("objectives.p_waek", "no config field 'objectives.p_waek'; did you mean objectives.p_weak?"),
        ("objective.p_weak", "did you mean objectives.p_weak?"),
        ("batch_size", "batch_size may be optimisation.batch_size or evaluation.batch_size; give one of them"),
        ("xyz", "no config field 'xyz'; the sections are data, model, objectives, optimisation, evaluation, fidelity"),
    ],
)
def test_an_unknown_field_gets_the_nearest_ones(name, said):
    with pytest.raises(SpecError) as caught:
        explain(name)
    assert said in str(caught.value)


def out(capsys, *words, code=0):
    assert main(list(words)) == code
    return capsys.readouterr().out


def test_the_last_part_of_a_name_sections_and_fields_of_files(capsys):
    assert out(capsys, "explain", "p_mask").startswith("objectives.p_mask: Share p^m")
    assert out(capsys, "explain", "grid").startswith("rows.grid (of a suite's file): Config fields, each with a list")
    section = out(capsys, "explain", "evaluation").splitlines()
    assert section[0].startswith("evaluation: Two-stage retrieval") and len(section) == 2 + len(
        [name for name in FIELDS if name.startswith("evaluation.")]
    )
    assert [line.split()[0] for line in out(capsys, "explain").splitlines()][1:3] == ["data", "model"]
    told = json.loads(out(capsys, "explain", "objectives.generator", "--json"))
    assert told["paper"] == {"value": "momentum", "source": "the paper, 3.3; Table 4 has the other two"}
    assert {"where": "table4/o-rtd", "value": "online"} in told["set_by"]


@pytest.mark.parametrize("profile", profile_names())
def test_commented_yaml_is_the_config(profile):
    for row in ("cl", "m-rtd"):
        config, _ = resolve_without_data(load_suite("table4"), row, profile, ())
        values = config.model_dump(mode="json", exclude={"seed"})
        assert load(commented(values), "shown") == values


def test_every_field_stands_in_what_show_all_prints(capsys):
    """Each once, with its sentence over it; sections that are not there, and what must be given, as comments."""
    text = out(capsys, "show", "--all")
    found = re.findall(r"^ *(?:# )?(\w+):(?: |$)", text, re.MULTILINE)
    joined = re.sub(r"\n *# ", " ", text)
    for name, field in FIELDS.items():
        if name != "seed" and not name.startswith("objectives.weights."):
            assert name.rpartition(".")[2] in found and " ".join(field.sentence.split()) in joined, name
    values = load(text, "shown")
    assert values["data"]["synthetic"] is None and "weights" not in values["objectives"]
    assert values["optimisation"]["epochs"] == 30 and values["fidelity"]["mlm_mask_rate"] == 0.15


def test_the_paper_profile_is_shown_without_its_data(capsys):
    text = out(capsys, "show", "table4/m-rtd", "--profile", "paper")
    assert text.startswith("# data.root is not set: yours to give, e.g. -o data.root=DIR\n")
    values = load(text, "shown")
    assert values["data"]["root"] is None and values["optimisation"]["batch_size"] == 52
    assert "# data.root" not in out(capsys, "show", "table4/m-rtd", "--profile", "paper", "-o", "data.root=here")
    text = out(capsys, "show", "table7/rasa-c-to-i", "--profile", "paper")
    assert text.splitlines()[1].startswith("# data.target.root is not set")
    assert out(capsys, "show", "--diff", "table4/mlm", "table4/f-rtd", "--profile", "paper").splitlines() == [
        "objectives.weights.rtd: null -> 0.5",
        'objectives.generator: null -> "fixed"',
    ]
    assert main(["show", "table4/m-rtd", "--profile", "paper", "-o", "data.flip_probability=3"]) == 3
    assert "data.flip_probability: input should be less than or equal to 1" in capsys.readouterr().err


SCHEMAS = {"specs": suite_schema, "specs/profiles": profile_schema}


@pytest.mark.parametrize("folder", SCHEMAS)
def test_every_file_of_the_package_follows_its_schema(folder):
    schema, names = SCHEMAS[folder](), suite_names() if folder == "specs" else profile_names()
    for name in names:
        values = load_mapping((files("experiments") / folder / f"{name}.yaml").read_text(), name)
        assert faults(values, schema) == [], name


def test_every_space_of_the_package_follows_its_schema():
    for name in space_names():
        values = load_mapping((files("studies") / "spaces" / f"{name}.yaml").read_text(), name)
        assert faults(values, space_schema()) == [], name
    short = {"study": "s", "row": "table4/m-rtd", "parameters": {"objectives.generator": ["online", "momentum"]}}
    assert faults(short, space_schema()) == []
    assert faults(short | {"parameters": {"objectives.p_weak": {"lwo": 1}}}, space_schema()) != []


MINE = {"suite": "mine", "rows": [{"name": "r", "extends": "table4/m-rtd"}]}


@pytest.mark.parametrize(
    ("row", "at"),
    [
        ({}, ""),
        ({"changes": {"fidelity": "paper", "objectives": {"weights": {"cl": 1}}}}, ""),
        ({"grid": {"objectives.p_weak": [0.1], "optimisation": {"epochs": [1]}}}, ""),
        ({"at": {"synth": {"data": {"image_size": [96, 48]}}}}, ""),
        ({"nmae": "x"}, "rows.0.nmae"),
        ({"changes": {"objectives": {"p_weka": 1}}}, "rows.0.changes.objectives.p_weka"),
        ({"changes": {"objectives": {"p_weak": 2}}}, "rows.0.changes.objectives.p_weak"),
        ({"changes": {"objectives": {"weights": {"rdt": 1}}}}, "rows.0.changes.objectives.weights.rdt"),
        ({"changes": {"seed": 1}}, "rows.0.changes.seed"),
        ({"changes": {"fidelity": "papre"}}, "rows.0.changes.fidelity"),
        ({"at": {"synth": {"data": {"image_size": [96]}}}}, "rows.0.at.synth.data.image_size"),
        ({"grid": {"objectives.p_weak": 0.1}}, "rows.0.grid.objectives.p_weak"),
    ],
)
def test_an_editor_sees_what_is_wrong_and_where(row, at):
    values = {**MINE, "rows": [MINE["rows"][0] | row]}
    found = faults(values, suite_schema())
    assert [fault.partition(":")[0].removeprefix(".") for fault in found] == ([at] if at else [])


def test_points_and_words_of_sweeps_are_in_the_schema():
    sweep = {"name": "g", "label": "G", "parameter": "objectives.generator", "extends": "table4/m-rtd"}
    mine = {"suite": "mine", "sweeps": [sweep | {"points": ["fixed", {"value": "online", "changes": {}}]}]}
    assert faults(mine, suite_schema()) == []
    mine["sweeps"][0]["points"] = ["fixed"]
    assert faults(mine, suite_schema()) != []


@pytest.mark.parametrize("kind", ["spec", "space", "profile"])
def test_the_command_prints_the_schema(capsys, kind):
    made = {"spec": suite_schema, "space": space_schema, "profile": profile_schema}[kind]()
    assert json.loads(out(capsys, "schema", kind)) == made
    assert made["$defs"]["Objectives"]["properties"]["p_weak"]["description"].startswith("Probability p^w")
    assert "required" not in made["$defs"]["Objectives"] and "seed" not in made["$defs"]["Config"]["properties"]


def test_a_suite_without_rows_for_rasa_run_is_refused_by_its_number_of_rows(capsys):
    assert main(["show", "figure4/p-weak"]) == 2
    assert "figure4/p-weak has 5 rows; name one: figure4/p-weak-0.0, figure4/p-weak-0.1" in capsys.readouterr().err
