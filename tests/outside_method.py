"""A method from outside the package: one objective, and a name for it.

`--plugin=tests/outside_method.py` makes `--method=stability` known.
"""

import dataclasses

import keras
import tensorflow as tf

import tfadv
from tfadv.fields import field
from tfadv.objectives.objective import weighted_mean
from tfadv.objectives.settings import ObjectiveSettings


@dataclasses.dataclass(frozen=True)
class StabilitySettings(ObjectiveSettings):
    """How close a representation must stay to its clean one."""

    weight: float = field(
        0.5, "Weight of Stability's loss.", flag="stability_weight", low=0
    )
    scale: float = field(
        1.0,
        "Divides the distance of two representations.",
        flag="stability_scale",
        above=0,
    )


@keras.saving.register_keras_serializable(package="outside")
class Stability(tfadv.Objective):
    """Keeps the adversary's representation close to the clean one."""

    settings = StabilitySettings
    needs_clean = True
    needs_sequence = False

    def __init__(self, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def attach(self, encoder):
        # How much each dimension counts, which is learned.
        self.focus = self.add_weight(
            shape=[encoder.hidden_dim], initializer="ones", name="focus"
        )
        super().attach(encoder)

    def loss(self, inputs, labels, clean, adversarial, sample_weight=None):
        gap = clean["pooled_output"] - adversarial["pooled_output"]
        gap *= tf.convert_to_tensor(self.focus) / self.scale
        distances = tf.reduce_sum(tf.square(gap), axis=1)
        return weighted_mean(distances, sample_weight)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


tfadv.register_objective("stability", Stability)
tfadv.register_method(
    tfadv.Method(
        name="stability",
        title="Stability",
        help="FreeLB, and representations stay close to the clean ones",
        objectives=("stability",),
    )
)
