"""Notebooks of docs/, run while the site is built, so that one that fails fails the build."""

import base64
from pathlib import Path
from typing import Any

TIMEOUT = 120  # seconds a cell
LONGEST = 20_000  # characters of an output


def run(notebook: Path) -> Any:
    """The notebook with the outputs that it has now; the file is left as it is.

    Raises nbclient's CellExecutionError, with the cell and its traceback, if a cell fails.
    """
    import nbformat
    from nbclient import NotebookClient

    content = nbformat.read(notebook, as_version=4)
    resources = {"metadata": {"path": str(notebook.parent)}}
    quiet = ["--log-level=ERROR"]
    NotebookClient(content, timeout=TIMEOUT, resources=resources, extra_arguments=quiet).execute()
    return content


def as_page(content: Any, name: str) -> tuple[str, dict[str, bytes]]:
    """Markdown of a notebook that was run, and its pictures by file name. `name`: what pictures' names begin with."""
    lines: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in content.cells:
        if cell.cell_type == "markdown":
            lines += [cell.source, ""]
            continue
        lines += ["```python", cell.source, "```", ""]
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                picture = f"{name}-{len(pictures) + 1}.png"
                pictures[picture] = base64.b64decode(data["image/png"])
                lines += [f"![What the cell draws]({picture})", ""]
            elif "text/html" in data:
                lines += ['<div class="frame" markdown="0">', *_without_style(data["text/html"]), "</div>", ""]
            else:
                text = output.get("text") or data.get("text/plain", "")
                lines += ["```text", text.rstrip()[:LONGEST], "```", ""]
    return "\n".join(lines), pictures


def _without_style(html: str) -> list[str]:
    """A frame's table alone: pandas sends a style along, which the site's own would quarrel with."""
    table = html[html.index("<table") : html.index("</table>") + len("</table>")]
    return [line for line in table.replace(' border="1" class="dataframe"', "").splitlines() if line.strip()]
