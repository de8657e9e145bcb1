"""The text classifier and its adversarial training step."""

import keras
import tensorflow as tf

from tfadv import perturbation


@keras.saving.register_keras_serializable(package="tfadv")
class AdversarialClassifier(keras.Model):
    """A text classifier that trains on the adversary's word embeddings.

    The classifier is an encoder, its pooled [CLS] representation, dropout and
    one dense layer. With an `adversary`, `fit` trains on perturbed word
    embeddings; `evaluate` and `predict` see clean ones. Everything else is
    any Keras model: `compile`, callbacks, metrics, `save_weights`.

    Training reports the loss averaged over the adversary's passes and the
    compiled metrics on the last pass, that is, on the strongest adversary;
    `delta_norm` is the mean L2 norm of its perturbation.

    Args:
        encoder: `tfadv.Encoder`.
        num_classes: int. Number of classes.
        adversary: `tfadv.FreeLB`, or `None` for plain training.
        dropout: float. Dropout probability before the dense layer.
        **kwargs: passed to `keras.Model`, like `name`.

    Call arguments:
        inputs: dict of int32 tensors of shape `[batch, tokens]`: `token_ids`,
            `segment_ids` and `padding_mask`. Other entries are ignored.

    Returns:
        Logits, float32 of shape `[batch, num_classes]`.

    Example:

    ```python
    classifier = tfadv.AdversarialClassifier(
        tfadv.Encoder.from_pretrained("all-minilm-l6-v2"),
        num_classes=2,
        adversary=tfadv.FreeLB(steps=3, step_size=0.1),
    )
    classifier.compile(
        optimizer=keras.optimizers.Adam(5e-5),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    tokenizer = tfadv.Tokenizer.from_pretrained("all-minilm-l6-v2", 64)
    inputs = tokenizer(["a gorgeous, witty film", "a dull mess"])
    classifier.fit(inputs, np.array([1, 0]))
    ```

    Reference:
     - CARL and RAR paper, Eq. 1 and 8
     - [Zhu et al. 2020](https://arxiv.org/abs/1909.11764)
    """

    def __init__(
        self, encoder, num_classes, adversary=None, *, dropout=0.1, **kwargs
    ):
        super().__init__(**kwargs)
        if num_classes < 2:
            raise ValueError(
                "`num_classes` must be at least 2. Received: "
                f"num_classes={num_classes}"
            )
        self.encoder = encoder
        self.num_classes = num_classes
        self.adversary = adversary
        self.dropout = dropout
        self.head_dropout = keras.layers.Dropout(
            dropout, dtype=self.dtype_policy, name="head_dropout"
        )
        # Logits stay in float32 under every precision policy.
        self.head = keras.layers.Dense(
            num_classes,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            dtype="float32",
            name="head",
        )
        self.head.build([None, encoder.hidden_dim])
        self.seed_generator = keras.random.SeedGenerator()
        self.pass_statistics = None
        if adversary is not None:
            self.pass_statistics = PassStatistics(adversary.steps)
        self.built = True

    def classify(self, outputs, training=False):
        """Turns the encoder's outputs into logits, `[batch, num_classes]`."""
        pooled = self.head_dropout(outputs["pooled_output"], training=training)
        return self.head(pooled)

    def call(self, inputs, training=False):
        return self.classify(self.encoder(inputs, training=training), training)

    def train_step(self, data):
        """Trains on one batch: n passes, one update of the parameters."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if self.adversary is None:
            gradients, y_pred, loss = self.plain_gradients(x, y, sample_weight)
        else:
            gradients, y_pred, statistics = self.adversarial_gradients(
                x, y, sample_weight
            )
            loss = tf.reduce_mean(statistics[:, 0])
        self.optimizer.apply_gradients(gradients)
        batch = tf.shape(y_pred)[0]
        loss_metric = next(m for m in self.metrics if m.name == "loss")
        loss_metric.update_state(loss, sample_weight=batch)
        results = self.compute_metrics(x, y, y_pred, sample_weight)
        if self.adversary is not None:
            self.pass_statistics.update_state(statistics, sample_weight=batch)
            results["delta_norm"] = self.pass_statistics.result()[-1, -1]
        return results

    def plain_gradients(self, x, y, sample_weight=None):
        """Computes the parameter gradients without an adversary.

        Gradients are dense: the one of the word embeddings comes as a list of
        rows in which a token of the batch that occurs twice has two, and of
        such a list Keras takes wrong norms (for clipping) and wrong second
        moments.

        Args:
            x: dict, as in `call`.
            y: labels, as the compiled loss takes them.
            sample_weight: tensor of shape `[batch]`, or `None`.

        Returns:
            A list of `(gradient, weight)`, in the order of
            `trainable_weights`; the logits; and the loss.
        """
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x, y, y_pred, sample_weight)
            scaled = self.optimizer.scale_loss(loss)
        weights = self.trainable_weights
        gradients = tape.gradient(
            scaled,
            weights,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        gradients = map(tf.convert_to_tensor, gradients)
        pairs = list(zip(gradients, weights, strict=True))
        return pairs, y_pred, _unscale_for_replicas(loss)

    def adversarial_gradients(self, x, y, sample_weight=None):
        """Computes the parameter gradients averaged over the passes.

        Args:
            x: dict, as in `call`.
            y: labels, as the compiled loss takes them.
            sample_weight: tensor of shape `[batch]`, or `None`.

        Returns:
            A list of `(gradient, weight)`, all dense, in the order of
            `trainable_weights`; the last pass's logits; and the passes'
            statistics, float32 of shape `[steps, 3]` with the columns of
            `PassStatistics`.

        Reference:
         - [Zhu et al. 2020](https://arxiv.org/abs/1909.11764), Algorithm 1
        """
        steps = self.adversary.steps
        mask = x["padding_mask"]
        # The clean embeddings are the same in every pass: look them up once,
        # and send the passes' summed gradient back through them at the end.
        with tf.GradientTape() as embedding_tape:
            embeddings = self.encoder.embed(x, training=True)
        looked_up = self.encoder.embedding_weights
        weights = _without(self.trainable_weights, looked_up)
        clean = tf.cast(embeddings, tf.float32)
        seeds = [(state, tf.identity(state)) for state in self._seed_states()]

        def one_pass(index, delta, state):
            totals, delta_total, statistics, _ = state
            # The dropout masks are the same in all passes.
            for variable, value in seeds:
                variable.assign(value)
            with tf.GradientTape() as tape:
                tape.watch(delta)
                outputs = self.encoder.encode(clean + delta, x, training=True)
                y_pred = self.classify(outputs, training=True)
                loss = self.compute_loss(x, y, y_pred, sample_weight)
                scaled = self.optimizer.scale_loss(loss / steps)
            delta_gradient, *gradients = tape.gradient(
                scaled,
                [delta, *weights],
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            row = tf.stack(
                [
                    _unscale_for_replicas(loss),
                    _accuracy(y, y_pred),
                    tf.reduce_mean(perturbation.norm(delta)),
                ]
            )
            state = (
                [
                    total + tf.convert_to_tensor(gradient)
                    for total, gradient in zip(totals, gradients, strict=True)
                ],
                # The embedding's gradient is delta's: one serves both.
                delta_total + delta_gradient,
                tf.tensor_scatter_nd_update(statistics, [[index]], [row]),
                y_pred,
            )
            return delta_gradient, state

        delta = self.adversary.initialize(
            mask, self.encoder.embedding_dim, self.seed_generator
        )
        state = (
            [tf.zeros(weight.shape, weight.dtype) for weight in weights],
            tf.zeros_like(clean),
            tf.zeros([steps, len(PassStatistics.COLUMNS)]),
            tf.zeros([tf.shape(mask)[0], self.num_classes]),
        )
        _, state = self.adversary.run(one_pass, delta, mask, state)
        gradients, delta_total, statistics, y_pred = state
        looked_up_gradients = embedding_tape.gradient(
            embeddings,
            looked_up,
            output_gradients=tf.cast(delta_total, embeddings.dtype),
        )
        gradients = dict(
            zip(
                map(id, [*weights, *looked_up]),
                [*gradients, *map(tf.convert_to_tensor, looked_up_gradients)],
                strict=True,
            )
        )
        # An optimizer's state is saved in the order in which it first sees
        # the weights, and loaded in that of trainable_weights.
        pairs = [(gradients[id(w)], w) for w in self.trainable_weights]
        return pairs, y_pred, statistics

    def get_metrics_result(self):
        """Returns the metrics' values, without the table of the passes.

        That table has no place in a progress bar; read `pass_statistics`, as
        `tfadv.callbacks.PassSummaries` does.
        """
        results = super().get_metrics_result()
        results.pop(PassStatistics.NAME, None)
        return results

    def _seed_states(self):
        """Returns the states of the dropout layers' random generators."""
        layers = [self.encoder, self.head_dropout]
        variables = [v for layer in layers for v in layer.variables]
        weights = [w for layer in layers for w in layer.weights]
        return _without(variables, weights)

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "encoder": keras.saving.serialize_keras_object(self.encoder),
                "num_classes": self.num_classes,
                "adversary": keras.saving.serialize_keras_object(
                    self.adversary
                ),
                "dropout": self.dropout,
            }
        )
        return config

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for key in ("encoder", "adversary"):
            config[key] = keras.saving.deserialize_keras_object(config[key])
        return cls(**config)


