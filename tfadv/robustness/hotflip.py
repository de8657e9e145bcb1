"""HotFlip: an attack that exchanges whole words, guided by the gradient."""

import numpy as np
import tensorflow as tf

from tfadv.data import batching
from tfadv.datasets.examples import Examples
from tfadv.encoders.encoder import Encoder
from tfadv.robustness.statistics import with_interval
from tfadv.robustness.text_adversary import add_predictions, changed_tokens
from tfadv.robustness.trained import Trained

# Rows of the table of cosines that exist at a time.
_ROWS_AT_ONCE = 1024


class HotFlip:
    """Exchanges at most a number of words of each text for near ones.

    In every round, the gradient with respect to the word embeddings tells to
    first order how much the loss grows if a word is exchanged for another;
    the best exchange is made. Only words of one piece are exchanged, each at
    most once, for whole words among their nearest neighbours by the cosine of
    the word embeddings. A text on which the classifier is wrong stays as it
    is. What an example gets depends on no other one.

    Args:
        run: `Trained`, such as `tfadv.load` returns it.
        max_flips: int, words exchanged in a text.
        num_neighbors: int, candidates per word.
        min_cosine: float. Candidates are at least that near.

    Example:

    ```python
    attack = HotFlip(tfadv.load("runs/freelb"), max_flips=2)
    lines = attack.attack(dataset.test)
    ```

    Reference:
     - [Ebrahimi et al. 2018](https://arxiv.org/abs/1712.06751), section 3
    """

    def __init__(
        self,
        run: Trained,
        max_flips: int = 2,
        num_neighbors: int = 20,
        min_cosine: float = 0.3,
    ):
        self.run = run
        self.max_flips = max_flips
        self.num_neighbors = num_neighbors
        self.min_cosine = min_cosine
        encoder = run.classifier.encoder
        # The gradient is taken at the lookup, wherever the run's delta was.
        self._encoder = Encoder(encoder.backbone, encoder.activation)
        self._embeddings = tf.cast(
            tf.convert_to_tensor(encoder.token_embedding.embeddings), tf.float32
        )
        vocabulary = np.arange(self._embeddings.shape[0])
        tokenizer = run.tokenizer
        special = np.isin(vocabulary, tokenizer.special_ids)
        starts = tokenizer.starts_word(vocabulary)
        # "[unused7]" and the like are no words.
        named = [
            any(character.isalpha() for character in piece) and piece[0] != "["
            for piece in tokenizer.ids_to_tokens(vocabulary)
        ]
        self._starts = tf.constant(starts)
        self._words = tf.constant(starts & ~special & np.array(named))
        self._neighbors, self._near = self._nearest(num_neighbors, min_cosine)
        self._attacked = tf.function(
            self._attack,
            input_signature=batching.batch_spec(),
            autograph=False,
        )

    def attack(self, examples: Examples, batch_size: int = 32) -> list[dict]:
        """Attacks texts.

        Args:
            examples: `tfadv.datasets.examples.Examples`.
            batch_size: int.

        Returns:
            List of dicts in the examples' order: `index`, `original`,
            `adversary`, `label`, `prediction_before`, `prediction_after`
            (on the texts, read anew) and `changed`, a list of `{"position",
            "from", "to"}`.
        """
        run = self.run
        tokenized = batching.tokenize(examples, run.tokenizer)
        after = batching.map_in_order(
            self._attacked, tokenized, batch_size, "HotFlip"
        )
        lines = []
        for index, text in enumerate(examples.texts):
            before = np.array(tokenized.token_ids[index])
            flipped = after[index][: len(before)]
            changed = changed_tokens(run.tokenizer, before, flipped)
            lines.append(
                {
                    "index": index,
                    "original": text,
                    # An untouched text stays as its author wrote it.
                    "adversary": run.tokenizer.detokenize(flipped)
                    if changed
                    else text,
                    "label": run.label_names[examples.labels[index]],
                    "changed": changed,
                }
            )
        add_predictions(lines, run, "prediction", "adversary")
        return lines

    def summary(self, lines: list[dict]) -> dict:
        """Sums up what `attack` returned, for `robustness.json`.

        Args:
            lines: list of dicts, as `attack` returns them.

        Returns:
            dict: the settings, `accuracy` on the adversaries with its 95 %
            confidence interval, and `changed_words`, the mean number.
        """
        right = [line["prediction_after"] == line["label"] for line in lines]
        return {
            "max_flips": self.max_flips,
            "num_neighbors": self.num_neighbors,
            "min_cosine": self.min_cosine,
            **with_interval("accuracy", np.array(right)),
            "changed_words": float(
                np.mean([len(line["changed"]) for line in lines])
            ),
        }

    def _attack(self, x, y):
        """Returns the token ids after at most `max_flips` exchanges."""
        mask = tf.cast(x["padding_mask"], tf.bool)
        y = tf.cast(y, tf.int32)

        def one_round(rounds, ids, flipped):
            inputs = {**x, "token_ids": ids}
            embeddings = tf.cast(self._encoder.embed(inputs), tf.float32)
            with tf.GradientTape() as tape:
                tape.watch(embeddings)
                outputs = self._encoder.encode(
                    embeddings, inputs, pooled_only=True
                )
                logits = self.run.classifier.classify(outputs)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                    y, logits
                )
            gradient = tape.gradient(losses, embeddings)
            right = tf.argmax(logits, axis=1, output_type=tf.int32) == y
            followed = tf.concat([ids[:, 1:], ids[:, -1:]], axis=1)
            # A word of one piece: the next piece begins another word.
            open_words = (
                tf.gather(self._words, ids)
                & tf.gather(self._starts, followed)
                & mask
                & ~flipped
                & right[:, None]
            )
            gains = tf.where(
                open_words[:, :, None], self._gains(ids, gradient), -np.inf
            )
            number = tf.shape(gains)[2]
            flat = tf.reshape(gains, [tf.shape(ids)[0], -1])
            best = tf.argmax(flat, axis=1, output_type=tf.int32)
            helps = tf.reduce_max(flat, axis=1) > 0.0
            position, choice = best // number, best % number
            word = tf.gather(ids, position, batch_dims=1)
            new = tf.gather(
                tf.gather(self._neighbors, word), choice, batch_dims=1
            )
            here = (
                tf.range(tf.shape(ids)[1])[None] == position[:, None]
            ) & helps[:, None]
            return rounds + 1, tf.where(here, new[:, None], ids), flipped | here

        _, ids, _ = tf.while_loop(
            lambda rounds, *_: rounds < self.max_flips,
            one_round,
            (tf.constant(0), x["token_ids"], tf.zeros_like(mask)),
            maximum_iterations=self.max_flips,
            parallel_iterations=1,
        )
        return ids

    def _gains(self, ids, gradient):
        """Estimates the growth of the loss for every word and candidate."""

        def of_one(ids_and_gradient):
            ids, gradient = ids_and_gradient
            candidates = tf.gather(self._neighbors, ids)
            moves = (
                tf.gather(self._embeddings, candidates)
                - tf.gather(self._embeddings, ids)[:, None]
            )
            gains = tf.einsum("tke,te->tk", moves, gradient)
            return tf.where(tf.gather(self._near, ids), gains, -np.inf)

        # One example at a time: [tokens, neighbors, embedding] is large.
        return tf.map_fn(
            of_one, (ids, gradient), fn_output_signature=tf.float32
        )

    def _nearest(self, count, min_cosine):
        """Finds the nearest words of all words, and which are near enough."""
        unit = tf.nn.l2_normalize(self._embeddings, axis=1)

        @tf.function(reduce_retracing=True, autograph=False)
        def nearest(rows):
            cosines = tf.matmul(tf.gather(unit, rows), unit, transpose_b=True)
            others = self._words & (
                tf.range(unit.shape[0])[None] != rows[:, None]
            )
            return tf.math.top_k(tf.where(others, cosines, -1.0), count)

        total = self._embeddings.shape[0]
        count = min(count, total)
        parts = [
            nearest(tf.range(start, min(start + _ROWS_AT_ONCE, total)))
            for start in range(0, total, _ROWS_AT_ONCE)
        ]
        indices = tf.concat([part.indices for part in parts], axis=0)
        cosines = tf.concat([part.values for part in parts], axis=0)
        return indices, cosines >= min_cosine
