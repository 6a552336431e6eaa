"""The figures that are drawn, as matplotlib has them: what they show can be read there, but not in a PNG file."""

from pathlib import Path

from matplotlib.figure import Figure


def kept(monkeypatch) -> dict[str, Figure]:
    """Every figure that is saved from now on, by its file's stem; the files are written all the same."""
    figures, save = {}, Figure.savefig

    def keep(figure, path, **options):
        figures[Path(path).stem] = figure
        save(figure, path, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures
