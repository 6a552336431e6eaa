"""What can be wrong with an installation, a machine or a tracker, each check as one line."""

import importlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from experiments.environment import code_version, cpu_count
from experiments.machine import installed_version
from rasa.errors import RasaError

NEEDED = (
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "safetensors",
    "numpy",
    "Pillow",
    "pydantic",
    "mlflow",
    "click",
    "rich",
    "ruamel.yaml",
    "optuna",
    "pandas",
    "matplotlib",
)
GIB = 2**30


class Check(NamedTuple):
    """One line of the examination."""

    name: str
    state: Literal["ok", "warn", "fail"]
    text: str


def examine(workspace: Path, tracking_uri: str | None) -> Iterator[Check]:
    """The checks, one after the other; none of them stops the others."""
    checks: dict[str, Callable[[], Check]] = {
        "packages": _packages,
        "torch": _torch,
        "timm": _timm,
        "workspace": lambda: _workspace(workspace),
        "tracker": lambda: _tracker(workspace, tracking_uri),
        "fonts": _fonts,
    }
    for name, check in checks.items():
        try:
            yield check()
        except Exception as error:  # noqa: BLE001  # a broken library may raise anything at import: that is the finding
            text = str(error) if isinstance(error, RasaError) else f"{type(error).__name__}: {error}"
            yield Check(name, "fail", " ".join(text.split())[:300])


def _packages() -> Check:
    found = {name: installed_version(name) for name in NEEDED}
    missing = [name for name, version in found.items() if version is None]
    if missing:
        return Check("packages", "fail", f"missing: {', '.join(missing)}; pip install -e . installs them")
    code = code_version()
    commit = f" at {code['git_commit'][:12]}{', changed' if code['git_dirty'] else ''}" if code["git_commit"] else ""
    return Check(
        "packages", "ok", f"rasa {code['version']}{commit}; " + ", ".join(f"{n} {v}" for n, v in found.items())
    )


def _torch() -> Check:
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    float(torch.ones(8, 8).mm(torch.ones(8, 8)).sum())  # a build for another processor fails only when it computes
    return Check("torch", "ok", f"{device}; {torch.get_num_threads()} threads on {cpu_count()} CPUs")


def _timm() -> Check:
    # A torchvision built for another torch installs well and fails here.
    libraries = [importlib.import_module(name) for name in ("torchvision", "timm", "transformers")]
    return Check(
        "timm", "ok", ", ".join(f"{each.__name__} {each.__version__}" for each in libraries) + " import together"
    )


def _workspace(workspace: Path) -> Check:
    from experiments.resources import writable
    from experiments.shared_disk import note_of

    writable(workspace)
    free = shutil.disk_usage(workspace).free / GIB
    note = note_of(workspace)
    state: Literal["ok", "warn"] = "ok" if free > 5 and not note else "warn"
    return Check(
        "workspace", state, f"{workspace.absolute()} is writable, {free:.1f} GiB free" + (f"; {note}" if note else "")
    )


def _tracker(workspace: Path, explicit: str | None) -> Check:
    from experiments.databases import shown
    from experiments.store import DATABASE, default_uri, open_store, tracking_uri

    uri = tracking_uri(workspace, explicit)
    if uri == default_uri(workspace) and not (workspace / DATABASE).exists():
        return Check("tracker", "ok", f"{uri} will be made by the first run")
    started = time.monotonic()
    try:
        open_store(uri)
    except RasaError as error:
        # Runs go on without it.
        return Check("tracker", "warn", f"{error}; runs go on, `rasa sync` delivers later")
    source = (
        "--tracking-uri" if explicit else "MLFLOW_TRACKING_URI" if os.environ.get("MLFLOW_TRACKING_URI") else "default"
    )
    return Check("tracker", "ok", f"{shown(uri)} ({source}) answers in {time.monotonic() - started:.1f} s")


def _fonts() -> Check:
    from matplotlib import font_manager

    path = font_manager.findfont("DejaVu Sans", fallback_to_default=False)
    return Check("fonts", "ok", f"figures are set in {Path(path).name}")
