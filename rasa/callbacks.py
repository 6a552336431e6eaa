"""How long work reports: functions that are handed in, so that nothing here knows a tracker or a terminal."""

from collections.abc import Callable

# Group ("train", "val", "test", ...), optimizer step, figures by name.
Log = Callable[[str, int, dict[str, float]], None]
# A line for a person.
Notify = Callable[[str], None]
