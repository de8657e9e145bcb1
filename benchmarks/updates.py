"""Our own updates and attacks, at given sizes, ready to be called."""

import keras
import keras_hub
import numpy as np
import tensorflow as tf

import tfadv
from benchmarks import sizes
from tfadv.data import batching
from tfadv.encoders.packing import Packing
from tfadv.training import optimizers


class DenseReconstruction(tfadv.ReconstructionObjective):
    """RAR as it is usually written: the logits of all tokens at once."""

    def loss(self, inputs, labels, clean, adversarial, sample_weight=None):
        hidden = self._transform(adversarial["sequence_output"])
        logits = tf.matmul(hidden, self._embeddings(), transpose_b=True)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            inputs["token_ids"], logits + tf.convert_to_tensor(self.bias)
        )
        words = tf.cast(self.words(inputs), tf.float32)
        means = tf.reduce_sum(losses * words, 1) / tf.reduce_sum(words, 1)
        return tf.reduce_mean(means)


def make_update(name, options):
    """Returns the update of a method on one batch.

    Args:
        name: string: `"plain"`, `"FreeLB"`, or objectives' names, see
            `make_objective`, joined by `" + "`.
        options: `argparse.Namespace` with the flags of
            `sizes.add_update_flags`, `encoder` and `precision`.

    Returns:
        callable without arguments.
    """
    classifier = make_classifier(name, options)
    batch = make_batch(classifier.encoder, options)
    # Of open shapes, as batches of a data set have them: one graph for all.
    step = tf.function(
        lambda inputs, labels: classifier.train_step((inputs, labels)),
        autograph=False,
        input_signature=tf.nest.map_structure(
            lambda x: tf.TensorSpec([None] * x.shape.rank, x.dtype), batch
        ),
    )
    return lambda: step(*batch)


def make_classifier(name, options):
    """Returns a compiled classifier that trains by a method."""
    encoder = make_encoder(options)
    names = [] if name in ("plain", "FreeLB") else name.split(" + ")
    objectives = [make_objective(part, options) for part in names]
    adversary = None
    if name != "plain":
        adversary = tfadv.FreeLB(options.steps, init_magnitude=options.gamma)
    classifier = tfadv.AdversarialClassifier(
        encoder, 2, adversary, objectives, dtype=options.precision
    )
    classifier.compile(
        optimizers.Adam(5e-5),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    classifier.optimizer.build(classifier.trainable_weights)
    for objective in objectives:
        start(objective)
    return classifier


def make_part(name, options):
    """Returns an objective's computation on representations."""
    encoder = make_encoder(options)
    objective = make_objective(name, options)
    objective.attach(encoder)
    start(objective)
    inputs, labels = make_batch(encoder, options)
    hidden = [options.batch, options.tokens, encoder.hidden_dim]
    representations = {
        kind: {
            "pooled_output": tf.random.normal(hidden[::2]),
            "sequence_output": tf.random.normal(hidden),
        }
        for kind in ("clean", "adversarial")
    }
    sources = [*objective.trainable_weights, encoder.token_embedding.embeddings]

    @tf.function(autograph=False)
    def part():
        with tf.GradientTape() as tape:
            tape.watch(representations)
            loss = objective.loss(inputs, labels, **representations)
        gradients = tape.gradient(loss, [representations, sources])
        gradients = [g for g in tf.nest.flatten(gradients) if g is not None]
        with tf.control_dependencies(gradients):
            objective.update(inputs, **representations)
        return gradients

    return part


def make_objective(name, options):
    """Returns the objective of that name.

    Args:
        name: string: `"RAR"`, `"RAR, dense logits"`, `"CARL, m sampled"`,
            `"CARL, m = all"`.
        options: as in `make_update`.
    """
    if name == "RAR":
        return tfadv.ReconstructionObjective([0, 2, 3])
    if name == "RAR, dense logits":
        return DenseReconstruction([0, 2, 3])
    labels = np.random.default_rng(0).integers(0, 2, options.examples)
    return tfadv.ContrastiveObjective(
        labels,
        num_negatives=None if name.endswith("all") else options.negatives,
        bank_dtype=options.bank_dtype,
        seed=0,
    )


def start(objective):
    """Fills a bank at random and lets its objective take part."""
    if isinstance(objective, tfadv.ContrastiveObjective):
        for table in (objective.bank.clean, objective.bank.adversarial):
            table.assign(tf.random.normal(table.shape, dtype=table.dtype))
        objective.join()


def make_encoder(options):
    """Returns the encoder of that name, at random weights or pretrained."""
    if options.encoder not in sizes.ENCODERS:
        return tfadv.Encoder.from_pretrained(
            options.encoder, dtype=options.precision
        )
    wanted = sizes.ENCODERS[options.encoder]
    backbone = keras_hub.models.AlbertBackbone(
        vocabulary_size=wanted.vocabulary,
        num_layers=wanted.layers,
        num_heads=wanted.heads,
        embedding_dim=wanted.embedding,
        hidden_dim=wanted.hidden,
        intermediate_dim=wanted.intermediate,
        dropout=sizes.DROPOUT,
        dtype=options.precision,
    )
    return tfadv.Encoder(backbone, "gelu_new", dtype=options.precision)


def make_batch(encoder, options):
    """Returns a batch of random words, all of its texts of one length."""
    rng = np.random.default_rng(0)
    shape = [options.batch, options.tokens]
    vocabulary = encoder.backbone.vocabulary_size
    index = rng.choice(options.examples, options.batch, replace=False)
    inputs = {
        "token_ids": tf.constant(rng.integers(4, vocabulary, shape), tf.int32),
        "padding_mask": tf.ones(shape, tf.int32),
        "segment_ids": tf.zeros(shape, tf.int32),
        "index": tf.constant(index, tf.int32),
    }
    return inputs, tf.constant(rng.integers(0, 2, options.batch))


def computed(inputs):
    """Returns a batch's texts, and the tokens a text that are computed."""
    texts = len(inputs["token_ids"])
    return texts, int(Packing(inputs["padding_mask"]).rows) / texts


def make_sentences(lengths, vocabulary, max_length):
    """Returns random words as a tokenized split.

    Args:
        lengths: list of ints, in tokens.
        vocabulary: int.
        max_length: int.

    Returns:
        `tfadv.data.batching.TokenizedExamples`.
    """
    rng = np.random.default_rng(0)
    words = rng.integers(4, vocabulary, sum(lengths), dtype=np.int32)
    return batching.TokenizedExamples(
        tf.RaggedTensor.from_row_lengths(words, lengths),
        rng.integers(0, 2, len(lengths), dtype=np.int32),
        max_length,
        pad_id=0,
    )
