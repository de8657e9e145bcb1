"""How to train: the settings of a run, as data.

Each setting has its default, its bounds and its help here; the command line
makes its flags from them. This module needs no TensorFlow.
"""
from typing import Any
from collections.abc import Mapping

import dataclasses

from tfadv.adversaries.freelb import FreeLB
from tfadv.errors import InputError
from tfadv.fields import Group, field, group
from tfadv.objectives import registry
from tfadv.objectives.settings import ObjectiveSettings
from tfadv.runs import methods


@dataclasses.dataclass(frozen=True)
class EncoderSettings(Group):
    """Which encoder is trained, and what it reads.

    Example:

    ```python
    EncoderSettings("albert/albert-base-v2", max_length=64)
    ```
    """

    name: str = field(
        "all-minilm-l6-v2",
        "The pretrained encoder: a folder (a Hugging Face checkpoint or a "
        "KerasHub preset), the name of a Hugging Face repository "
        "(albert/albert-base-v2) or of a KerasHub preset "
        "(albert_base_en_uncased), or all-minilm-l6-v2, which needs no model "
        "hub.",
        flag="encoder",
    )
    max_length: int = field(
        128, "Tokens of a text that are read, [CLS] and [SEP] included.", low=3
    )
    perturb_at: str = field(
        "word_embeddings",
        "Where the perturbation is added: to the word embeddings, before "
        "positions, segments and LayerNorm, or to the embedding block's "
        "output.",
        choices=("word_embeddings", "embedding_block"),
    )
    precision: str = field(
        "float32",
        "Precision of the encoder's matrix products. The weights, what goes "
        "from layer to layer, the perturbation and the loss are float32 in any "
        "case.",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
    )


