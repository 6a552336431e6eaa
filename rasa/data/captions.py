"""A caption as text, before it is tokens."""

import re


def clean_caption(text: str, max_words: int) -> str:
    """`text` as the released code cleans it (dataset/utils.py 3-20): lower case, no punctuation, at most `max_words`.

    # released code: only runs of two or more blanks collapse, so that a single tab or newline between words stays
    # and does not separate words for `max_words`. BERT's pre-tokenizer splits there anyway.
    """
    text = re.sub(r"[,.'!?\"()*#:;~]", "", text.lower())
    text = text.replace("-", " ").replace("/", " ").replace("<person>", "person")
    text = re.sub(r"\s{2,}", " ", text).rstrip("\n").strip(" ")
    return " ".join(text.split(" ")[:max_words])
