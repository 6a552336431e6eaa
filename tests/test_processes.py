"""Several processes that train one run: the numbers of one process whose batch is cut into their shares."""

import pytest
import torch

from rasa.config.run import Config
from rasa.data.load import load_dataset
from rasa.data.tokenizer import build_tokenizer
from rasa.errors import ResourceError
from rasa.training.inputs import training_pairs
from rasa.training.processes import ALONE, Processes
from rasa.training.state import Progress, check_resumable
from tests.helpers.people import write_people
from tests.helpers.several import EPOCHS, PAIRS, differences, together, trained_until, trajectories
from tests.helpers.short_runs import row
from tests.helpers.tiny_step import ROWS

TABLE4 = [name for name in ROWS if not name.startswith("itc")]
PRESETS = ("paper", "released")


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("people"))


def config(people, name, preset, ranks, dropout=0.0, epochs=EPOCHS, **optimisation):
    optimisation = {"batch_size": PAIRS, "epochs": epochs} | optimisation
    fidelity = {"preset": preset, "ranks": ranks}
    made = row(people, name, fidelity=fidelity, model={"dropout": dropout}, optimisation=optimisation)
    return made | {"seed": 3}


def compared(size, configs, folder, alone=None):
    """Names of what differs between `size` processes and one that trains `alone`, if that is another config.

    Also of what differs at all between the first process and another.
    """
    several = together(size, folder / "several", trajectories, configs, folder)
    one = trajectories(ALONE, alone or configs, folder)
    found = {}
    for name in configs:
        found[name] = differences(several[0][name], one[name])
        for other in several[1:]:
            tensors = other[name]["tensors"]
            found[name] += [k for k, v in several[0][name]["tensors"].items() if not torch.equal(v, tensors[k])]
    return {name: names for name, names in found.items() if names}, one


def test_two_processes_are_two_shares_in_one(people, tmp_path):
    """Losses, gradients, queues and weights after the steps of two epochs, of two rows, in both presets."""
    rows = {f"{n} {p}": config(people, n, p, 2, epochs=2) for n in ("cl", "m-rtd") for p in PRESETS}
    found, one = compared(2, rows, tmp_path)
    assert found == {}
    assert len(one["cl paper"]["logged"]) == 8


@pytest.mark.parametrize("workers", [0, 1])
def test_a_process_is_given_its_rows_of_the_batches_whatever_the_workers(people, workers):
    """Images, both captions with the batch's length, mirroring, labels: the rows of the loader of one process."""

    def batches(process, processes, workers):
        of = {"seed": 4, "data": config(people, "m-rtd", "released", 2)["data"] | {"workers": workers}}
        made = Config.model_validate(config(people, "m-rtd", "released", 2) | of)
        dataset = load_dataset(made.data)
        words = build_tokenizer("captions", dataset.splits["train"].captions, 200)
        group = Processes(process, processes)
        return list(training_pairs(dataset, "train", words, made, None, False, print, group).epoch(1))

    whole = batches(0, 1, 0)
    for process in (0, 1):
        rows = slice(process * 8, process * 8 + 8)
        for ours, all_of_it in zip(batches(process, 2, workers), whole, strict=True):
            for name in ("images", "weak", "identity"):
                assert torch.equal(getattr(ours, name), getattr(all_of_it, name)[rows])
            assert torch.equal(ours.flip, all_of_it.flip[:, rows])
            for name in ("annotated", "matched"):
                for mine, theirs in zip(getattr(ours, name), getattr(all_of_it, name), strict=True):
                    assert torch.equal(mine, theirs[rows])