class PassStatistics(keras.metrics.Metric):
    """Averages what each of the adversary's passes sees, over the batches.

    Args:
        steps: int. Number of passes.
        **kwargs: passed to `keras.metrics.Metric`.

    Returns:
        `result()` is float32 of shape `[steps, 3]`: loss, accuracy and mean
        norm of delta, a row a pass.

    Example:

    ```python
    statistics = PassStatistics(steps=2)
    statistics.update_state([[0.7, 0.5, 0.0], [0.9, 0.4, 0.1]], 32)
    statistics.result()
    ```
    """

    NAME = "pass_statistics"
    COLUMNS = ("loss", "accuracy", "delta_norm")

    def __init__(self, steps, **kwargs):
        super().__init__(name=self.NAME, **kwargs)
        self.total = self.add_variable(
            [steps, len(self.COLUMNS)], "zeros", name="total"
        )
        self.count = self.add_variable([], "zeros", name="count")

    def update_state(self, values, sample_weight=1.0):
        weight = tf.cast(sample_weight, self.dtype)
        self.total.assign_add(tf.cast(values, self.dtype) * weight)
        self.count.assign_add(weight)

    def result(self):
        return tf.math.divide_no_nan(
            tf.convert_to_tensor(self.total), tf.convert_to_tensor(self.count)
        )


def _without(variables, others):
    """Drops variables by identity: Keras variables compare by value."""
    left_out = {id(variable) for variable in others}
    return [v for v in variables if id(v) not in left_out]


def _unscale_for_replicas(loss):
    """Undoes the division by the number of replicas inside a Keras loss."""
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return tf.cast(loss, tf.float32) * float(replicas)


def _accuracy(y, y_pred):
    """Measures the share of right classes; labels are numbers or one-hot."""
    y = tf.convert_to_tensor(y)
    if y.shape.rank == 2 and y.shape[1] == y_pred.shape[1]:
        y = tf.argmax(y, axis=1)
    y = tf.cast(tf.reshape(y, [-1]), tf.int64)
    return tf.reduce_mean(tf.cast(tf.argmax(y_pred, axis=1) == y, tf.float32))
