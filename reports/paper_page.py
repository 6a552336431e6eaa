"""The paper's table alone, in the formats of a report; no run and no store is needed for it."""

from experiments.spec import FILE, load_suite, suite_names
from experiments.wording import did_you_mean
from rasa.errors import SpecError
from reports import formats
from reports.layout import as_published
from reports.published import load_published, published_names, records


def paper_text(target: str, kind: str) -> str:
    """The table that `target` is (`table5`), or that the suite of that name or file names, in a report's formats.

    Raises SpecError if there is no such table or suite, or if the suite names none.
    """
    table = load_published(target if target in published_names() else _named_by(target))
    if kind == "csv":
        return formats.csv_of(list(records(table)))
    page = formats.Page(table.source, table.source, [as_published(table)])
    if kind == "html":
        return formats.html(page)
    if kind == "json":
        return formats.json_text(page)
    return formats.latex(page) if kind == "latex" else formats.markdown(page)


def _named_by(target: str) -> str:
    if target not in suite_names() and not FILE.fullmatch(target):
        known = [*published_names(), *suite_names()]
        raise SpecError(
            f"no suite or table of the paper {target!r} (a file ends in .yaml){did_you_mean(target, known)}"
        )
    suite = load_suite(target)
    if suite.published is None:
        raise SpecError(
            f"{suite.file}: published is not set: which table of the paper its rows are lines of, e.g. table1"
        )
    return suite.published
