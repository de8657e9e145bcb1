"""Writes `character_classes.json`: what `tokenizers` does with each character.

    python -m tfadv.text.make_character_classes

The `tokenizers` library, on which `transformers.BertTokenizer` runs, is asked
for every code point. So the file depends only on the version of that library,
not on that of Python. Code points are hexadecimal, `"41-5a"` is a range.

| key | content |
|---|---|
| `dropped` | control characters, private use, and others that vanish |
| `spaces` | what becomes a space |
| `ideographs` | each is a word by itself |
| `marks` | accents, which are stripped |
| `punctuation` | each is set apart |
| `lower` | letters and their lower case |
| `decomposed` | characters and their canonical decomposition, without Hangul |
"""

import json
import pathlib
from collections.abc import Callable

PATH = pathlib.Path(__file__).with_name("character_classes.json")

# Surrogates are no characters.
CODE_POINTS = [p for p in range(0x110000) if not 0xD800 <= p < 0xE000]
HANGUL = range(0xAC00, 0xD7A4)


def make() -> dict:
    """Asks `tokenizers` for every code point.

    Returns:
        dict, the content of `character_classes.json`.
    """
    from tokenizers import normalizers, pre_tokenizers

    def normalizer(**options):
        off = dict.fromkeys(
            (
                "clean_text",
                "handle_chinese_chars",
                "strip_accents",
                "lowercase",
            ),
            False,
        )
        return normalizers.BertNormalizer(**off | options).normalize_str

    clean, chinese, strip = (
        normalizer(**{name: True})
        for name in ("clean_text", "handle_chinese_chars", "strip_accents")
    )
    lower = normalizers.Lowercase().normalize_str
    decompose = normalizers.NFD().normalize_str
    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    return {
        "dropped": _ranges(lambda c: clean(c) == ""),
        "spaces": _ranges(lambda c: clean(c) == " "),
        "ideographs": _ranges(lambda c: chinese(c) == f" {c} "),
        "marks": _ranges(lambda c: strip(c) == ""),
        "punctuation": _ranges(lambda c: len(split(f"a{c}a")) == 3),
        "lower": _changes(lower),
        "decomposed": _changes(decompose, HANGUL),
    }


def _ranges(test: Callable[[str], bool]) -> str:
    """Writes the code points that pass a test as ranges."""
    points = [p for p in CODE_POINTS if test(chr(p))]
    ranges = []
    for point in points:
        if ranges and ranges[-1][1] == point - 1:
            ranges[-1][1] = point
        else:
            ranges.append([point, point])
    return " ".join(
        f"{first:x}" if first == last else f"{first:x}-{last:x}"
        for first, last in ranges
    )


def _changes(change: Callable[[str], str], left_out=()) -> str:
    """Writes `"from:to"` for each character that a function changes."""
    return " ".join(
        f"{p:x}:{','.join(f'{ord(c):x}' for c in change(chr(p)))}"
        for p in CODE_POINTS
        if p not in left_out and change(chr(p)) != chr(p)
    )


def main() -> None:
    """Writes the file."""
    text = json.dumps(make(), indent=1) + "\n"
    PATH.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
