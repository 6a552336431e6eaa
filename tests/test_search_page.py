"""The search page: over HTTP as a browser and as an attacker asks, in headless Chromium, and as a file."""

import html
import re
from html.parser import HTMLParser
from io import BytesIO
from urllib.parse import quote_plus

import pytest
from PIL import Image

from reports.search import remarks, weighed_words, write_page
from tests.helpers.browser import opened, serious_findings
from tests.helpers.galleries import HOSTILE, HOSTILE_NAME, engine, get, served, write_gallery

QUERY = "a woman in a red coat with a white backpack"


@pytest.fixture(scope="module")
def searching(tmp_path_factory):
    return engine(write_gallery(tmp_path_factory.mktemp("page")))


@pytest.fixture(scope="module")
def address(searching):
    with served(searching, notes=["A note on <b>the</b> index."]) as found:
        yield found


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, body):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(body.decode() if isinstance(body, bytes) else body)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(address, query, opened=None):
    path = f"/?q={quote_plus(query)}" + (f"&open={opened}" if opened is not None else "")
    status, headers, body = get(address, path)
    return status, headers, Page(body)


def test_a_query_shows_results_with_both_scores(address, searching):
    status, _, page = page_of(address, QUERY)
    found = searching.search(QUERY, 30)
    assert status == 200 and len(page.of("img")) == len(found.matches) == 6
    for image, match in zip(page.of("img"), found.matches, strict=True):
        assert image["src"] == f"/image/{searching.index.digests[match.number]}.jpg" and match.file in image["alt"]
        assert f"similarity {match.similarity:.3f}" in page.text
        assert match.match is None or f"match {match.match:.2f}" in page.text
    assert page.of("input")[0]["value"] == QUERY
    assert [link["href"] for link in page.of("a")][1].endswith("&open=1#opened")


def test_an_opened_result_shows_every_word_with_its_relevance(address, searching):
    _, _, page = page_of(address, QUERY, 2)
    found = searching.search(QUERY, 30)
    words = weighed_words(searching, found, 1)
    assert [word["text"] for word in words] == QUERY.split()
    shades = [tag["class"] for tag in page.of("li") if tag.get("class", "").startswith("shade")]
    assert shades == [f"shade {'up' if word['shade'] >= 0 else 'down'}-{abs(word['shade'])}" for word in words]
    assert max(abs(word["shade"]) for word in words) == 4
    for word in words:
        assert f"{word['value']:+.2f}" in page.text
    assert f"/?q={quote_plus(QUERY)}&open=3#opened" in [link["href"] for link in page.of("a")]


@pytest.mark.parametrize("place", ["0", "7", "-1", "x", "9" * 40, "1.5"])
def test_a_result_that_is_not_there_opens_nothing(address, place):
    status, _, page = page_of(address, QUERY, place)
    assert status == 200 and not [tag for tag in page.of("section") if tag.get("id") == "opened"]


@pytest.mark.parametrize("query", ["", "   ", "?!.,", "' \""])
def test_an_empty_query_is_answered_kindly(address, query):
    status, _, page = page_of(address, query)
    assert status == 200 and "There is no word to search for yet." in page.text and "for example" in page.text
    assert page.of("img") == []


def test_a_long_query_is_read_in_part_and_says_so(address):
    status, _, page = page_of(address, "red coat " * 40)
    assert status == 200 and "Only the first 22 words are read; not read: red coat" in page.text
    assert len(page.of("img")) == 6


def test_an_over_long_query_is_answered_kindly(address):
    status, _, page = page_of(address, "a" * 5000)
    assert status == 400 and "That is 5,000 characters; up to 1,000 are taken." in page.text
    assert len(page.of("input")[0]["value"]) == 1000


def test_recent_queries_are_listed_newest_first(searching):
    with served(searching) as own:
        for query in ("red coat", "blue hat", "red coat", HOSTILE):
            assert page_of(own, query)[0] == 200
        get(own, "/?q=planted", Sec_Fetch_Site="cross-site")
        _, _, page = page_of(own, "")
        links = [link["href"] for link in page.of("a") if "q=" in link["href"]][1:]  # behind the example
        assert links == [f"/?q={quote_plus(query)}" for query in (HOSTILE, "red coat", "blue hat")]


def test_hostile_names_and_queries_are_text(address, searching):
    for place in range(1, 7):
        status, _, page = page_of(address, HOSTILE, place)
        assert status == 200 and page.of("script") == [] and page.of("b") == []
        assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
        assert "<script>alert(1)" in page.of("input")[0]["value"]
        assert [image for image in page.of("img") if not image["src"].startswith("/image/")] == []
    found = searching.search(HOSTILE, 30)
    place = next(place for place, match in enumerate(found.matches, 1) if match.file == HOSTILE_NAME)
    assert HOSTILE_NAME in page_of(address, HOSTILE, place)[2].text
    assert "A note on <b>the</b> index." in page_of(address, "")[2].text


def test_no_path_of_the_machine_is_in_a_page(address, searching):
    for path in ("/", f"/?q={quote_plus(QUERY)}&open=1", "/nothing", "/image/x.jpg", "/style.css"):
        _, headers, body = get(address, path)
        told = (body + str(headers).encode()).decode()
        assert str(searching.root) not in told and searching.root.parent.name not in told and "/tmp" not in told


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/image/../../../etc/passwd",
        "/image/%2e%2e%2f%2e%2e%2fetc%2fpasswd.jpg",
        "/image/..%2fnotes.txt",
        "/image//etc/passwd.jpg",
        f"/image/{'0' * 64}.jpg",
        "/.rasa/index/state.json",
        "/notes.txt",
        "/day%200/2.png",
        "/style.css/../search.html",
    ],
)
def test_nothing_but_what_is_indexed_is_read(address, path):
    status, _, body = get(address, path)
    assert status == 404 and body in (b"There is nothing here.", b"There is no such image.")


