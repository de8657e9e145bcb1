"""How to train: the settings of a run."""

import dataclasses

from tfadv.adversaries.freelb import FreeLB
from tfadv.runs import methods


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to train; what is trained on comes apart.

    Args:
        method: string: `"baseline"`, `"freelb"`, `"carl"`, `"rar"` or
            `"carl_rar"`.
        encoder: string, a name or folder for `tfadv.Encoder.from_pretrained`.
        adversary: `tfadv.FreeLB`; not read by the baseline.
        adversary_warmup_proportion: float, the share of the updates over
            which the adversary grows to its full strength.
        contrastive: `tfadv.runs.methods.Contrastive`; read by CARL alone.
        reconstruction: `tfadv.runs.methods.Reconstruction`; read by RAR alone.
        max_length: int, in tokens; longer texts are cut.
        perturb_at: string, see `tfadv.Encoder`.
        precision: string: `"float32"`, `"mixed_bfloat16"` or
            `"mixed_float16"`.
        epochs: int.
        max_steps: int. Ends training earlier; `None` for all epochs.
        batch_size: int, in texts.
        accumulation_steps: int. In how many slices, one after another, the
            gradients of a batch are computed; but for the dropout masks the
            results are the same. Dev and test are evaluated, and a memory
            bank filled, in such slices, too.
        learning_rate: float, of Adam.
        learning_rate_schedule: string: `"constant"`, or `"linear"` for
            warm-up and linear decay.
        warmup_proportion: float, the share of the steps for the warm-up.
        seed: int, for the order of the texts, the new weights, dropout and
            random starts.
        strategy: string: `"none"`, `"mirrored"` or `"multi_worker"`, see
            `tfadv.replicas.strategy`. The batch is shared out among the
            replicas; but for the dropout masks the results are the same.
        deterministic: bool, whether TensorFlow may use but such operations as
            give the same bits whenever they are run, in this whole process.
        backup_seconds: float, the time between two backups, see
            `tfadv.training.backup`; 0 for none.
    """

    method: str = "freelb"
    encoder: str = "all-minilm-l6-v2"
    adversary: FreeLB = dataclasses.field(default_factory=FreeLB)
    adversary_warmup_proportion: float = 0.0
    contrastive: methods.Contrastive = dataclasses.field(
        default_factory=methods.Contrastive
    )
    reconstruction: methods.Reconstruction = dataclasses.field(
        default_factory=methods.Reconstruction
    )
    max_length: int = 128
    perturb_at: str = "word_embeddings"
    precision: str = "float32"
    epochs: int = 2
    max_steps: int | None = None
    batch_size: int = 32
    accumulation_steps: int = 1
    learning_rate: float = 5e-5
    learning_rate_schedule: str = "constant"
    warmup_proportion: float = 0.1
    seed: int = 0
    strategy: str = "none"
    deterministic: bool = False
    backup_seconds: float = 60.0

    @property
    def slice_size(self):
        """The most texts that are in memory at a time."""
        return -(-self.batch_size // self.accumulation_steps)
