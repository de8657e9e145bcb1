"""CARL: clean and adversarial representations of a sentence are one."""

from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from tfadv import progress, replicas
from tfadv.errors import InputError
from tfadv.losses import contrastive as contrastive_losses
from tfadv.losses import memory_bank
from tfadv.objectives.objective import NamedTensors, Objective, weighted_mean
from tfadv.objectives.registry import Context
from tfadv.objectives.settings import ContrastiveSettings


@keras.saving.register_keras_serializable(package="tfadv")
class ContrastiveObjective(Objective):
    """Draws a sentence's representations together, other classes' away.

    The loss is the sum of two, anchored on the adversarial and on the clean
    representation R of a sentence. The positive of each is the other
    representation of the same sentence. Its negatives are those rows of the
    memory bank that are of the other kind and belong to another class.
    Gradients flow through both representations.

    The objective has no part in training until `start` has filled the bank,
    which `tfadv.training.callbacks.StartObjective` does at a step of your
    choice.

    Batches must carry `"index"`: an example's position in the training set.
    Those of `tfadv.data.batching.training_batches` do.

    `save_weights` keeps the bank and the draws, so that training can go on;
    run folders and exports leave them out.

    Args:
        labels: int array of shape `[examples]`, the class of every training
            example.
        loss: string: `"nce"`, the paper's, or `"infonce"`, the exact softmax
            over the negatives.
        temperature: float. Divides the cosines.
        num_negatives: int, m: negatives per example, drawn anew for every
            batch; `None` for every example of another class.
        momentum: float, M, of the memory bank.
        bank_dtype: string, `"float32"` or `"bfloat16"`.
        bank_sharding: bool, whether each of several replicas holds a part of
            the bank. The classifier must then be built in the scope of their
            `tf.distribute` strategy. The results are the same.
        representation: string, what R is: `"pooled"`, the pooled output that
            the classifier sees, or `"cls"`, the last hidden state of [CLS].
        weight: float, see `tfadv.objectives.objective.Objective`.
        seed: int, for the draws; `None` for a random one.
        **kwargs: passed to `keras.layers.Layer`.

    Raises:
        InputError: a setting is out of its range.

    Example:

    ```python
    objective = tfadv.ContrastiveObjective(train.labels, num_negatives=1000)
    classifier = tfadv.AdversarialClassifier(
        encoder, 2, tfadv.FreeLB(), [objective]
    )
    classifier.compile(optimizer, loss)
    batches = batching.training_batches(train, batch_size=32, seed=1)
    classifier.fit(batches)
    objective.start(classifier, batches)
    classifier.fit(batches)
    ```

    Reference:
     - CARL and RAR paper, section 3.2, Eq. 2 to 6
     - [Tian et al. 2020](https://arxiv.org/abs/1910.10699)
    """

    needs_clean = True
    # The memory bank is of use only in training.
    kept_in_run = False
    without_exchange = "take `contrastive_loss`=infonce without `bank_sharding`"
    settings = ContrastiveSettings

    def __init__(
        self,
        labels: Sequence[int] | np.ndarray,
        loss: str = ContrastiveSettings.loss,
        temperature: float = ContrastiveSettings.temperature,
        num_negatives: int | None = ContrastiveSettings.num_negatives,
        momentum: float = ContrastiveSettings.momentum,
        bank_dtype: str = ContrastiveSettings.bank_dtype,
        bank_sharding: bool = ContrastiveSettings.bank_sharding,
        representation: str = ContrastiveSettings.representation,
        weight: float = ContrastiveSettings.weight,
        seed: int | None = None,
        name: str = "contrastive",
        **kwargs: Any,
    ):
        super().__init__(weight=weight, name=name, **kwargs)
        # This checks them.
        self.options = ContrastiveSettings(
            loss=loss,
            weight=weight,
            temperature=temperature,
            num_negatives=num_negatives,
            momentum=momentum,
            bank_dtype=bank_dtype,
            bank_sharding=bank_sharding,
            representation=representation,
        )
        self.needs_sequence = representation == "cls"
        self._labels = np.asarray(labels, np.int32)
        self.bank: Any = None
        self._seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        # log Z for the two anchors, NaN until the first batch has set it.
        self.log_z = tf.Variable(
            [np.nan, np.nan],
            dtype=tf.float32,
            trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        self._refusal: InputError | None = None
        self.wait()

    @classmethod
    def from_settings(
        cls, settings: ContrastiveSettings, context: Context
    ) -> Self | None:
        if context.labels is None:
            return None
        memory_bank.check_memory(
            len(context.labels),
            context.hidden_dim,
            settings.bank_dtype,
            settings.bank_sharding,
        )
        return cls(
            context.labels,
            seed=context.seed,
            name=context.name,
            **_arguments(settings),
        )

    @property
    def exchanges_in_loss(self) -> bool:
        # NCE's constant is that of the batches of all replicas.
        return self.options.loss == "nce" or self.options.bank_sharding

    @property
    def needs_calibration(self) -> tf.Tensor | None:
        if self.options.loss != "nce":
            return None
        return tf.reduce_any(tf.math.is_nan(self.log_z))

    def attach(self, encoder: keras.Model) -> None:
        self.bank = memory_bank.MemoryBank(
            self._labels,
            encoder.hidden_dim,
            num_negatives=self.options.num_negatives,
            momentum=self.options.momentum,
            dtype=self.options.bank_dtype,
            sharded=self.options.bank_sharding,
        )
        self.built = True

    def start(
        self,
        classifier: keras.Model,
        batches: tf.data.Dataset,
        verbose: int = 1,
    ) -> None:
        """Fills the bank from all training examples, then joins training.

        The adversarial rows come from the same adversary as in training; the
        parameters stay as they are.

        Args:
            classifier: `tfadv.AdversarialClassifier` that has this objective.
            batches: `tf.data.Dataset` of one epoch, with every example once.
            verbose: int. 1 shows a progress bar.

        Raises:
            InputError: the batches leave out examples.
        """
        strategy = classifier.distribute_strategy
        distributed = strategy.experimental_distribute_dataset(batches)

        def fill_share(x, y):
            share = replicas.Share(tf.shape(self._index(x))[0])
            x, y = share.filled((x, y))
            clean, adversarial = classifier.represent(
                x, y, share, pooled_only=not self.needs_sequence
            )
            self.bank.write(
                self._index(x),
                self._represent(clean),
                self._represent(adversarial),
                share.weights(),
            )
            return share.gather(self._index(x))

        # Of the batches' open shapes, so that all of them have one graph.
        @tf.function(
            input_signature=distributed.element_spec[:2], autograph=False
        )
        def fill(x, y):
            index = strategy.run(fill_share, args=(x, y))
            return strategy.experimental_local_results(index)[0]

        missing = np.ones(len(self.bank), np.bool_)
        total = tf.data.experimental.cardinality(batches).numpy()
        for x, y, *_ in progress.track(
            distributed,
            "filling the memory bank",
            total=None if total < 0 else total,
            verbose=bool(verbose),
        ):
            missing[fill(x, y).numpy()] = False
        if missing.any():
            raise InputError(
                "examples-missing",
                "expected every training example once, found batches without "
                f"{missing.sum()} of {len(missing)} examples, the first at "
                f"index {missing.argmax()}",
                "give the batches of one epoch",
                argument="batches",
            )
        self.log_z.assign([np.nan, np.nan])
        super().start(classifier, batches, verbose)

    def loss(
        self,
        inputs: NamedTensors,
        labels: tf.Tensor,
        clean: NamedTensors | None,
        adversarial: NamedTensors,
        sample_weight: tf.Tensor | None = None,
    ) -> tf.Tensor:
        anchors = [
            tf.cast(self._represent(outputs), tf.float32)
            for outputs in (adversarial, clean)
        ]
        positive = tf.reduce_sum(
            tf.nn.l2_normalize(anchors[0], axis=1)
            * tf.nn.l2_normalize(anchors[1], axis=1),
            axis=1,
        )
        positive /= self.options.temperature
        index = self._index(inputs)
        labels = tf.gather(self.bank.labels, index)
        sharded = self.bank.sharded
        if sharded:
            # Each replica scores the anchors of all with the rows it holds.
            labels, anchors = replicas.gather((labels, anchors))
        drawn = self.bank.draw(labels, self.seed_generator.next())
        # The negatives of an adversarial anchor are clean, and the reverse.
        tables = [self.bank.clean, self.bank.adversarial]
        scores = []
        for table, anchor in zip(tables, anchors, strict=True):
            vectors = tf.nn.l2_normalize(anchor, axis=1)
            count, read = self.bank.blocks(table, drawn)
            scores.append(
                contrastive_losses.Scores(
                    vectors, count, read, self.options.temperature
                )
            )
        if self.options.loss == "infonce":
            losses = [
                contrastive_losses.infonce(positive, negatives, sharded)
                for negatives in scores
            ]
        else:
            log_z = self._log_z(positive, scores, drawn.counts, sample_weight)
            losses = [
                contrastive_losses.nce(
                    positive,
                    negatives,
                    drawn.counts,
                    log_z[i],
                    len(self.bank),
                    sharded,
                )
                for i, negatives in enumerate(scores)
            ]
        return weighted_mean(tf.add_n(losses), sample_weight)

    def calibrate(
        self,
        inputs: NamedTensors,
        labels: tf.Tensor,
        clean: NamedTensors | None,
        adversarial: NamedTensors,
        sample_weight: tf.Tensor | None = None,
    ) -> None:
        # NCE's constant is set where the loss is computed.
        self.loss(inputs, labels, clean, adversarial, sample_weight)

    def update(
        self,
        inputs: NamedTensors,
        clean: NamedTensors | None,
        adversarial: NamedTensors,
        sample_weight: tf.Tensor | None = None,
    ) -> None:
        self.bank.update(
            self._index(inputs),
            *map(self._represent, (clean, adversarial)),
            sample_weight,
        )

    def save_own_variables(self, store: Any) -> None:
        store["started"] = np.array(self.active)
        store["seed"] = self.seed_generator.state.numpy()
        if self.active:
            store["clean"] = self.bank.numpy(self.bank.clean)
            store["adversarial"] = self.bank.numpy(self.bank.adversarial)
            store["log_z"] = self.log_z.numpy()

    def load_own_variables(self, store: Any) -> None:
        if "started" not in list(store.keys()):
            # Keras comes back by other paths, which lead nowhere, and takes
            # their silence for success.
            if self._refusal:
                raise self._refusal
            return
        self._refusal = None
        self.wait()
        self.seed_generator.state.assign(store["seed"])
        if not store["started"]:
            return
        for name in ("clean", "adversarial"):
            shape = (len(self.bank), self.bank.hidden_dim)
            if store[name].shape != shape:
                self._refusal = InputError(
                    "bank-of-another-shape",
                    f"expected a saved memory bank of shape {shape}, found "
                    f"{store[name].shape}",
                    "give the training examples and the encoder that it was "
                    "saved with",
                )
                raise self._refusal
            self.bank.assign(getattr(self.bank, name), store[name])
        self.log_z.assign(store["log_z"])
        self.join()

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            **_arguments(self.options),
            "labels": self._labels.tolist(),
            "seed": self._seed,
        }

    def _represent(self, outputs):
        """Returns R, `[batch, hidden]`, of an encoder's outputs."""
        if self.options.representation == "pooled":
            return outputs["pooled_output"]
        return outputs["sequence_output"][:, 0]

    def _log_z(self, positive, scores, counts, sample_weight):
        """Returns log Z of both anchors, fixed by the first batch."""
        known = tf.convert_to_tensor(self.log_z)
        unknown = tf.math.is_nan(known)
        if sample_weight is None:
            sample_weight = tf.ones_like(positive)
        weights = tf.reshape(sample_weight, [-1])
        counted = weights != 0
        if self.bank.sharded:
            weights = replicas.gather(weights)
        counts = tf.where(weights != 0, counts, 0.0)
        first = []
        for i, negatives in enumerate(scores):
            others = negatives.log_sum(wanted=unknown[i])
            others = tf.where(weights != 0, others, contrastive_losses.NOTHING)
            first.append(
                contrastive_losses.log_normalizer(
                    positive, others, counts, len(self.bank), counted
                )
            )
        first = tf.stop_gradient(tf.stack(first))
        log_z = tf.where(unknown, first, known)
        # A batch without examples leaves it unknown.
        number = replicas.total(tf.reduce_sum(tf.cast(counted, tf.int32)))
        self.log_z.assign(tf.where(number > 0, log_z, known))
        return log_z

    def _index(self, inputs):
        if "index" not in inputs:
            raise InputError(
                "no-index",
                "expected 'index', the examples' positions in the training "
                f"set, found {', '.join(sorted(inputs))}",
                "take the batches from `training_batches`",
                argument="x",
            )
        return inputs["index"]


def _arguments(settings):
    """Returns the settings that the objective's constructor takes."""
    arguments = settings.to_dict()
    del arguments["start_step"], arguments["start_epoch"]
    return arguments
