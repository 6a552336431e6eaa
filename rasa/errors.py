"""What can be wrong with a user's input: one line that names the place and the remedy, and an exit code."""


class RasaError(Exception):
    """A fault that is the input's, not the program's. Its text is one line; `exit_code` ends the command."""

    exit_code = 1


class RunFailed(RasaError):
    """A run stopped for a reason of its own (a loss that is not a number, memory): exit 1."""

    exit_code = 1


class SpecError(RasaError):
    """An experiment file, profile or option that does not say something this program can do: exit 3."""

    exit_code = 3


class SuiteFailed(RasaError):
    """A suite that ended with some rows failed: exit 4."""

    exit_code = 4


class ResourceError(RasaError):
    """Data, weights or a tracker that is missing, damaged or of another layout: exit 5."""

    exit_code = 5
