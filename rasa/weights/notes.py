"""What a file of tensors says about them in its header, read without torch."""

import json
from pathlib import Path

from safetensors import safe_open

NOTES = "notes"  # the key in a header


def read_notes(file: Path) -> dict[str, str]:
    """What `save_tensors` of rasa/weights/folder.py kept in the header; nothing if it kept nothing.

    Raises OSError or SafetensorError.
    """
    with safe_open(file, "numpy") as opened:
        header: dict[str, str] = opened.metadata() or {}
    if NOTES not in header:
        return header  # as runs of 0.1.0 wrote them, each note by itself
    kept: dict[str, str] = json.loads(header[NOTES])
    return kept
