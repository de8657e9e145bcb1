"""Text to ids, the same graph in training and in serving.

A `Tokenizer` is built of TensorFlow ops alone, so a `tf.data` pipeline and an
exported SavedModel run the very function that the tests compare with the
originals: Google's ALBERT preprocessing and Hugging Face's `BertTokenizer`.

What those originals do to a text character by character (clean, decompose,
strip accents, lower-case, set punctuation apart) is one table from a code
point to its replacement, made when the tokenizer is made. A table is exact
where the ops at hand are not: `tf.strings.lower` follows the locale of the
process ("I" is no "i" in Turkish) and ends a text at a NUL, and ICU, RE2,
Python and Rust each know another version of Unicode.
"""

import functools
import json
import pathlib
import unicodedata

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from tfadv import pretrained
from tfadv.errors import InputError

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
def _albert_characters(lower, strip):
    """What ALBERT's preprocessing makes of each character by itself."""
    replacements = {}
    for point in range(_LAST_LETTER + 1):
        character = text = chr(point)
        if strip:
            text = unicodedata.normalize("NFKD", text)
            text = "".join(c for c in text if not unicodedata.combining(c))
        if lower:
            # A capital sigma depends on its neighbours: see `_final_sigma`.
            text = "".join(c if c == "Σ" else c.lower() for c in text)
        if text != character:
            replacements[point] = text
    return _character_table(replacements)


@functools.cache
def _white_space():
    """The RE2 pattern of what `str.split` makes a single space of."""
    points = {p for p in range(_LAST_LETTER + 1) if chr(p).isspace()}
    others = _character_class(points - {ord(" ")})
    # A single space, which is most of them, is left where it is: faster.
    return f"[{_character_class(points)}]{{2,}}|[{others}]"


@functools.cache
def _final_sigma():
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
def _bert_characters(lower, strip, chinese):
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


def _replace(ragged, table):
    """Puts in the place of each id the list of ids that a table has for it."""
    lists = tf.gather(table, ragged.flat_values)
    splits = tf.gather(lists.row_splits, ragged.row_splits)
    return tf.RaggedTensor.from_row_splits(
        lists.flat_values, splits, validate=False
    )


class _Characters(tf.Module):
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


