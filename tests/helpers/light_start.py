"""A command line in an interpreter of its own, which says what it has loaded of the heavy libraries."""

HEAVY = ("torch", "timm", "transformers", "mlflow", "optuna", "pandas", "matplotlib", "pydantic", "numpy", "rich")
LIGHT = f"""
import sys
from rasa.commands.cli import main
code = main(sys.argv[1:])
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
sys.exit(code)
"""
