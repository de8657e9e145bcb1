"""What kind of word a piece of text belongs to."""

from typing import Any

import numpy as np

from tfadv.text.tokenizer import Tokenizer

# English words that carry grammar rather than content, as the tokenizers
# spell them: lower-case, without apostrophes.
_FUNCTION_WORDS = """
a an the this that these those each every either neither some any all both
half such what which whose whatever whichever
i me my mine myself you your yours yourself he him his himself she her hers
herself it its itself we us our ours ourselves they them their theirs
themselves one ones who whom whoever somebody someone something anybody
anyone anything everybody everyone everything nobody noone nothing
am is are was were be been being do does did doing done have has had having
can could may might must shall should will would ought
about above across after against along among around as at before behind
below beneath beside besides between beyond by despite down during except
for from in inside into like near of off on onto out outside over past per
since through throughout till to toward towards under until unto up upon
via with within without
and but or nor so yet because although though while whereas if unless than
whether when whenever where wherever why how once
there here then thus also too very just only even still already again ever
rather quite much many more most other others another own same
s t d ll m re ve don isn aren wasn weren doesn didn hasn haven hadn won
wouldn couldn shouldn
"""
_NEGATIONS = "no not never none nor n't cannot without"

CLASSES = (
    "special",
    "punctuation",
    "negation",
    "function word",
    "content word",
)


def classify(pieces: list[str], ids: Any, tokenizer: Tokenizer) -> list[str]:
    """Names the class of each piece's word.

    Args:
        pieces: list of strings, the pieces of one text.
        ids: list or array of their ids.
        tokenizer: `tfadv.Tokenizer`.

    Returns:
        List of strings out of `CLASSES`. The pieces of one word are of one
        class.

    Example:

    ```python
    ids = tokenizer(["a gorgeous, witty film"])["token_ids"][0]
    classify(tokenizer.ids_to_tokens(ids), ids, tokenizer)
    ```
    """
    classes = [""] * len(pieces)
    for word in words(ids, tokenizer):
        if ids[word[0]] in tokenizer.special_ids:
            kind = "special"
        else:
            text = "".join(
                pieces[i].lstrip("▁").removeprefix("##") for i in word
            )
            kind = _classify(text)
        for i in word:
            classes[i] = kind
    return classes


def words(ids: Any, tokenizer: Tokenizer) -> list[list[int]]:
    """Groups the pieces of a text into words.

    Args:
        ids: list or array of the pieces' ids.
        tokenizer: `tfadv.Tokenizer`.

    Returns:
        List of lists of positions. A control token is a word of its own.
    """
    ids = np.asarray(ids)
    groups = []
    starts = tokenizer.starts_word(ids)
    special = np.isin(ids, tokenizer.special_ids)
    for i in range(len(ids)):
        after_special = i > 0 and special[i - 1]
        if not groups or starts[i] or after_special:
            groups.append([])
        groups[-1].append(i)
    return groups


_OF_WORD = {
    **dict.fromkeys(_FUNCTION_WORDS.split(), "function word"),
    **dict.fromkeys(_NEGATIONS.split(), "negation"),
}


def _classify(word):
    if not any(character.isalnum() for character in word):
        return "punctuation"
    return _OF_WORD.get(word, "content word")
