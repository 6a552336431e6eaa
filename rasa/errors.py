"""What can be wrong with a user's input: one line that names the place and the remedy, and an exit code."""


def printable(text: str) -> str:
    """`text` as a terminal may show it: line breaks, control, invisible and half characters as their escapes.

    A name from a file could otherwise break a line, move the cursor or hide what it says.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class RasaError(Exception):
    """A fault that is the input's, not the program's. Its text is one printable line; `exit_code` ends the command."""

    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__())


class RunFailed(RasaError):
    """A run stopped for a reason of its own (a loss that is not a number, memory): exit 1."""

    exit_code = 1


class OutOfMemory(RunFailed):
    """A run that needs more memory than it was left. With its device for itself it may have enough."""


class Diverged(RunFailed):
    """A loss or a gradient that is not a number. From the same checkpoint a run comes to the same end."""


class SpecError(RasaError):
    """An experiment file, profile or option that does not say something this program can do: exit 3."""

    exit_code = 3


class SuiteFailed(RasaError):
    """A suite that ended with some rows failed: exit 4."""

    exit_code = 4


class ResourceError(RasaError):
    """Data, weights or a tracker that is missing, damaged or of another layout: exit 5."""

    exit_code = 5
