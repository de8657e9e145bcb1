"""A trained classifier as a SavedModel: raw text in, class names out.

The graph holds the tokenizer that training used, the encoder and the
classification head, and nothing else: no optimizer, no memory bank, no
reconstruction head. It runs wherever TensorFlow runs with the ops of
`tensorflow_text`, as it does in TensorFlow Serving; neither Keras nor tfadv
is needed.
"""

from typing import Any

import tensorflow as tf

from tfadv.export.frozen import FrozenEncoder, places

# Sentences that the encoder reads at a time, sorted by length. It bounds the
# memory that a large request takes.
_ROWS = 64

SIGNATURES = ("serving_default", "classify_token_ids", "represent", "tokenize")


def build_module(run: Any, precision: str = "float32") -> tf.Module:
    """Puts a run's tokenizer, encoder and head into functions of tensors.

    Args:
        run: `tfadv.runs.run.Run`.
        precision: string, `"float32"` or `"bfloat16"`, of the encoder's
            weights.

    Returns:
        `tf.Module` with these functions, each of and to dicts of tensors:

        - `serving_default`: `"text"`, `[batch]` strings, to `"label"`,
          `[batch]`, the name of the likeliest class; `"score"`, `[batch]`, its
          probability; `"probabilities"`, `[batch, classes]`; and
          `"classes"`, `[batch, classes]`, whose probabilities they are.
        - `classify_token_ids`: `"token_ids"`, `"padding_mask"` and
          `"segment_ids"`, `[batch, tokens]`, to the same.
        - `represent`: `"text"` to `"representation"`, `[batch, hidden]`, the
          sentence's representation that the head sees.
        - `tokenize`: `"text"` to what `classify_token_ids` takes.

    Raises:
        InputError: the weights do not fit into a graph.

    Example:

    ```python
    module = build_module(tfadv.load("runs/freelb"))
    module.serving_default(tf.constant(["a gorgeous, witty film"]))["label"]
    ```
    """
    module = tf.Module(name="classifier")
    # Its tables are resources, which a SavedModel must know of.
    module.tokenizer = tokenizer = run.tokenizer
    frozen = FrozenEncoder(run.classifier.encoder.description, precision)
    classify = _head(run)
    # A function of its own, for all signatures to share one copy of weights.
    vector = tf.TensorSpec([None], tf.int32)
    encode = tf.function(
        frozen,
        input_signature=[
            vector,
            vector,
            tf.TensorSpec([None, 2], tf.int32),
            tf.TensorSpec([2], tf.int32),
        ],
    )

    def represent(text):
        return _by_length(
            tokenizer.tokenize(text),
            lambda rows: encode(
                rows.values,
                tf.zeros_like(rows.values),
                *places(rows),
            ),
            frozen.hidden_dim,
        )

    def classify_token_ids(token_ids, padding_mask, segment_ids):
        token_ids, padding_mask, segment_ids = (
            tf.ensure_shape(tensor, [None, None])
            for tensor in (token_ids, padding_mask, segment_ids)
        )
        checks = _check_token_ids(
            token_ids, padding_mask, segment_ids, tokenizer, frozen
        )
        with tf.control_dependencies(checks):
            real = tf.cast(padding_mask, tf.bool)
            return classify(
                encode(
                    tf.boolean_mask(token_ids, real),
                    tf.boolean_mask(segment_ids, real),
                    tf.cast(tf.where(real), tf.int32),
                    tf.shape(token_ids),
                )
            )

    text = [tf.TensorSpec([None], tf.string, "text")]
    ids = [
        tf.TensorSpec([None, None], tf.int32, name)
        for name in ("token_ids", "padding_mask", "segment_ids")
    ]
    functions = {
        "serving_default": (lambda text: classify(represent(text)), text),
        "classify_token_ids": (classify_token_ids, ids),
        "represent": (lambda text: {"representation": represent(text)}, text),
        "tokenize": (lambda text: tokenizer(text), text),
    }
    for name, (function, signature) in functions.items():
        setattr(module, name, tf.function(function, input_signature=signature))
    return module


def _head(run):
    """Returns the function from representations to what is served."""
    label_names = list(run.label_names)
    kernel = run.classifier.head.kernel.numpy()
    bias = run.classifier.head.bias.numpy()

    def classify(pooled):
        probabilities = tf.nn.softmax(tf.matmul(pooled, kernel) + bias)
        names = tf.constant(label_names)
        return {
            "label": tf.gather(names, tf.argmax(probabilities, axis=1)),
            "score": tf.reduce_max(probabilities, axis=1),
            "probabilities": probabilities,
            "classes": tf.tile(names[None], [tf.shape(pooled)[0], 1]),
        }

    return classify


def _by_length(rows, function, size):
    """Maps ragged rows to vectors, `_ROWS` at a time, the shortest first."""
    order = tf.argsort(rows.row_lengths())
    rows = tf.gather(rows, order)
    count = tf.cast(rows.nrows() + _ROWS - 1, tf.int32) // _ROWS
    vectors = tf.TensorArray(
        tf.float32, count, infer_shape=False, element_shape=[None, size]
    )
    _, vectors = tf.while_loop(
        lambda i, _: i < count,
        lambda i, vectors: (
            i + 1,
            vectors.write(i, function(rows[i * _ROWS : (i + 1) * _ROWS])),
        ),
        [0, vectors],
        # One at a time: that is what bounds the memory.
        parallel_iterations=1,
    )
    return tf.gather(vectors.concat(), tf.argsort(order))


def _check_token_ids(token_ids, padding_mask, segment_ids, tokenizer, frozen):
    """Stops on ids that the encoder would read past the ends of its tables."""
    shape = tf.shape(token_ids)
    equal, less = tf.debugging.assert_equal, tf.debugging.assert_less
    checks = []
    for name, tensor, limit in (
        ("token_ids", token_ids, tokenizer.vocabulary_size),
        ("padding_mask", padding_mask, 2),
        ("segment_ids", segment_ids, len(frozen.lookups["segment_ids"])),
    ):
        allowed = f"{name}: expected integers from 0 to {limit - 1}"
        checks += [
            equal(
                tf.shape(tensor),
                shape,
                f"{name}: expected the shape of token_ids, [batch, tokens]",
            ),
            tf.debugging.assert_non_negative(tensor, allowed),
            less(tensor, limit, allowed),
        ]
    longest = len(frozen.lookups["positions"])
    return [
        *checks,
        less(shape[1], longest + 1, f"token_ids: at most {longest} a row"),
        equal(
            padding_mask[:, :1],
            tf.ones_like(padding_mask[:, :1]),
            "padding_mask: expected 1 at the first token of every row",
        ),
    ]
