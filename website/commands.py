"""The page of every command, made of what click knows: usage, help, arguments, options."""

import inspect
from collections.abc import Iterator

import click

from website.markdown import code, table


def commands_page(group: click.Group) -> str:
    """Markdown with one section for each command below `group`, and one for each command of a subgroup."""
    lines = [
        "# Commands",
        "",
        "Made from the program itself. In a terminal: `rasa --help`, `rasa COMMAND --help`.",
        "stdout is data, stderr is progress; [exit codes](records.md#exit-codes).",
        "",
    ]
    found = list(walk(group))
    rows = [[f"[`{path}`](#{anchor(path)})", short_help(command)] for path, command in found]
    lines += [*table(("command", "what it does"), rows), ""]
    for path, command in found:
        lines += section(path, command)
    return "\n".join(lines)


def walk(group: click.Group, above: str = "rasa") -> Iterator[tuple[str, click.Command]]:
    """Each command below `group` with what is typed for it, e.g. `rasa data synth`; groups come before their own.

    Raises RuntimeError, with the reason, for a command that cannot be loaded.
    """
    context = click.Context(group, info_name=above)
    for name in sorted(group.list_commands(context)):
        command = group.get_command(context, name)
        if command is None or (command.short_help or "").startswith("(cannot be loaded"):
            raise RuntimeError(f"{above} {name}: {command.short_help if command else 'there is no such command'}")
        if command.hidden:
            continue
        yield f"{above} {name}", command
        if isinstance(command, click.Group):
            yield from walk(command, f"{above} {name}")


def anchor(path: str) -> str:
    """The address of a command's section on the page: that of its heading."""
    return path.replace(" ", "-")


def short_help(command: click.Command) -> str:
    """The line that a list of commands has for it."""
    return command.get_short_help_str(limit=200)


def section(path: str, command: click.Command) -> list[str]:
    """Heading, usage, help and a table of the parameters of one command."""
    above, _, name = path.rpartition(" ")
    context = click.Context(command, info_name=name, parent=click.Context(click.Group(above), info_name=above))
    depth = "##" if path.count(" ") == 1 else "###"
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    lines = [f"{depth} {path} {{#{anchor(path)}}}", "", "```text", usage, "```", ""]
    lines += [*prose(command.help or short_help(command)), ""]
    options = [row for parameter in command.get_params(context) for row in _rows(parameter, context)]
    return [*lines, *table(("option", "meaning", "default"), options), ""] if options else lines


def prose(help_text: str) -> list[str]:
    """A command's help as Markdown: click's mark for a block that is not to be wrapped makes it a block of code."""
    lines: list[str] = []
    for block in inspect.cleandoc(help_text).split("\n\n"):
        if block.startswith("\b\n"):
            lines += ["```text", *block.removeprefix("\b\n").splitlines(), "```", ""]
        else:
            lines += [block.replace("<", "&lt;"), ""]
    return lines[:-1]


def _rows(parameter: click.Parameter, context: click.Context) -> Iterator[list[str]]:
    if isinstance(parameter, click.Argument):
        return  # the usage has it, and the help says what it is
    record = parameter.get_help_record(context)
    if not isinstance(parameter, click.Option) or parameter.hidden or record is None or "--help" in parameter.opts:
        return
    names = record[0]
    yield [code(names), (parameter.help or "").strip(), _default(parameter, context)]


def _default(option: click.Option, context: click.Context) -> str:
    if option.required:
        return "required"
    shown = option.show_default
    if isinstance(shown, str):  # words instead of the value
        return code(shown)
    value = option.get_default(context, call=False)
    if not shown or value is None or callable(value) or option.is_flag or option.multiple:
        return ""
    return code(str(value))