def test_a_picture_is_made_anew_and_kept_by_its_content(address, searching):
    status, headers, body = get(address, f"/image/{searching.index.digests[0]}.jpg")
    assert status == 200 and headers["content-type"] == "image/jpeg" and "immutable" in headers["cache-control"]
    with Image.open(BytesIO(body)) as picture:
        assert picture.format == "JPEG" and picture.size == (32, 64)


def test_an_image_that_is_another_now_is_not_shown(tmp_path):
    searching = engine(write_gallery(tmp_path))
    file = searching.root / searching.index.files[1]
    secret = tmp_path / "secret.png"
    Image.new("RGB", (32, 32), "red").save(secret)
    file.unlink()
    file.symlink_to(secret)
    with served(searching) as own:
        status, _, body = get(own, f"/image/{searching.index.digests[1]}.jpg")
        assert status == 404 and b"leads out of the folder" in body and str(tmp_path).encode() not in body


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "*"])
def test_other_host_names_are_refused(address, host):
    for path in ("/", f"/?q={quote_plus(QUERY)}", "/style.css"):
        status, headers, body = get(address, path, Host=host)
        assert status == 400 and b"Person search" not in body and "content-security-policy" in headers


def test_own_host_names_are_answered(address):
    port = address.rpartition(":")[2]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "LOCALHOST"):
        assert get(address, "/", Host=host)[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed(address, method):
    assert get(address, "/", method=method)[0] == 405


def test_the_policy_allows_no_script_and_no_frame(address, searching):
    for path in ("/", "/style.css", "/nothing", f"/image/{searching.index.digests[0]}.jpg"):
        policy = get(address, path)[1]["content-security-policy"]
        assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "script" not in policy
        assert "frame-ancestors 'none'" in policy and "form-action 'self'" in policy and "base-uri 'none'" in policy
        assert get(address, path)[1]["x-content-type-options"] == "nosniff"


def test_what_is_to_be_said_of_words(searching):
    found = searching.search("red zzzz coat", 6)
    assert remarks(found) == ["Not in the vocabulary of these weights: zzzz"]
    assert remarks(found._replace(read=found.read._replace(unknown=frozenset()))) == []


def test_a_page_as_a_file_has_its_pictures_in_it(tmp_path, searching):
    found = searching.search(HOSTILE, 6)
    write_page(tmp_path / "page.html", HOSTILE, searching, found)
    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    sources = [image["src"] for image in page.of("img")]
    assert len(sources) == 6 and all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert page.of("script") == page.of("b") == page.of("form") == [] and HOSTILE in page.text
    assert html.escape(HOSTILE_NAME) in text.replace("&#39;", "&#x27;").replace("&#34;", "&quot;")
    assert len(re.findall("<details>", text)) == 6 and str(tmp_path) not in text


def test_in_a_browser_without_a_mouse(address):
    """A query is typed, results are seen, one is opened and the next one reached by keyboard."""
    with opened(address) as page:
        assert page.evaluate("document.activeElement.id") == "q"
        page.type("a woman in a red coat")
        page.press("Enter")
        page.wait_for("document.querySelectorAll('.results img').length == 6")
        assert page.evaluate("document.querySelector('#q').value") == "a woman in a red coat"
        page.wait_for("[...document.images].every(i => i.complete)")
        assert page.broken_images() == [] and page.overflow() == 0
        for _ in range(12):
            page.press("Tab")
            if page.evaluate("document.activeElement.closest('#result-2') !== null"):
                break
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.press("Enter")
        page.wait_for("document.querySelectorAll('#opened .words li').length == 6")
        assert page.evaluate("document.querySelector('#opened-title').textContent") == "Result 2"
        assert page.evaluate("location.hash") == "#opened"
        for _ in range(8):
            page.press("Tab")
            if page.evaluate("document.activeElement.textContent") == "Next":
                break
        page.press("Enter")
        page.wait_for("document.querySelector('#opened-title')?.textContent == 'Result 3'")
        assert page.errors == [] and page.overflow() == 0


@pytest.mark.parametrize("width", [380, 1280])
def test_in_a_browser_of_any_width(address, tmp_path, searching, width):
    """With hostile words and names, light and dark, nothing is wider than the window and nothing is an error."""
    long = quote_plus(f"{HOSTILE} {'w' * 120} a red coat")
    write_page(tmp_path / "page.html", HOSTILE, searching, searching.search(HOSTILE, 6))
    with opened(address, width) as page:
        for path in ("/", f"/?q={long}", f"/?q={long}&open=1#opened", f"/?q={'a' * 2000}"):
            page.open(address + path)
            page.evaluate("document.images.length && document.images[document.images.length - 1].scrollIntoView()")
            page.wait_for("[...document.images].every(image => image.complete)")
            assert page.overflow() == 0 and page.broken_images() == []
        assert [each for each in page.errors if "400 (Bad Request)" not in each] == []  # the over-long query's
        assert len(page.errors) == 1 and page.evaluate("document.title").endswith("person search")
        light = page.screenshot()
        page.dark(True)
        assert page.screenshot() != light
        page.open(tmp_path / "page.html")
        assert page.overflow() == 0 and page.broken_images() == [] and len(page.errors) == 1


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_serious_is_found_by_axe(address, dark):
    with opened(f"{address}/?q={quote_plus(QUERY)}+zzzz&open=1#opened", 380, dark) as page:
        assert page.evaluate("document.querySelectorAll('mark.unknown').length") == 1
        assert serious_findings(page) == []
