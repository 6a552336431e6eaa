"""Requests to a store to which other hosts write at the same time: searches page by page, writes that collide."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from experiments.store import mlflow_error

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE = 1000  # runs per request
COLLIDED = "BAD_REQUEST"  # what MLflow says where two hosts insert one key of a run at the same moment


def pages(client: "MlflowClient", experiment: str, tags: Mapping[str, str], deleted: bool = False) -> "Iterator[Run]":
    """All runs of an experiment with these tags, page by page."""
    from mlflow.entities import ViewType

    terms = " and ".join(f"tags.`{name}` = {_quoted(value)}" for name, value in tags.items())
    view, token = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY, None
    while True:
        page = client.search_runs([experiment], terms, view, PAGE, page_token=token)
        yield from page
        if not (token := page.token):
            return


def _quoted(value: str) -> str:
    """A value in a search, whose language knows both quotes and no way to escape one."""
    return f'"{value}"' if "'" in value else f"'{value}'"


def insist(request: Callable[[], object]) -> None:
    """Make a request that says how something is; once more if it collided with another host's, which is there now."""
    try:
        request()
    except mlflow_error() as error:
        if error.error_code != COLLIDED:
            raise
        request()
