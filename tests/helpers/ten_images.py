"""A training split of ten images, and a tokenizer of its captions."""

import numpy as np

from rasa.data.dataset import Split
from rasa.data.tokenizer import train_tokenizer

WORDS = ("red", "blue", "green", "grey")
# Ten images of five identities; image i has captions 2 i and 2 i + 1, all different and of different lengths.
SPLIT = Split(
    name="train",
    image_files=tuple(f"{image}.png" for image in range(10)),
    image_identities=np.arange(10) // 2,
    captions=tuple(f"person {' '.join(WORDS[: caption % 4 + 1])} {caption}" for caption in range(20)),
    caption_images=np.arange(20) // 2,
)
TOKENIZER = train_tokenizer(SPLIT.captions, 200)
