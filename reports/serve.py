"""The search page as a local server. It reads what is indexed and nothing else, and runs no script in the browser.

A page elsewhere could point its own name at this machine and read the answers (DNS rebinding), so requests under other
host names are refused. Addresses name images by content, never by path.
"""

import re
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rasa.errors import RasaError
from rasa.search.engine import Engine, Found
from rasa.search.words import LONGEST_QUERY
from reports.search import link, marked_words, picture, remarks, render, result_views, stylesheet, weighed_words

SHOWN = 30  # results on a page
RECENT, KEPT = 8, 32  # queries that are listed, and whose answers are kept
HERE = ("127.0.0.1", "localhost")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
FOREVER = "private, max-age=31536000, immutable"  # an address names a content


def create_app(engine: Engine, hosts: Iterable[str] = HERE, notes: Iterable[str] = ()) -> Starlette:
    """The application. `hosts`: the names under which it answers; `notes`: sentences that stand on every page."""
    site = _Site(engine, list(notes))
    routes = [
        Route("/", site.page),
        Route("/image/{digest}.jpg", site.image),
        Route("/style.css", site.style),
        Route("/favicon.ico", site.nothing),
    ]
    guards = [Middleware(_Headers), Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)]
    return Starlette(routes=routes, middleware=guards, exception_handlers={404: _not_found})


def _not_found(request: Request, fault: Exception) -> Response:
    return PlainTextResponse("There is nothing here.", 404)


class _Headers:
    """Adds HEADERS to every answer."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        await self.app(scope, receive, with_headers)


class _Site:
    """What the routes answer. Requests come in several threads, the engine takes one at a time."""

    def __init__(self, engine: Engine, notes: list[str]):
        self.engine, self.notes = engine, notes
        self._number = {digest: number for number, digest in enumerate(engine.index.digests)}
        self._lock = threading.Lock()
        self._found = OrderedDict[str, Found]()
        self._recent = deque[str](maxlen=RECENT)
        self._picture = lru_cache(maxsize=512)(lambda number: picture(engine, number))

    def page(self, request: Request) -> Response:
        """The search box, and what the query in the address finds."""
        asked, query = "q" in request.query_params, request.query_params.get("q", "").strip()
        values: dict[str, Any] = {"query": query, "notes": self.notes, "images": len(self.engine.index.files)}
        status = 200
        if len(query) > LONGEST_QUERY:
            values["message"] = (
                f"That is {len(query):,} characters; up to {LONGEST_QUERY:,} are taken. Two or three sentences on what "
                "the person looks like are enough."
            )
            values["query"], status = query[:LONGEST_QUERY], 400
        elif asked and not re.search(r"\w", query):
            values["message"] = "There is no word to search for yet."
        elif query:
            try:
                values |= self._answer(query, request.query_params.get("open", ""))
            except RasaError as fault:
                values["message"], status = str(fault), 500
        if query and status == 200 and request.headers.get("sec-fetch-site") not in ("cross-site", "same-site"):
            self._remember(query)
        values["recent"] = [each for each in self._recent if each != query]
        return HTMLResponse(render(**values), status, {"Cache-Control": "no-store"})

    def image(self, request: Request) -> Response:
        """An indexed image, by the digest of its content."""
        number = self._number.get(request.path_params["digest"])
        if number is None:
            return PlainTextResponse("There is no such image.", 404)
        try:
            return Response(self._picture(number), 200, {"Cache-Control": FOREVER}, "image/jpeg")
        except RasaError as fault:
            return PlainTextResponse(str(fault), 404)

    def style(self, request: Request) -> Response:
        """The stylesheet."""
        return Response(stylesheet(), 200, {"Cache-Control": "no-cache"}, "text/css")

    def nothing(self, request: Request) -> Response:
        """What browsers ask for by themselves."""
        return Response(status_code=204)

    def _answer(self, query: str, opened: str) -> dict[str, Any]:
        started = time.perf_counter()
        with self._lock:
            found = self._found.get(query) or self.engine.search(query, SHOWN)
            self._found[query] = found
            self._found.move_to_end(query)
            if len(self._found) > KEPT:
                self._found.popitem(last=False)
            place = int(opened) if re.fullmatch("[0-9]{1,4}", opened) else 0
            view = self._opened(query, found, place) if 1 <= place <= len(found.matches) else None
        return {
            "results": result_views(found, self._source),
            "words": marked_words(found),
            "remarks": remarks(found),
            "opened": view,
            "seconds": f"{time.perf_counter() - started:.2f}",
            "message": None if found.read.words else "There is no word to search for yet.",
        }

    def _opened(self, query: str, found: Found, place: int) -> dict[str, Any]:
        last = len(found.matches)
        return result_views(found, self._source)[place - 1] | {
            "words": weighed_words(self.engine, found, place - 1),
            "before": link(query, place - 1, "opened") if place > 1 else None,
            "after": link(query, place + 1, "opened") if place < last else None,
            "closed": link(query, None, f"result-{place}"),
        }

    def _source(self, number: int) -> str:
        return f"/image/{self.engine.index.digests[number]}.jpg"

    def _remember(self, query: str) -> None:
        if query in self._recent:
            self._recent.remove(query)
        self._recent.appendleft(query)
