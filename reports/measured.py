"""Tables beside the main ones: the selection of checkpoints, other domains, what the detectors learned, the probe."""

from collections.abc import Mapping, Sequence

from experiments.suite import HEADINGS
from rasa.config.run import DETECTORS
from reports import grid
from reports.grid import NONE, Grid, grid_of
from reports.tables import KINDS, Line, Spread
from reports.words import absent, between, plus_minus, signed, spread, values

SELECTION = "Selection: R@1 of the checkpoint that validation chose, of the last, and of the best on test (an oracle)"
DETECTION_CAPTION = (
    "What the detectors learned, on validation pairs: loss beside that of guessing the base rate (nats), the share of "
    "weak pairs or replaced words, and how well they are found (percent; AUC 50: not at all)"
)
DOMAINS = (
    "Domains: R@1 and mAP on the test split of the data trained on (source) and on that of the other data set "
    "(target), and the drop between them, paired by seed"
)
SENSITIVITY = (
    "Sensitivity: one word of the query exchanged for a wrong one. Noticed: the image scores lower with it (50 %: not "
    "seen), in brackets by stage 1 alone; step: minus the row before, with the t-interval over seeds; R@1 before and "
    "after; factor by which the rank of the first true image grows"
)
Column = grid.Column[Line]


def figure_column(heading: str, name: str) -> Column:
    """A figure in percent over seeds."""

    def text(line: Line) -> str:
        return spread(line.figures[name]) if line.figures[name].n else absent(line, name)

    return Column(heading, text, detail=lambda line: values(line.figures[name], ".1f"))


def selection() -> list[Column]:
    def column(heading: str, name: str) -> Column:
        def text(line: Line) -> str:
            mean = line.figures[name].mean
            return absent(line, name) if mean is None else f"{mean:.1f}"

        return Column(heading, text, detail=lambda line: values(line.figures[name], ".1f"))

    def gap(line: Line) -> str:
        lost = line.figures["oracle_r1"].minus(line.figures["r1"])
        return absent(line, "oracle_r1") if lost.mean is None else signed(lost.mean) + plus_minus(lost, 1)

    return [
        column("Validation, chosen", "val_r1"),
        column("Validation, last", "last_val_r1"),
        column("Test, chosen", "r1"),
        column("Test, last", "last_r1"),
        column("Test, oracle", "oracle_r1"),
        Column("Gap (oracle - chosen)", gap),
    ]


def domains(lines: Sequence[Line], labels: Sequence[Column]) -> list[Grid]:
    """Source beside target, where some run was tested on another data set."""
    moved = [line for line in lines if line.figures["source_r1"].n]
    columns = [column for metric in ("r1", "map") for column in _moved(metric)]
    return [grid_of(DOMAINS, [*labels, *columns], moved)] if moved else []


def _moved(metric: str) -> list[Column]:
    def drop(line: Line) -> str:
        lost = line.figures[metric].minus(line.figures[f"source_{metric}"])
        interval = "" if lost.interval is None else between(*lost.interval, "+.1f")
        return NONE if lost.mean is None else signed(lost.mean) + interval

    heading = HEADINGS[metric]
    return [
        figure_column(f"Source {heading}", f"source_{metric}"),
        figure_column(f"Target {heading}", metric),
        Column("Drop", drop),
    ]


def measured(lines: Sequence[Line], labels: Sequence[Column]) -> list[Grid]:
    """The detectors' figures and the sensitivity probe, each where some run has them."""
    detecting = [line for line in lines if any(line.figures[f"{head}_loss"].n for head in DETECTORS)]
    probed = [line for line in lines if any(line.figures[f"{kind}_apart"].n for kind in KINDS)]
    grids = []
    if detecting:
        columns = [column for head in DETECTORS for column in _detection(head)]
        if any(line.figures["rtd_entropy"].n for line in detecting):
            columns += [_plain("Generator's entropy", "rtd_entropy", 2), _plain("same meaning", "rtd_synonyms")]
        grids.append(grid_of(DETECTION_CAPTION, [*labels, *columns], detecting))
    if probed:
        by_name = {line.name: line for line in lines}
        columns = [column for kind in KINDS for column in _sensitivity(kind, by_name)]
        grids.append(grid_of(SENSITIVITY, [*labels, *columns], probed))
    return grids


def _detection(head: str) -> list[Column]:
    def loss(line: Line) -> str:
        mean, guess = line.figures[f"{head}_loss"].mean, line.figures[f"{head}_guess"].mean
        return NONE if mean is None else f"{mean:.3f}" + ("" if guess is None else f" ({guess:.3f})")

    name = head.upper()
    columns = [Column(f"{name} loss (guess)", loss, detail=lambda line: values(line.figures[f"{head}_loss"], ".3f"))]
    headings = {"base": "share", "recall": "recall", "precision": "precision", "auc": "AUC"}
    return [*columns, *(_plain(f"{name} {text}", f"{head}_{key}") for key, text in headings.items())]


def _sensitivity(kind: str, by_name: Mapping[str, Line]) -> list[Column]:
    def noticed(line: Line) -> str:
        alone = line.figures[f"{kind}_stage1_apart"].mean
        own = line.figures[f"{kind}_apart"]
        return NONE if own.mean is None else spread(own) + ("" if alone is None else f" ({alone:.1f})")

    def fallen(line: Line) -> str:
        before, after = line.figures[f"{kind}_r1"].mean, line.figures[f"{kind}_r1_exchanged"].mean
        return NONE if before is None or after is None else f"{before:.1f} to {after:.1f}"

    def step(line: Line) -> str:
        before = by_name[line.versus].figures[f"{kind}_apart"] if line.versus else Spread({})
        gain = line.figures[f"{kind}_apart"].minus(before)
        return (
            NONE
            if gain.mean is None
            else signed(gain.mean) + ("" if gain.interval is None else between(*gain.interval, "+.1f"))
        )

    heading = kind.capitalize()
    return [
        Column(f"{heading}: noticed", noticed, detail=lambda line: values(line.figures[f"{kind}_apart"], ".1f")),
        Column("step", step),
        Column("R@1", fallen),
        _plain("rank x", f"{kind}_rank_factor", 2),
    ]


def _plain(heading: str, name: str, digits: int = 1) -> Column:
    def text(line: Line) -> str:
        mean = line.figures[name].mean
        return NONE if mean is None else f"{mean:.{digits}f}"

    return Column(heading, text, detail=lambda line: values(line.figures[name], f".{digits}f"))