class Tokenizer(tf.Module):
    """Turns texts into the ids that a pretrained encoder reads.

    `Tokenizer.from_pretrained` picks the subclass: `AlbertTokenizer` or
    `BertTokenizer`. A tokenizer runs eagerly, inside `tf.data` and
    `tf.function`, and is saved with a SavedModel that serves raw text.
    Texts are UTF-8; bytes that are not become U+FFFD. A text that spells a
    control token, such as `"[SEP]"`, stays text: it never gets a control id.

    Args:
        pieces: list of strings, the vocabulary in order of ids.
        special: the pieces that pad, stand for the unknown, begin a text,
            end it and mask, in this order.
        max_length: int, how many ids a text may have, special ones included.

    Attributes:
        max_length: int.
        vocabulary_size: int.
        pad_id, unk_id, cls_id, sep_id, mask_id: int.
        special_ids: tuple of these five.

    Example:

    ```python
    tokenizer = tfadv.Tokenizer.from_pretrained("all-minilm-l6-v2")
    inputs = tokenizer(["a gorgeous, witty film", "dull"])
    inputs["token_ids"].shape  # (2, 7)
    tokenizer.detokenize(inputs["token_ids"][1])  # "dull"
    ```
    """

    def __init__(self, pieces, special, max_length):
        super().__init__()
        if max_length < 3:
            raise InputError(
                f"max_length must be at least 3, found {max_length}: "
                f"{special[2]} and {special[3]} take two ids of it"
            )
        missing = sorted(set(special) - set(pieces))
        if missing:
            raise InputError(
                f"the vocabulary must have {', '.join(special)}; it has no "
                f"{', '.join(missing)}; take the vocabulary that belongs to "
                "the encoder"
            )
        self._pieces = np.array(pieces, object)
        self.max_length = int(max_length)
        self.vocabulary_size = len(pieces)
        index = {piece: i for i, piece in enumerate(pieces)}
        self.special_ids = tuple(index[piece] for piece in special)
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (
            self.special_ids
        )

    @classmethod
    def from_pretrained(cls, folder, max_length=None):
        """Makes the tokenizer that belongs to a pretrained encoder.

        Args:
            folder: string or path, whatever `tfadv.pretrained.resolve`
                takes: a folder in the layout of Hugging Face (`spiece.model`,
                or `vocab.txt` or `tokenizer.json`) or of a KerasHub preset.
            max_length: int, how many ids a text may have, special ones
                included. Defaults to what the folder was saved with by
                `save`, else 128.

        Returns:
            `AlbertTokenizer` or `BertTokenizer`.

        Raises:
            InputError: the folder lacks a file, a file is not what it should
                be, or the encoder is of another family.
        """
        folder = pretrained.resolve(folder)
        try:
            return cls._of_folder(folder, max_length)
        except InputError as error:
            if str(folder) in str(error):
                raise
            raise InputError(f"{folder}: {error}") from error
        except (
            AttributeError,
            LookupError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            reason = str(error).strip().split("\n")[0]
            raise InputError(
                f"{folder}: the files of the tokenizer are not of the form "
                f"that they must have ({type(error).__name__}: {reason}); copy "
                "them anew from where the encoder comes from"
            ) from error

    @classmethod
    def _of_folder(cls, folder, max_length):
        settings = _read_settings(folder)
        family = _family(folder, settings)
        if family not in _FAMILIES or not issubclass(_FAMILIES[family], cls):
            known = [k for k, v in _FAMILIES.items() if issubclass(v, cls)]
            raise InputError(
                f"{folder} holds the tokenizer of a {family!r} encoder; "
                f"expected {' or '.join(map(repr, known))}; choose an encoder "
                "of that family"
            )
        if max_length is None:
            max_length = settings.get("tfadv_max_length", 128)
        return _FAMILIES[family]._load(folder, settings, max_length)

    def tokenize(self, texts):
        """Turns texts into rows of ids, each as long as its text needs.

        Args:
            texts: list, numpy array or tensor `[batch]` of strings.

        Returns:
            `tf.RaggedTensor` `[batch, (tokens)]`, int32: `cls_id`, the ids of
            the text up to `max_length` in all, `sep_id`.
        """
        texts = tf.ensure_shape(tf.convert_to_tensor(texts, tf.string), [None])
        ids = self._tokenize(texts)[:, : self.max_length - 2]
        ends = tf.ones([tf.shape(texts)[0], 1], tf.int32)
        return tf.concat([ends * self.cls_id, ids, ends * self.sep_id], axis=1)

    def __call__(self, texts):
        """Turns texts into the inputs of an encoder.

        Args:
            texts: list, numpy array or tensor `[batch]` of strings.

        Returns:
            dict of int32 tensors `[batch, longest of the batch]`:
            `"token_ids"`, padded with `pad_id`; `"padding_mask"`, 1 for an id
            of the text and 0 for padding; `"segment_ids"`, all 0.
        """
        ids = self.tokenize(texts)
        token_ids = ids.to_tensor(self.pad_id)
        mask = tf.sequence_mask(
            ids.row_lengths(), tf.shape(token_ids)[1], tf.int32
        )
        return {
            "token_ids": token_ids,
            "padding_mask": mask,
            "segment_ids": tf.zeros_like(token_ids),
        }

    def ids_to_tokens(self, ids):
        """Names ids; runs on the host, not in a graph.

        Args:
            ids: list, array, tensor or ragged tensor of ids `[tokens]` or
                `[batch, tokens]`.

        Returns:
            list of piece strings, or a list of such lists.
        """
        return [
            self._pieces[row] if np.ndim(row) == 0 else self.ids_to_tokens(row)
            for row in _to_lists(ids)
        ]

    def detokenize(self, ids):
        """Puts ids back together as text; runs on the host, not in a graph.

        The text is for reading. It is not the one that was tokenized: case,
        accents and some of the spaces are gone.

        Args:
            ids: as for `ids_to_tokens`.

        Returns:
            string, or list of strings for a batch. Padding and the control
            tokens are left out; what is unknown shows as the unknown piece.
        """
        ids = _to_lists(ids)
        if any(np.ndim(row) for row in ids):
            return [self.detokenize(row) for row in ids]
        hidden = set(self.special_ids) - {self.unk_id}
        return self._join(self._pieces[i] for i in ids if i not in hidden)

    def starts_word(self, ids):
        """Tells which pieces begin a word; runs on the host, not in a graph.

        Args:
            ids: list or array of ids.

        Returns:
            bool array of ids' shape. Control tokens begin a word.
        """
        starts = [
            i in self.special_ids or self._starts_word(self._pieces[i])
            for i in np.ravel(ids)
        ]
        return np.reshape(np.array(starts, bool), np.shape(ids))

    def save(self, folder):
        """Writes the vocabulary and `tokenizer_config.json`.

        `from_pretrained` makes an identical tokenizer of the folder, and so
        does `transformers`.

        Args:
            folder: string or path; made if it is not there.
        """
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._save_vocabulary(folder)
        pad, unk, cls, sep, mask = self.ids_to_tokens(self.special_ids)
        settings = {
            "tokenizer_class": type(self).__name__,
            "model_max_length": self.max_length,
            "tfadv_max_length": self.max_length,
            **self._settings(),
            "pad_token": pad,
            "unk_token": unk,
            "cls_token": cls,
            "sep_token": sep,
            "mask_token": mask,
        }
        text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
        path = folder / "tokenizer_config.json"
        path.write_text(text, encoding="utf-8")


class AlbertTokenizer(Tokenizer):
    """SentencePiece with the preprocessing ALBERT was pretrained with.

    That is Google's original code, whose ids these are: quotes written as
    two backticks or apostrophes become `"`, white space is made single,
    accents are dropped (NFKD, no combining characters), letters lower-cased
    as `str.lower` does, final sigma included; and a piece that ends in a
    digit and a comma ("2,") is split anew without the comma. Ids can differ
    where two splits of a word are equally likely.

    Args:
        model: bytes of a SentencePiece model (`spiece.model`).
        max_length: int, how many ids a text may have, special ones included.
        do_lower_case: bool.
        keep_accents: bool, whether to leave out NFKD and keep accents.
        remove_space: bool, whether to strip texts and make white space single.

    Reference:
        [Lan et al., 2020](https://arxiv.org/abs/1909.11942)
    """

    def __init__(
        self,
        model,
        max_length=128,
        do_lower_case=True,
        keep_accents=False,
        remove_space=True,
    ):
        self._model = model
        self._sentencepiece = tf_text.SentencepieceTokenizer(model, tf.int32)
        size = int(self._sentencepiece.vocab_size())
        pieces = self._sentencepiece.id_to_string(tf.range(size)).numpy()
        super().__init__(
            [piece.decode() for piece in pieces],
            ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"),
            max_length,
        )
        self.do_lower_case = do_lower_case
        self.keep_accents = keep_accents
        self.remove_space = remove_space
        self._characters = _Characters(
            _albert_characters(do_lower_case, not keep_accents)
        )
        self._splits = self._split_commas()
        # The model made outside of a graph lives until a seed is set anew,
        # which clears all kernels; one in a graph of its own is made again.
        self._pieces_of = tf.function(
            lambda texts: tf_text.SentencepieceTokenizer(
                model, tf.int32
            ).tokenize(texts),
            input_signature=[tf.TensorSpec([None], tf.string)],
            autograph=False,
        )

    def _split_commas(self):
        """The ids that each id is replaced by, nearly always itself.

        Google's `encode_pieces` treats a piece that ends in digit and comma
        by looking at that piece alone, so its answers make a table. A control
        token of a model that finds it in texts becomes the unknown.
        """
        split = tf_text.SentencepieceTokenizer(self._model, tf.string).tokenize
        pieces = [[piece] for piece in self._pieces]
        for i in set(self.special_ids) - {self.unk_id}:
            pieces[i] = [self._pieces[self.unk_id]]
        for i, piece in enumerate(self._pieces):
            if len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit():
                text = piece[:-1].replace("▁", "")
                parts = [part.decode() for part in split(text).numpy()]
                if piece[0] != "▁" and parts[0][0] == "▁":
                    parts[0] = parts[0][1:]
                pieces[i] = [part for part in (*parts, ",") if part]
        return self._sentencepiece.string_to_id(tf.ragged.constant(pieces))

    def _tokenize(self, texts):
        if self.remove_space:
            texts = tf.strings.regex_replace(texts, _white_space(), " ")
            texts = tf.strings.strip(texts)
        texts = tf.strings.regex_replace(texts, "``|''", '"')
        texts = self._characters(texts)
        if self.do_lower_case:
            texts = tf.strings.regex_replace(texts, _final_sigma(), r"\1ς\2\3")
            texts = tf.strings.regex_replace(texts, "Σ", "\u03c3")
        return _replace(self._pieces_of(texts), self._splits)

    def _join(self, pieces):
        return "".join(pieces).replace("▁", " ").strip()

    def _starts_word(self, piece):
        return piece.startswith("▁")

    def _settings(self):
        return {
            "do_lower_case": self.do_lower_case,
            "keep_accents": self.keep_accents,
            "remove_space": self.remove_space,
        }

    def _save_vocabulary(self, folder):
        (folder / "spiece.model").write_bytes(self._model)

    @classmethod
    def _load(cls, folder, settings, max_length):
        path = _first_file(
            folder, "spiece.model", "assets/tokenizer/vocabulary.spm"
        )
        names = ("do_lower_case", "keep_accents", "remove_space")
        options = {n: settings[n] for n in names if n in settings}
        try:
            return cls(path.read_bytes(), max_length, **options)
        except tf.errors.OpError:
            raise InputError(
                f"{path} must be a SentencePiece model and is none; copy it "
                "anew from where the encoder comes from"
            ) from None


class BertTokenizer(Tokenizer):
    """WordPiece as `transformers.BertTokenizer` does it.

    The ids are those of the `tokenizers` library, for every character of
    Unicode: its `BertNormalizer`, `BertPreTokenizer` and `WordPiece`. The
    181 combining marks that stay when accents are stripped, such as the
    Javanese virama, are not put in canonical order where several follow one
    another; that changes ids only if the vocabulary has pieces with them.

    Args:
        vocabulary: list of strings, the pieces in order of ids.
        max_length: int, how many ids a text may have, special ones included.
        do_lower_case: bool.
        strip_accents: bool; by default what `do_lower_case` is.
        tokenize_chinese_chars: bool, whether each ideograph is a word.

    Reference:
        [Devlin et al., 2019](https://arxiv.org/abs/1810.04805)
    """

    def __init__(
        self,
        vocabulary,
        max_length=128,
        do_lower_case=True,
        strip_accents=None,
        tokenize_chinese_chars=True,
    ):
        super().__init__(
            vocabulary,
            ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
            max_length,
        )
        self.do_lower_case = do_lower_case
        self.strip_accents = strip_accents
        self.tokenize_chinese_chars = tokenize_chinese_chars
        strip = do_lower_case if strip_accents is None else strip_accents
        self._characters = _Characters(
            _bert_characters(do_lower_case, strip, tokenize_chinese_chars)
        )
        # The op wants each piece once and none empty. Of equal ones the last
        # counts; no word is like the stand-ins, for "[" is a word by itself.
        last = {piece: i for i, piece in enumerate(vocabulary)}
        self._wordpiece = tf_text.FastWordpieceTokenizer(
            [
                piece if piece and last[piece] == i else f"[unreachable {i}]"
                for i, piece in enumerate(vocabulary)
            ],
            token_out_type=tf.int32,
            max_bytes_per_word=4 * _LONGEST_WORD,
            no_pretokenization=True,
        )

    def _tokenize(self, texts):
        words = tf.strings.split(self._characters(texts))
        flat = words.flat_values
        # The limit of the op is in bytes.
        long = tf.strings.length(flat, "UTF8_CHAR") > _LONGEST_WORD
        words = words.with_flat_values(tf.where(long, "[UNK]", flat))
        return self._wordpiece.tokenize(words).merge_dims(1, 2)

    def _join(self, pieces):
        return " ".join(pieces).replace(" ##", "")

    def _starts_word(self, piece):
        return not piece.startswith("##")

    def _settings(self):
        return {
            "do_lower_case": self.do_lower_case,
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": self.tokenize_chinese_chars,
        }

    def _save_vocabulary(self, folder):
        text = "".join(f"{piece}\n" for piece in self._pieces)
        path = folder / "vocab.txt"
        path.write_text(text, encoding="utf-8", newline="\n")

    @classmethod
    def _load(cls, folder, settings, max_length):
        path = _first_file(
            folder,
            "vocab.txt",
            "assets/tokenizer/vocabulary.txt",
            "tokenizer.json",
        )
        if path.suffix == ".txt":
            vocabulary = _read_text(path).removesuffix("\n").split("\n")
        else:
            vocabulary = _wordpiece_vocabulary(path)
        names = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
        options = {n: settings[n] for n in names if n in settings}
        return cls(vocabulary, max_length, **options)


_FAMILIES = {"albert": AlbertTokenizer, "bert": BertTokenizer}


def _to_lists(ids):
    """A tensor, ragged tensor or array as a list; of lists, for a batch."""
    if hasattr(ids, "numpy"):
        ids = ids.numpy()
    return ids.tolist() if hasattr(ids, "tolist") else list(ids)


def _read_text(path):
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} must be readable UTF-8 text ({error}); copy it anew from "
            "where the encoder comes from"
        ) from None


