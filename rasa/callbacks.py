"""How long work reports: functions that are handed in, so that nothing here knows a tracker or a terminal."""

from collections.abc import Callable

Log = Callable[
    [str, int, dict[str, float]], None
]  # group ("train", "val", "test", ...), optimizer step, figures by name
Notify = Callable[[str], None]  # a line for a person