def test_with_dropout_they_are_the_parts_of_an_accumulated_batch(people, tmp_path):
    """A process draws its dropout as the part of a batch does that one process accumulates.

    Fewer parts than processes are cut further, more are shared out: 4 parts over 2 processes are the same 4 parts.
    """
    parts = {"as many": 1, "more": 4}
    several = {n: config(people, "m-rtd", "released", 4, 0.1, 1, accumulation=a) for n, a in parts.items()}
    alone = several | {"as many": config(people, "m-rtd", "released", 4, 0.1, 1, accumulation=2)}
    assert compared(2, several, tmp_path, alone)[0] == {}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_rows_in_two_processes(people, tmp_path):
    """Twenty steps of 2 x 8 pairs, the ten rows in both presets, with the steps' losses to 1e-10."""
    rows = {f"{n} {p}": config(people, n, p, 2) for n in TABLE4 for p in PRESETS}
    assert len(rows) == 20
    found, one = compared(2, rows, tmp_path)
    assert found == {} and all(len(each["logged"]) == 20 for each in one.values())


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_four_processes_are_four_shares(people, tmp_path):
    rows = {p: config(people, "m-rtd", p, 4) for p in PRESETS}
    rows["accumulated"] = config(people, "m-rtd", "released", 4, 0.1, accumulation=4)
    assert compared(4, rows, tmp_path)[0] == {}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_three_processes_that_begin_again_end_in_the_same_bits(people, tmp_path):
    """A sum of three has more than one order, and it is that of the unbroken run."""
    made = config(people, "m-rtd", "released", 3, 0.1, epochs=1, batch_size=12)
    whole = together(3, tmp_path / "a", trained_until, made, tmp_path / "whole", 6)
    together(3, tmp_path / "b", trained_until, made, tmp_path / "broken", 2)
    again = together(3, tmp_path / "c", trained_until, made, tmp_path / "broken", 6)
    for one, other in zip(whole, again, strict=True):
        assert [name for name in one if not torch.equal(one[name], other[name])] == []
        assert [name for name in one if not torch.equal(one[name], whole[0][name])] == []


def test_a_loss_of_its_own_choice_may_leave_weights_unused(people, tmp_path):
    """Without CL the temperature and the projections have no gradient, in one process and in several."""
    own = config(people, "itm", "paper", 2, epochs=1)
    own["objectives"] |= {"weights": {"itm": 1.0}}
    found, one = compared(2, {"itm alone": own}, tmp_path)
    assert found == {}
    assert "gradient temperature" not in one["itm alone"]["tensors"]


@pytest.mark.parametrize("name", TABLE4)
def test_no_row_has_a_weight_that_it_does_not_use(people, tmp_path, name):
    made = config(people, name, "released", 1, epochs=1, max_steps_per_epoch=1)
    tensors = trajectories(ALONE, {"one": made}, tmp_path)["one"]["tensors"]
    weights, gradients = ({n.split()[1] for n in tensors if n.startswith(kind)} for kind in ("weight ", "gradient "))
    assert weights == gradients


def test_a_checkpoint_is_gone_on_with_by_as_many_processes(tmp_path):
    """Of another number the order of sums and dropout's draws are others: one line names the number that was."""
    of = lambda processes: Progress(identity={}, digests={}, processes=processes)
    check_resumable(of(4), of(4), tmp_path)
    with pytest.raises(ResourceError, match="made with --devices 4, not 1; go on with --devices 4, or remove"):
        check_resumable(of(4), of(1), tmp_path)
    assert Progress.model_validate({"identity": {}, "digests": {}}).processes == 1  # checkpoints from before


def test_a_process_has_a_gpu_of_its_own(monkeypatch):
    chosen = []
    monkeypatch.setattr("rasa.training.processes.pick_device", torch.device)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", chosen.append)
    assert Processes(3, 4, 1).device("cuda") == torch.device("cuda", 1) and chosen == [1]
    assert Processes(3, 4, 3).device("cpu") == torch.device("cpu")
    assert ALONE.device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ResourceError, match="2 GPUs are visible here; give --devices 2, or -o optimisation.device=cpu"):
        Processes(2, 3, 2).device("cuda")
    with pytest.raises(ResourceError, match="cuda:1 is one GPU, but 2 processes train; give auto"):
        Processes(0, 2, 0).device("cuda:1")


def test_the_number_of_processes_is_no_part_of_a_config():
    assert "processes" not in repr(Config.model_fields) and "devices" not in repr(Config.model_fields)