def _read_json(path):
    """Reads a JSON object; a file that is not there is an empty one."""
    if not path.is_file():
        return {}
    text = _read_text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        content = error
    if not isinstance(content, dict):
        raise InputError(
            f"{path} must hold a JSON object, found {content!r:.60}; copy it "
            "anew from where the encoder comes from"
        )
    return content


def _read_settings(folder):
    """The settings of a tokenizer in the words of `tokenizer_config.json`."""
    backend = _read_json(folder / "tokenizer.json")
    settings = {}
    if "class_name" in backend:  # KerasHub
        settings["do_lower_case"] = (backend.get("config") or {}).get(
            "lowercase"
        )
    elif backend:
        normalizer = backend.get("normalizer") or {}
        settings["do_lower_case"] = normalizer.get("lowercase")
        settings["strip_accents"] = normalizer.get("strip_accents")
        chinese = normalizer.get("handle_chinese_chars")
        settings["tokenize_chinese_chars"] = chinese
    settings |= _read_json(folder / "tokenizer_config.json")
    return {k: v for k, v in settings.items() if v is not None}


def _family(folder, settings):
    """The family of a folder's tokenizer, `"albert"`, `"bert"` or another."""
    # What `save` wrote by itself has no config.json, but names its class.
    name = settings.get("tokenizer_class")
    if isinstance(name, str) and not (folder / "config.json").is_file():
        return name.removesuffix("Fast").removesuffix("Tokenizer").lower()
    return pretrained.family(pretrained.read_config(folder))


