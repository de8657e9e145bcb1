"""One table of what the originals do to a text, character by character.

Clean, decompose, strip accents, lower-case, set punctuation apart: all of it is
a table from a code point to its replacement, made when a tokenizer is made. A
table is exact where the ops at hand are not: `tf.strings.lower` follows the
locale of the process ("I" is no "i" in Turkish) and ends a text at a NUL, and
ICU, RE2, Python and Rust each know another version of Unicode.
"""

import functools
import importlib.resources
import json
import unicodedata

import numpy as np
import tensorflow as tf

# No character above this one has a case, a decomposition or a class of
# combining characters.
_LAST_LETTER = 0x3FFFF
_ITSELF = "\0"  # in a replacement: the character that is replaced

# Pages, splits and values, see `_character_table`.
Table = tuple[np.ndarray, np.ndarray, np.ndarray]


@functools.cache
def _classes():
    """Reads the classes of `tokenizers`; see `make_character_classes.py`.

    Returns:
        `(sets, changes)`: dicts of the sets of code points, and of the dicts
        from a character to what it is changed to.
    """
    file = importlib.resources.files(__package__) / "character_classes.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    changes = {
        name: _changes(content.pop(name)) for name in ("lower", "decomposed")
    }
    for point in range(0xAC00, 0xD7A4):  # Hangul
        syllable = chr(point)
        changes["decomposed"][syllable] = unicodedata.normalize("NFD", syllable)
    return {name: _ranges(text) for name, text in content.items()}, changes


def _changes(text):
    """Returns the dict that items like `"c0:41,300"` stand for."""
    pairs = (item.split(":") for item in text.split())
    return {
        chr(int(point, 16)): "".join(chr(int(c, 16)) for c in to.split(","))
        for point, to in pairs
    }


def _ranges(text):
    """Returns the set of code points that `"41-5a 61"` stands for."""
    points = set()
    for item in text.split():
        first, _, last = item.partition("-")
        points.update(range(int(first, 16), int(last or first, 16) + 1))
    return points


def _character_class(points):
    """Returns the RE2 class, without its brackets, of code points."""
    pieces, first = [], None
    for point in sorted(points):
        if point - 1 not in points:
            first = point
        if point + 1 not in points:
            pieces.append(rf"\x{{{first:x}}}-\x{{{point:x}}}")
    return "".join(pieces)


def _character_table(replacements):
    """Lays out replacements as pages of 256 rows, equal pages only once.

    Args:
        replacements: dict, code point to string; others stay as they are.

    Returns:
        `(pages, splits, values)`: the row of a code point `c` is
        `pages[c >> 8] * 256 + (c & 255)`, and `values` from `splits[row]` to
        `splits[row + 1]` are the code points that replace it.
    """
    used = {point >> 8 for point in replacements}
    plain = (_ITSELF,) * 256
    numbers = {plain: 0}
    pages = np.zeros(0x1100, np.int32)
    for page in used:
        rows = tuple(
            replacements.get(point, _ITSELF)
            for point in range(page << 8, (page + 1) << 8)
        )
        pages[page] = numbers.setdefault(rows, len(numbers))
    rows = [row for page in numbers for row in page]
    splits = np.cumsum([0, *map(len, rows)])
    return pages, splits, np.array([ord(c) for c in "".join(rows)], np.int32)


@functools.cache
def albert_characters(lower: bool, strip: bool) -> Table:
    """Makes the table of ALBERT's preprocessing of single characters."""
    replacements = {}
    for point in range(_LAST_LETTER + 1):
        character = text = chr(point)
        if strip:
            text = unicodedata.normalize("NFKD", text)
            text = "".join(c for c in text if not unicodedata.combining(c))
        if lower:
            # A capital sigma depends on its neighbours: see `final_sigma`.
            text = "".join(c if c == "Σ" else c.lower() for c in text)
        if text != character:
            replacements[point] = text
    return _character_table(replacements)


@functools.cache
def white_space() -> str:
    """The RE2 pattern of `str.split`'s white space, to be made single."""
    points = {p for p in range(_LAST_LETTER + 1) if chr(p).isspace()}
    others = _character_class(points - {ord(" ")})
    # A single space, which is most of them, is left where it is: faster.
    return f"[{_character_class(points)}]{{2,}}|[{others}]"


@functools.cache
def final_sigma() -> str:
    """The RE2 pattern of a sigma that `str.lower` makes a final one.

    Such a sigma has a letter with case before it and none after it, both
    times looking past the characters that Unicode calls case-ignorable.
    Python tells nobody which those are, but its `lower` gives them away.
    """
    points = [*range(_LAST_LETTER + 1), *range(0xE0000, 0xE1000)]
    cased = {p for p in points if (chr(p) + "Σ").lower()[-1] == "ς"}
    ignorable = {p for p in points if ("A" + chr(p) + "Σ").lower()[-1] == "ς"}
    ignorable -= cased
    cased, ignorable = _character_class(cased), _character_class(ignorable)
    after = f"([{ignorable}]*)([^{cased}{ignorable}]|$)"
    return f"([{cased}][{ignorable}]*)Σ{after}"


@functools.cache
def bert_characters(lower: bool, strip: bool, chinese: bool) -> Table:
    """Makes the table of what `tokenizers` does before it splits at spaces."""
    sets, changes = _classes()
    lower_case = changes["lower"] if lower else {}
    marks = sets["marks"] if strip else ()
    decomposed = changes["decomposed"] if strip else {}
    punctuation = sets["punctuation"]
    replacements = {}
    letters = {ord(c) for change in changes.values() for c in change}
    for point in letters.union(*sets.values()):
        text = character = chr(point)
        if point in sets["dropped"]:
            text = ""
        elif point in sets["spaces"]:
            text = " "
        else:
            text = decomposed.get(text, text)
            text = "".join(c for c in text if ord(c) not in marks)
        text = "".join(lower_case.get(c, c) for c in text)
        text = "".join(f" {c} " if ord(c) in punctuation else c for c in text)
        if chinese and point in sets["ideographs"]:
            text = f" {text} "
        if text != character:
            replacements[point] = text
    return _character_table(replacements)


def replace_ids(
    ragged: tf.RaggedTensor, table: tf.RaggedTensor
) -> tf.RaggedTensor:
    """Replaces each id by the list of ids that a table has for it."""
    lists = tf.gather(table, ragged.flat_values)
    splits = tf.gather(lists.row_splits, ragged.row_splits)
    return tf.RaggedTensor.from_row_splits(
        lists.flat_values, splits, validate=False
    )


class Characters(tf.Module):
    """Replaces each character of a text by what a table has for it."""

    def __init__(self, table: Table):
        super().__init__()
        pages, splits, values = table
        self._pages = tf.constant(pages)
        self._rows = tf.RaggedTensor.from_row_splits(
            tf.constant(values), tf.constant(splits, tf.int64), validate=False
        )

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Maps UTF-8 strings, `[batch]`; other bytes become U+FFFD."""
        points = tf.strings.unicode_decode(texts, "UTF-8", errors="replace")
        flat = points.flat_values
        rows = tf.gather(self._pages, flat // 256) * 256 + flat % 256
        replaced = tf.gather(self._rows, rows)
        repeated = tf.repeat(flat, replaced.row_lengths())
        values = replaced.flat_values
        values = tf.where(values == ord(_ITSELF), repeated, values)
        splits = tf.gather(replaced.row_splits, points.row_splits)
        return tf.strings.unicode_encode(
            tf.RaggedTensor.from_row_splits(values, splits, validate=False),
            "UTF-8",
        )
