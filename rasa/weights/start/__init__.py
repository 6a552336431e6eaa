"""The common start that ships with the package: a small ALBEF pre-trained by `rasa pretrain`, and its vocabulary.

`weights/` is a checkpoint folder under the released key names; its state.json holds the whole recipe, the seed, the
digest of the people it saw, the time, the validation curve, and hashes of all of it.
"""

from pathlib import Path

NAME = "start"  # how a spec calls it: model.weights: start, data.tokenizer: start
WEIGHTS = Path(__file__).parent / "weights"
VOCABULARY = Path(__file__).parent / "vocab.txt"
