"""The pages of the Python API: one for each package, with the modules that are meant to be called, by mkdocstrings."""

from pathlib import Path

from website.markdown import code, table

ROOT = Path(__file__).parents[1]
# Of `rasa`, the method, every module is shown; of the other rooms those that a script or a notebook has a use for.
PACKAGES = {
    "rasa.objectives": "The losses, as plain functions of tensors",
    "rasa.config": "What a run is told",
    "rasa.data": "Captions, images, identities, batches",
    "rasa.model": "Encoders, momentum copy, queues",
    "rasa.training": "One run",
    "rasa.evaluation": "Retrieval and its figures",
    "rasa.weights": "Weights on disk",
    "rasa.search": "A folder of images, searched",
    "experiments": "What is run",
    "studies": "What is searched",
    "reports": "What is shown",
}
CHOSEN = {
    "experiments": ("spec", "layers", "plan", "rundir", "finding", "statistics", "steps", "predictions"),
    "studies": ("space", "study", "storage"),
    "reports": ("load", "tables", "verdict", "sweeps", "document", "publish", "verify"),
}


def modules_of(package: str) -> list[str]:
    """Dotted names of the modules that the package's page shows, subpackages included."""
    if package in CHOSEN:
        return [f"{package}.{name}" for name in CHOSEN[package]]
    folder = ROOT / package.replace(".", "/")
    files = sorted(path.relative_to(ROOT).with_suffix("") for path in folder.rglob("*.py"))
    return [".".join(path.parts) for path in files if path.name != "__init__"]


def page_name(package: str) -> str:
    """The page's file below the site's root."""
    return f"reference/api/{package}.md"


def api_page(package: str) -> str:
    """Markdown that mkdocstrings fills."""
    lines = [f"# {package}", "", f"{PACKAGES[package]}.", ""]
    for module in modules_of(package):
        lines += [f"## {module}", "", f"::: {module}", ""]
    return "\n".join(lines)


def index_page() -> str:
    """Which package is on which page."""
    rows = [[f"[{code(package)}]({package}.md)", text] for package, text in PACKAGES.items()]
    return "\n".join(
        [
            "# Python API",
            "",
            "Four packages that import one way: `rasa <- experiments <- studies, reports`",
            "([architecture](../../architecture.md)). Importing one of them loads neither torch nor MLflow at its top",
            "unless it computes.",
            "",
            *table(("package", "what is in it"), rows),
            "",
        ]
    )
