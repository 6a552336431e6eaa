"""The README's table, from the published report's figures: `python -m website.readme` writes it anew."""

import csv
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "reports/published/table4-synth/table.csv"
HEADS = ("row", "seeds", "R@1", "R@1 by stage 1", "mAP", "gain [95 %]", "paper's gain", "verdict")
MARKED = re.compile(r"(\[start:table\] -->\n).*?(\n<!-- --8<-- \[end:table\])", re.DOTALL)
NONE, UNKNOWN = "-", "NA"
START = "start"  # the untrained line; the same by stage 1 alone is a column here


def table_lines(figures: Path = PUBLISHED) -> list[str]:
    """The table as Markdown: the start, then each row with its step from the row that the paper compares it with."""
    with figures.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if not row["row"].startswith(f"{START},")]
    return [_line(HEADS), "|---|" + "--:|" * 6 + "---|", *(_line(_cells(row)) for row in rows)]


def _cells(row: dict[str, str]) -> tuple[str, ...]:
    trained = row["row"] != START
    r1, stage1, precision = (f"{float(row[f'{name}_mean']):.1f}" for name in ("test_r1", "stage1_r1", "test_map"))
    if row["test_r1_sd"] != UNKNOWN:
        r1 = f"{r1} ± {float(row['test_r1_sd']):.1f}"
    gain = paper = verdict = NONE
    if row["step_r1_mean"] != UNKNOWN:
        mean, low, high = (f"{float(row[f'step_r1_{name}']):+.1f}" for name in ("mean", "low", "high"))
        gain, verdict = f"{mean} [{low}, {high}]", row["step_verdict"]
        gain = f"**{gain}**" if verdict in ("shown", "opposite") else gain
        paper = f"{float(row['paper_gain_r1']):+.2f}" if row["paper_gain_r1"] != UNKNOWN else NONE
    return row["Setting"], row["n"] if trained else NONE, r1, stage1, precision, gain, paper, verdict


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def renewed(text: str, lines: list[str]) -> str:
    """The README with `lines` between its two marks. Raises ValueError if they do not stand there once."""
    if len(MARKED.findall(text)) != 1:
        raise ValueError("README.md: [start:table] and [end:table] must stand there once, each in a line of its own")
    return MARKED.sub(lambda found: found[1] + "\n".join(lines) + found[2], text)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(renewed(readme.read_text(encoding="utf-8"), table_lines()), encoding="utf-8")
