"""SentencePiece, as ALBERT was pretrained with it."""

import tensorflow as tf
import tensorflow_text as tf_text

from tfadv.text import characters
from tfadv.text.tokenizer import Tokenizer


class AlbertTokenizer(Tokenizer):
    """SentencePiece with the preprocessing ALBERT was pretrained with.

    The ids are those of Google's original code: quotes written as two
    backticks or apostrophes become `"`, white space is made single, accents
    are dropped (NFKD, no combining characters), and letters are lower-cased
    as `str.lower` does it, with its final sigma. A piece that ends in a digit
    and a comma ("2,") is split again without the comma. Ids can differ
    where two splits of a word are equally likely.

    Args:
        model: bytes of a SentencePiece model (`spiece.model`).
        max_length: int, how many ids a text may have, special ones included.
        do_lower_case: bool.
        keep_accents: bool, whether to leave out NFKD and keep accents.
        remove_space: bool, whether to strip texts and make white space single.

    Example:

    ```python
    model = pathlib.Path("albert-base-v2/spiece.model").read_bytes()
    tokenizer = AlbertTokenizer(model, max_length=64)
    tokenizer(["a gorgeous, witty film"])["token_ids"]
    ```

    Reference:
        [Lan et al., 2020](https://arxiv.org/abs/1909.11942)
    """

    def __init__(
        self,
        model: bytes,
        max_length: int = 128,
        do_lower_case: bool = True,
        keep_accents: bool = False,
        remove_space: bool = True,
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
        self._characters = characters.Characters(
            characters.albert_characters(do_lower_case, not keep_accents)
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
        """Returns the ids that replace each id, nearly always itself.

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
            texts = tf.strings.regex_replace(
                texts, characters.white_space(), " "
            )
            texts = tf.strings.strip(texts)
        texts = tf.strings.regex_replace(texts, "``|''", '"')
        texts = self._characters(texts)
        if self.do_lower_case:
            texts = tf.strings.regex_replace(
                texts, characters.final_sigma(), r"\1ς\2\3"
            )
            texts = tf.strings.regex_replace(texts, "Σ", "\u03c3")
        return characters.replace_ids(self._pieces_of(texts), self._splits)

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
    def _load(cls, checkpoint, settings, max_length):
        path = checkpoint.find(
            "spiece.model", "assets/tokenizer/vocabulary.spm"
        )
        names = ("do_lower_case", "keep_accents", "remove_space")
        options = {n: settings[n] for n in names if n in settings}
        try:
            return cls(path.read_bytes(), max_length, **options)
        except tf.errors.OpError as error:
            raise checkpoint.error(
                "bad-vocabulary",
                f"expected a SentencePiece model in {path}, found something "
                "else",
                "copy it anew from where the encoder comes from",
            ) from error
