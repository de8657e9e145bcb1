"""What the originals do to a text character by character, as one table.

Clean, decompose, strip accents, lower-case, set punctuation apart: all of it is
a table from a code point to its replacement, made when a tokenizer is made. A
table is exact where the ops at hand are not: `tf.strings.lower` follows the
locale of the process ("I" is no "i" in Turkish) and ends a text at a NUL, and
ICU, RE2, Python and Rust each know another version of Unicode.
"""

import functools
import unicodedata

import numpy as np
import tensorflow as tf

# The character classes of the `tokenizers` library, as ranges of hexadecimal
# code points. Its data is that of Unicode 8.0, which nothing at hand can
# still compute: control, format and private use, NUL and U+FFFD (dropped);
# white space; ideographs; category Mn (accents); category P and the
# punctuation of ASCII.
_DROPPED = """
0-8 b-c e-1f 7f-9f ad 600-605 61c 6dd 70f 180e 200b-200f 202a-202e 2060-2064
2066-206f e000-f8ff feff fff9-fffb fffd 110bd 1bca0-1bca3 1d173-1d17a e0001
e0020-e007f f0000-ffffd 100000-10fffd
"""
_SPACES = "9-a d 20 a0 1680 2000-200a 2028-2029 202f 205f 3000"
_CJK = """
3400-4dbf 4e00-9fff f900-faff 20000-2a6df 2a700-2b81f 2b920-2ceaf
2f800-2fa1f
"""
_MARKS = """
300-36f 483-487 591-5bd 5bf 5c1-5c2 5c4-5c5 5c7 610-61a 64b-65f 670 6d6-6dc
6df-6e4 6e7-6e8 6ea-6ed 711 730-74a 7a6-7b0 7eb-7f3 816-819 81b-823 825-827
829-82d 859-85b 8e3-902 93a 93c 941-948 94d 951-957 962-963 981 9bc 9c1-9c4
9cd 9e2-9e3 a01-a02 a3c a41-a42 a47-a48 a4b-a4d a51 a70-a71 a75 a81-a82 abc
ac1-ac5 ac7-ac8 acd ae2-ae3 b01 b3c b3f b41-b44 b4d b56 b62-b63 b82 bc0 bcd
c00 c3e-c40 c46-c48 c4a-c4d c55-c56 c62-c63 c81 cbc cbf cc6 ccc-ccd ce2-ce3
d01 d41-d44 d4d d62-d63 dca dd2-dd4 dd6 e31 e34-e3a e47-e4e eb1 eb4-eb9
ebb-ebc ec8-ecd f18-f19 f35 f37 f39 f71-f7e f80-f84 f86-f87 f8d-f97 f99-fbc
fc6 102d-1030 1032-1037 1039-103a 103d-103e 1058-1059 105e-1060 1071-1074
1082 1085-1086 108d 109d 135d-135f 1712-1714 1732-1734 1752-1753 1772-1773
17b4-17b5 17b7-17bd 17c6 17c9-17d3 17dd 180b-180d 18a9 1920-1922 1927-1928
1932 1939-193b 1a17-1a18 1a1b 1a56 1a58-1a5e 1a60 1a62 1a65-1a6c 1a73-1a7c
1a7f 1ab0-1abd 1b00-1b03 1b34 1b36-1b3a 1b3c 1b42 1b6b-1b73 1b80-1b81
1ba2-1ba5 1ba8-1ba9 1bab-1bad 1be6 1be8-1be9 1bed 1bef-1bf1 1c2c-1c33
1c36-1c37 1cd0-1cd2 1cd4-1ce0 1ce2-1ce8 1ced 1cf4 1cf8-1cf9 1dc0-1df5
1dfc-1dff 20d0-20dc 20e1 20e5-20f0 2cef-2cf1 2d7f 2de0-2dff 302a-302d
3099-309a a66f a674-a67d a69e-a69f a6f0-a6f1 a802 a806 a80b a825-a826 a8c4
a8e0-a8f1 a926-a92d a947-a951 a980-a982 a9b3 a9b6-a9b9 a9bc a9e5 aa29-aa2e
aa31-aa32 aa35-aa36 aa43 aa4c aa7c aab0 aab2-aab4 aab7-aab8 aabe-aabf aac1
aaec-aaed aaf6 abe5 abe8 abed fb1e fe00-fe0f fe20-fe2f 101fd 102e0
10376-1037a 10a01-10a03 10a05-10a06 10a0c-10a0f 10a38-10a3a 10a3f
10ae5-10ae6 11001 11038-11046 1107f-11081 110b3-110b6 110b9-110ba
11100-11102 11127-1112b 1112d-11134 11173 11180-11181 111b6-111be
111ca-111cc 1122f-11231 11234 11236-11237 112df 112e3-112ea 11300-11301
1133c 11340 11366-1136c 11370-11374 114b3-114b8 114ba 114bf-114c0
114c2-114c3 115b2-115b5 115bc-115bd 115bf-115c0 115dc-115dd 11633-1163a
1163d 1163f-11640 116ab 116ad 116b0-116b5 116b7 1171d-1171f 11722-11725
11727-1172b 16af0-16af4 16b30-16b36 16f8f-16f92 1bc9d-1bc9e 1d167-1d169
1d17b-1d182 1d185-1d18b 1d1aa-1d1ad 1d242-1d244 1da00-1da36 1da3b-1da6c
1da75 1da84 1da9b-1da9f 1daa1-1daaf 1e8d0-1e8d6 e0100-e01ef
"""
_PUNCTUATION = """
21-2f 3a-40 5b-60 7b-7e a1 a7 ab b6-b7 bb bf 37e 387 55a-55f 589-58a 5be 5c0
5c3 5c6 5f3-5f4 609-60a 60c-60d 61b 61e-61f 66a-66d 6d4 700-70d 7f7-7f9
830-83e 85e 964-965 970 af0 df4 e4f e5a-e5b f04-f12 f14 f3a-f3d f85 fd0-fd4
fd9-fda 104a-104f 10fb 1360-1368 1400 166d-166e 169b-169c 16eb-16ed
1735-1736 17d4-17d6 17d8-17da 1800-180a 1944-1945 1a1e-1a1f 1aa0-1aa6
1aa8-1aad 1b5a-1b60 1bfc-1bff 1c3b-1c3f 1c7e-1c7f 1cc0-1cc7 1cd3 2010-2027
2030-2043 2045-2051 2053-205e 207d-207e 208d-208e 2308-230b 2329-232a
2768-2775 27c5-27c6 27e6-27ef 2983-2998 29d8-29db 29fc-29fd 2cf9-2cfc
2cfe-2cff 2d70 2e00-2e2e 2e30-2e42 3001-3003 3008-3011 3014-301f 3030 303d
30a0 30fb a4fe-a4ff a60d-a60f a673 a67e a6f2-a6f7 a874-a877 a8ce-a8cf
a8f8-a8fa a8fc a92e-a92f a95f a9c1-a9cd a9de-a9df aa5c-aa5f aade-aadf
aaf0-aaf1 abeb fd3e-fd3f fe10-fe19 fe30-fe52 fe54-fe61 fe63 fe68 fe6a-fe6b
ff01-ff03 ff05-ff0a ff0c-ff0f ff1a-ff1b ff1f-ff20 ff3b-ff3d ff3f ff5b ff5d
ff5f-ff65 10100-10102 1039f 103d0 1056f 10857 1091f 1093f 10a50-10a58 10a7f
10af0-10af6 10b39-10b3f 10b99-10b9c 11047-1104d 110bb-110bc 110be-110c1
11140-11143 11174-11175 111c5-111c9 111cd 111db 111dd-111df 11238-1123d
112a9 114c6 115c1-115d7 11641-11643 1173c-1173e 12470-12474 16a6e-16a6f
16af5 16b37-16b3b 16b44 1bc9f 1da87-1da8b
"""
# That library lower-cases by Unicode 17 and decomposes by Unicode 12; Python
# does both by what its release knows. The code points where they part: lower
# cases as "from:to", the same for a range, and what is not decomposed.
_NEW_LOWER = "1c89:1c8a a7cb:264 a7cc:a7cd a7ce:a7cf a7d2:a7d3 a7d4:a7d5 "
_NEW_LOWER += "a7da:a7db a7dc:19b 10d50-10d65:10d70 16ea0-16eb8:16ebb"
_NO_NFD = "105c9 105e4 11383-113c8 11938 16121-16128 16d68-16d6a"