def _first_file(folder, *names):
    for name in names:
        if (folder / name).is_file():
            return folder / name
    found = sorted(path.name for path in folder.iterdir()) or ["nothing"]
    raise InputError(
        f"{folder} must have the vocabulary as {' or '.join(names)}; found "
        f"{', '.join(found[:10])}; copy it from where the encoder comes from"
    )


def _wordpiece_vocabulary(path):
    """The pieces of a `tokenizer.json`, in order of their ids."""
    content = _read_json(path)
    model = content.get("model") or {}
    normalizer = content.get("normalizer") or {}
    vocabulary = model.get("vocab")
    kinds = model.get("type", "WordPiece"), normalizer.get("type")
    if kinds != ("WordPiece", "BertNormalizer") or not isinstance(
        vocabulary, dict
    ):
        raise InputError(
            f"{path} must describe WordPiece with a BertNormalizer, found "
            f"{kinds[0]} with {kinds[1]}; give a folder with vocab.txt"
        )
    ids = vocabulary | {
        token["content"]: token["id"]
        for token in content.get("added_tokens") or []
    }
    # Ids may leave gaps, but a wrong one must not fill the memory.
    if not all(i in range(_MOST_PIECES) for i in ids.values()):
        raise InputError(
            f"{path}: an id of the vocabulary is not a whole number from 0 to "
            f"{_MOST_PIECES - 1}; copy it anew from where the encoder comes "
            "from"
        )
    pieces = [""] * (max(ids.values()) + 1)
    for piece, i in ids.items():
        pieces[i] = piece
    return pieces
