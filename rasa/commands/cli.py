"""The command `rasa`: finds the rooms' commands by entry point and turns faults into one line and an exit code.

A command module is imported when its command is, and imports click and the standard library only at its top, so
that `rasa --help` and completion load no torch and no tracker.
"""

import difflib
import os
import sys
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points

import click

import rasa
from rasa.commands.streams import usable
from rasa.errors import RasaError

GROUP = "rasa.commands"
INTERRUPTED = 130
READER_GONE = 141  # as a shell reports a program that ended by SIGPIPE


class Commands(click.Group):
    """The commands that installed packages offer under the entry-point group `rasa.commands`."""

    @cached_property
    def offered(self) -> dict[str, EntryPoint]:
        """Entry points by command name."""
        return {point.name: point for point in entry_points(group=GROUP)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands. Raises click's error, with the remedy, if this is a bare checkout."""
        if not self.offered:
            raise click.ClickException("this checkout is not installed, so it has no commands; run: pip install -e .")
        return list(self.offered)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; one that cannot be imported is still listed and says why."""
        if cmd_name not in self.list_commands(ctx):
            return None
        try:
            command = self.offered[cmd_name].load()
        except (ImportError, AttributeError) as error:
            return _unloadable(cmd_name, error)
        if not isinstance(command, click.Command):
            return _unloadable(cmd_name, TypeError(f"{self.offered[cmd_name].value} is no click command"))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest names of all offered commands for one that does not exist."""
        name = args[0]
        if not name.startswith("-") and name not in self.list_commands(ctx):
            near = difflib.get_close_matches(name, self.list_commands(ctx), n=3, cutoff=0.5)
            hint = f" Did you mean {' or '.join(near)}?" if near else " `rasa --help` lists them."
            raise click.UsageError(f"No such command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


def _unloadable(name: str, error: Exception) -> click.Command:
    reason = f"{type(error).__name__}: {error}"

    def fail() -> None:
        raise click.ClickException(f"the command {name} cannot be loaded ({reason})")

    settings = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(name, callback=fail, short_help=f"(cannot be loaded: {reason})", context_settings=settings)


@click.command(cls=Commands, name="rasa", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(rasa.__version__, prog_name="rasa")
def group() -> None:
    """RaSa (IJCAI 2023) as an ablation suite: text-based person search, every row of Table 4 a named experiment."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; a fault of the program itself keeps its traceback."""
    if arguments is None:
        _in_utf8()
    os.environ["MPLBACKEND"] = "agg"  # pictures are files; a notebook's own way to show them may not be installed
    with usable():
        return _main(arguments)


def _in_utf8() -> None:
    """Start again in UTF-8 mode where the locale knows ASCII alone: paths, captions and records have other letters."""
    if not sys.flags.utf8_mode and sys.getfilesystemencoding() != "utf-8":
        os.environ["PYTHONUTF8"] = "1"  # of the processes that this one starts, too
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _main(arguments: Sequence[str] | None) -> int:
    if "_RASA_COMPLETE" in os.environ:  # a shell asks what may stand here
        from rasa.commands.completion import register

        register()
    try:
        result = group.main(args=arguments, prog_name="rasa", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except RasaError as error:
        print(f"rasa: {error}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has what it wanted; Python's own flush at exit must not complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return READER_GONE
