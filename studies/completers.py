"""What may stand where a command wants a space. Only click up here."""

import click

from experiments.completers import Items, beginning, file, quietly


@quietly
def spaces(context: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Spaces of studies, by name and by file."""
    from studies.space import space_names

    return [*beginning(incomplete, space_names()), file(incomplete)]
