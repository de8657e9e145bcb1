"""WordPiece, as BERT was pretrained with it."""

import tensorflow as tf
import tensorflow_text as tf_text

from tfadv.text import characters
from tfadv.text.tokenizer import Tokenizer

_LONGEST_WORD = 100  # longer ones are unknown to WordPiece
_MOST_PIECES = 10_000_000


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
        strip_accents: bool; by default the value of `do_lower_case`.
        tokenize_chinese_chars: bool, whether each ideograph is a word.

    Example:

    ```python
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = BertTokenizer([*special, "good", "film", "##s"], 64)
    tokenizer(["Good films"])["token_ids"]  # [[2, 5, 6, 7, 3]]
    ```

    Reference:
        [Devlin et al., 2019](https://arxiv.org/abs/1810.04805)
    """

    def __init__(
        self,
        vocabulary: list[str],
        max_length: int = 128,
        do_lower_case: bool = True,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
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
        self._characters = characters.Characters(
            characters.bert_characters(
                do_lower_case, strip, tokenize_chinese_chars
            )
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
    def _load(cls, checkpoint, settings, max_length):
        path = checkpoint.find(
            "vocab.txt", "assets/tokenizer/vocabulary.txt", "tokenizer.json"
        )
        if path.suffix == ".txt":
            text = checkpoint.read_text(path.relative_to(checkpoint.folder))
            vocabulary = text.removesuffix("\n").split("\n")
        else:
            vocabulary = _wordpiece_vocabulary(checkpoint)
        names = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
        options = {n: settings[n] for n in names if n in settings}
        return cls(vocabulary, max_length, **options)


def _wordpiece_vocabulary(checkpoint):
    """Reads the pieces of a `tokenizer.json`, in order of their ids."""
    content = checkpoint.read_json("tokenizer.json")
    model = content.get("model") or {}
    normalizer = content.get("normalizer") or {}
    vocabulary = model.get("vocab")
    kinds = model.get("type", "WordPiece"), normalizer.get("type")
    if kinds != ("WordPiece", "BertNormalizer") or not isinstance(
        vocabulary, dict
    ):
        raise checkpoint.error(
            "unsupported-tokenizer",
            "expected WordPiece with a BertNormalizer in "
            f"{checkpoint.folder / 'tokenizer.json'}, found {kinds[0]} with "
            f"{kinds[1]}",
            "give a folder with vocab.txt",
        )
    ids = vocabulary | {
        token["content"]: token["id"]
        for token in content.get("added_tokens") or []
    }
    # Ids may leave gaps, but a wrong one must not fill the memory.
    if not all(i in range(_MOST_PIECES) for i in ids.values()):
        raise checkpoint.error(
            "bad-vocabulary",
            f"expected ids from 0 to {_MOST_PIECES - 1} in "
            f"{checkpoint.folder / 'tokenizer.json'}, found another one",
            "copy it anew from where the encoder comes from",
        )
    pieces = [""] * (max(ids.values()) + 1)
    for piece, i in ids.items():
        pieces[i] = piece
    return pieces