# No character above this one has a case, a decomposition or a class of
# combining characters.
_LAST_LETTER = 0x3FFFF
_LONGEST_WORD = 100  # longer ones are unknown to WordPiece
_MOST_PIECES = 10_000_000
_ITSELF = "\0"  # in a replacement: the character that is replaced


def _ranges(text):
    """The set of code points that ranges like `"41-5a 61"` stand for."""
    points = set()
    for item in text.split():
        first, _, last = item.partition("-")
        points.update(range(int(first, 16), int(last or first, 16) + 1))
    return points


def _character_class(points):
    """The RE2 class, without its brackets, of a set of code points."""
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
        replacements: dict, code point to string; what is absent stays.

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
def albert_characters(lower, strip):
    """What ALBERT's preprocessing makes of each character by itself."""
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
def white_space():
    """The RE2 pattern of what `str.split` makes a single space of."""
    points = {p for p in range(_LAST_LETTER + 1) if chr(p).isspace()}
    others = _character_class(points - {ord(" ")})
    # A single space, which is most of them, is left where it is: faster.
    return f"[{_character_class(points)}]{{2,}}|[{others}]"


@functools.cache
def final_sigma():
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
def bert_characters(lower, strip, chinese):
    """What `tokenizers` makes of each character before it splits at spaces."""
    dropped, spaces, cjk, marks, punctuation, no_nfd = map(
        _ranges, (_DROPPED, _SPACES, _CJK, _MARKS, _PUNCTUATION, _NO_NFD)
    )
    lower_case = _new_lower_case()
    replacements = {}
    for point in {*range(_LAST_LETTER + 1), *dropped, *marks}:
        text = chr(point)
        if point in dropped:
            text = ""
        elif point in spaces:
            text = " "
        elif strip:
            if point not in no_nfd:
                text = unicodedata.normalize("NFD", text)
            text = "".join(c for c in text if ord(c) not in marks)
        if lower:
            text = "".join(lower_case.get(c) or c.lower() for c in text)
        text = "".join(f" {c} " if ord(c) in punctuation else c for c in text)
        if chinese and point in cjk:
            text = f" {text} "
        if text != chr(point):
            replacements[point] = text
    return _character_table(replacements)


def _new_lower_case():
    """The pairs of `_NEW_LOWER` as a dict, character to character."""
    pairs = {}
    for item in _NEW_LOWER.split():
        upper, _, lower = item.partition(":")
        for i, point in enumerate(sorted(_ranges(upper))):
            pairs[chr(point)] = chr(int(lower, 16) + i)
    return pairs


def replace_ids(ragged, table):
    """Puts in the place of each id the list of ids that a table has for it."""
    lists = tf.gather(table, ragged.flat_values)
    splits = tf.gather(lists.row_splits, ragged.row_splits)
    return tf.RaggedTensor.from_row_splits(
        lists.flat_values, splits, validate=False
    )


class Characters(tf.Module):
    """Replaces each character of a text by what a table has for it."""

    def __init__(self, table):
        super().__init__()
        pages, splits, values = table
        self._pages = tf.constant(pages)
        self._rows = tf.RaggedTensor.from_row_splits(
            tf.constant(values), tf.constant(splits, tf.int64), validate=False
        )

    def __call__(self, texts):
        """Maps `[batch]` UTF-8 strings; bytes that are none become U+FFFD."""
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