@dataclasses.dataclass(frozen=True)
class OptimizationSettings(Group):
    """The optimizer, the length of a run, and where it trains.

    Example:

    ```python
    OptimizationSettings(epochs=3, learning_rate=2e-5)
    ```
    """

    epochs: int = field(
        2, "Passes over the training set.", low=1, high=2**31 - 1
    )
    max_steps: int | None = field(
        None,
        "Ends training after that many updates, if the epochs do not end "
        "before.",
        low=1,
    )
    batch_size: int = field(32, "Texts per update.", low=1, high=2**31 - 1)
    accumulation_steps: int = field(
        1,
        "Computes an update in that many slices of its batch, one after "
        "another: the same update, in the memory that one slice takes. For "
        "long texts, and for a `batch_size` that does not fit into memory.",
        low=1,
    )
    learning_rate: float = field(
        5e-5, "Adam's learning rate, at its peak.", above=0
    )
    learning_rate_schedule: str = field(
        "constant",
        "linear: warm-up, then linear decay to zero at the run's end.",
        choices=("constant", "linear"),
    )
    warmup_proportion: float = field(
        0.1,
        "Share of the updates for the warm-up of the linear schedule.",
        low=0,
        high=0.99,
    )
    seed: int = field(
        0,
        "Seed of everything random: the same seed gives the same run.",
        low=0,
        high=2**32 - 1,
    )
    strategy: str = field(
        "none",
        "Where to train: on one device (none), on all GPUs of this machine "
        "(mirrored), or on all machines of TF_CONFIG (multi_worker), which run "
        "the same command and see the same output folder. `batch_size` is that "
        "of all devices together.",
        choices=("none", "mirrored", "multi_worker"),
    )
    deterministic: bool = field(
        False,
        "Use only deterministic operations: the same settings give the same "
        "bits on one machine, whether a run was cut off or not. May be slower.",
    )
    backup_seconds: float = field(
        60.0,
        "Time between two backups, from which a run that was cut off goes on; "
        "longer where they would take more than 2% of the time. 0 for none.",
        low=0,
    )

    def check(self) -> None:
        if self.accumulation_steps > self.batch_size:
            raise InputError(
                "more-slices-than-texts",
                "expected at most one slice for each text, found "
                f"`batch_size`={self.batch_size}",
                "give fewer slices or a larger batch",
                argument="accumulation_steps",
                value=self.accumulation_steps,
            )
        default = type(self).warmup_proportion
        if (
            self.learning_rate_schedule != "linear"
            and self.warmup_proportion != default
        ):
            raise InputError(
                "warmup-without-schedule",
                "only the linear schedule warms up",
                "omit it, or give `learning_rate_schedule`=linear",
                argument="warmup_proportion",
                value=self.warmup_proportion,
            )

    @property
    def slice_size(self) -> int:
        """The largest number of texts that are in memory at a time."""
        return -(-self.batch_size // self.accumulation_steps)


@dataclasses.dataclass(frozen=True)
class Settings(Group):
    """How to train. What is trained on comes separately.

    Args:
        method: string, the name of a method that is registered:
            `"baseline"`, `"freelb"`, `"carl"`, `"rar"`, `"carl_rar"`, or one
            given to `tfadv.register_method`.
        encoder: `EncoderSettings`.
        adversary: `tfadv.FreeLB`; not used by methods without an adversary.
        adversary_warmup_proportion: float, the share of the updates over
            which the adversary's step size grows; 0 leaves this to
            `adversary.warmup_steps`.
        optimization: `OptimizationSettings`.
        objectives: dict of the settings of the method's objectives, by their
            registered names. Those that are not given have their defaults.

    Raises:
        InputError: the method is not registered, an objective is not one of
            the method's, or values do not go together.

    Example:

    ```python
    from tfadv.objectives.settings import ReconstructionSettings

    settings = tfadv.Settings(
        method="rar",
        optimization=OptimizationSettings(max_steps=100),
        objectives={"reconstruction": ReconstructionSettings(weight=0.2)},
    )
    tfadv.Settings.from_dict(settings.to_dict()) == settings  # True
    ```
    """

    method: str = field(
        "freelb", "How to train, by the name of a registered method."
    )
    encoder: EncoderSettings = group(EncoderSettings)
    adversary: FreeLB = group(FreeLB, flag_prefix="adv_")
    adversary_warmup_proportion: float = field(
        0.0,
        "Share of the updates over which alpha grows to `adv_step_size`. A "
        "strong adversary can keep a new classifier from learning at all; 0, "
        "the paper's way, has it at full strength from the start.",
        flag="adv_warmup_proportion",
        low=0,
        high=1,
    )
    optimization: OptimizationSettings = group(OptimizationSettings)
    objectives: dict[str, ObjectiveSettings] = dataclasses.field(default_factory=dict)

    def check(self) -> None:
        expected = methods.get(self.method).objectives
        others = [name for name in self.objectives if name not in expected]
        if others:
            raise InputError(
                "objective-not-of-method",
                f"the method {self.method} has the objectives "
                f"{', '.join(expected) or '(none)'}, found settings of "
                f"{', '.join(others)}",
                "omit them, or choose a method that has this objective",
                argument="objectives",
            )
        complete = {
            name: self.objectives.get(name) or registry.settings_of(name)()
            for name in expected
        }
        object.__setattr__(self, "objectives", complete)
        for name, settings in complete.items():
            self._check_objective(name, settings)

    def _check_objective(self, name, settings):
        """Refuses what does not go with the optimization, on any data."""
        optimization = self.optimization
        many = 10**9
        try:
            settings.check_with(optimization)
            # An epoch may have any length here.
            settings.first_step(many, many * optimization.epochs)
            if optimization.max_steps is not None:
                settings.first_step(0, optimization.max_steps)
        except InputError as error:
            problem = error.problem
            if error.code == "starts-after-the-end":
                problem = (
                    f"a run of `optimization.epochs`={optimization.epochs} "
                    f"and `optimization.max_steps`={optimization.max_steps} "
                    f"ends before the {name} objective starts"
                )
            raise InputError(
                error.code,
                problem,
                error.remedy,
                argument=f"objectives.{name}.{error.argument}",
                value=error.value,
            ) from error

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Settings":
        """Makes the settings again from what `to_dict` returned.

        Args:
            content: dict. A setting that it lacks has its default.

        Returns:
            `Settings`.

        Raises:
            InputError: a name or a value is not allowed.
        """
        content = dict(content)
        # First, for an unknown method's objectives are unknown, too.
        methods.get(content.get("method", cls.method))
        objectives = content.get("objectives")
        if isinstance(objectives, dict):
            content["objectives"] = {
                name: registry.settings_of(name).from_dict(value)
                if isinstance(value, dict)
                else value
                for name, value in objectives.items()
            }
        return super().from_dict(content)
