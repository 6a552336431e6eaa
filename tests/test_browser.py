"""The helper that opens pages in Chromium notices what it is there to notice."""

import pytest

from tests.helpers.browser import opened, serious_findings

HEAD = '<!DOCTYPE html><html lang="en"><meta name="viewport" content="width=device-width"><title>t</title><main>'
GOOD = f'{HEAD}<h1>A page</h1><input aria-label="word"></main></html>'
BAD = f"""{HEAD}<h1 style="color: #ccc; background: #fff">A page</h1>
<div style="width: 2000px">wide</div><img src="nowhere.png" alt="none"><script>console.error("no"); nothing()</script>
</main></html>"""


@pytest.fixture
def write(tmp_path):
    def written(text):
        (tmp_path / "page.html").write_text(text)
        return tmp_path / "page.html"

    return written


def test_a_good_page_has_no_faults_and_takes_keys(write):
    with opened(write(GOOD), width=380) as page:
        page.press("Tab")
        page.type("red coat")
        assert page.evaluate("document.activeElement.value") == "red coat"
        assert (page.errors, page.overflow(), page.broken_images()) == ([], 0, [])
        assert page.evaluate("innerWidth") == 380
        assert page.screenshot().startswith(b"\x89PNG") and page.pdf().startswith(b"%PDF")
        page.dark(True)
        assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is True


def test_a_bad_page_has_all_of_its_faults(write):
    with opened(write(BAD)) as page:
        said = "\n".join(page.errors)
        assert "no" in page.errors and "nothing is not defined" in said and "did not load" in said
        assert page.overflow() > 600
        page.resize(380)
        assert page.overflow() > 1500 and len(page.broken_images()) == 1
        with pytest.raises(TimeoutError):
            page.wait_for("false", 0.1)
        assert any("color-contrast" in finding for finding in serious_findings(page))
