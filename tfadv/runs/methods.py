"""The methods by name, and the objectives that make them."""

import dataclasses

import psutil

from tfadv.errors import InputError

# What each method learns from the adversary beside its class.
OBJECTIVES = {
    "baseline": (),
    "freelb": (),
    "carl": ("contrastive",),
    "rar": ("reconstruction",),
    "carl_rar": ("contrastive", "reconstruction"),
}


@dataclasses.dataclass(frozen=True)
class Contrastive:
    """How CARL learns; `tfadv.ContrastiveObjective` explains each setting.

    Args:
        loss: string, `"nce"` or `"infonce"`.
        weight: float.
        temperature: float.
        num_negatives: int, or `None` for all.
        momentum: float.
        bank_dtype: string, `"float32"` or `"bfloat16"`.
        bank_sharding: bool, whether each replica holds a part of the bank.
        representation: string, `"pooled"` or `"cls"`.
        start_step: int. The step before which the memory bank is filled and
            the objective joins; `None` to go by `start_epoch`.
        start_epoch: float, the same in epochs.
    """

    loss: str = "nce"
    weight: float = 1.0
    temperature: float = 0.07
    num_negatives: int | None = 16000
    momentum: float = 0.5
    bank_dtype: str = "float32"
    bank_sharding: bool = False
    representation: str = "pooled"
    start_step: int | None = None
    start_epoch: float = 1.0

    def first_step(self, steps_per_epoch, total_steps):
        """Returns the number of updates without the objective.

        Args:
            steps_per_epoch: int.
            total_steps: int, in the whole run.

        Raises:
            InputError: the run ends before.
        """
        step = self.start_step
        flag = f"--contrastive_start_step={step}"
        if step is None:
            step = round(self.start_epoch * steps_per_epoch)
            flag = f"--contrastive_start_epoch={self.start_epoch} (step {step})"
        _check_start(step, total_steps, flag, "CARL")
        return step


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """How RAR learns.

    Args:
        weight: float, w_r.
        start_epoch: float, epochs without the objective, or parts of one.
    """

    weight: float = 0.1
    start_epoch: float = 0.0

    def first_step(self, steps_per_epoch, total_steps):
        """Returns the number of updates without the objective.

        Args, Raises: as those of `Contrastive.first_step`.
        """
        step = round(self.start_epoch * steps_per_epoch)
        flag = f"--reconstruction_start_epoch={self.start_epoch} (step {step})"
        _check_start(step, total_steps, flag, "RAR")
        return step


def check_method(method):
    """Refuses a method that there is not.

    Args:
        method: string.

    Raises:
        InputError: it is not in `OBJECTIVES`.
    """
    if method not in OBJECTIVES:
        raise InputError(
            f"--method={method}: choose one of {', '.join(OBJECTIVES)}"
        )


def describe(method, contrastive, reconstruction, special_ids):
    """Lists a method's objectives with their settings, for `run.json`.

    Args:
        method: string.
        contrastive: `Contrastive`.
        reconstruction: `Reconstruction`.
        special_ids: ints, the token ids that are not words.

    Returns:
        dict of dicts, by the objectives' names.
    """
    settings = {
        "contrastive": dataclasses.asdict(contrastive),
        "reconstruction": {
            **dataclasses.asdict(reconstruction),
            "special_ids": list(special_ids),
        },
    }
    return {name: settings[name] for name in OBJECTIVES[method]}


def build_objectives(description, hidden_dim, labels=None, seed=None):
    """Builds the objectives that `describe` has listed.

    Args:
        description: dict, as `describe` returns it.
        hidden_dim: int, the encoder's.
        labels: int array, the classes of the training examples; `None` leaves
            out the contrastive objective, which lives in training alone.
        seed: int, of the draws of negatives.

    Returns:
        List of `tfadv.objectives.objective.Objective`.

    Raises:
        InputError: the memory bank does not fit into memory.
    """
    from tfadv.objectives.contrastive import ContrastiveObjective
    from tfadv.objectives.reconstruction import ReconstructionObjective

    objectives = []
    if "contrastive" in description and labels is not None:
        settings = dict(description["contrastive"])
        for name in ("start_step", "start_epoch"):
            settings.pop(name)
        _check_bank_memory(
            len(labels),
            hidden_dim,
            settings["bank_dtype"],
            settings["bank_sharding"],
        )
        objectives.append(ContrastiveObjective(labels, seed=seed, **settings))
    if "reconstruction" in description:
        settings = dict(description["reconstruction"])
        # Runs of before it was a setting do not have it.
        settings.pop("start_epoch", None)
        objectives.append(ReconstructionObjective(**settings))
    return objectives


def _check_start(step, total_steps, flag, method):
    if step >= total_steps:
        raise InputError(
            f"{flag}: the run has {total_steps} updates, so that {method} "
            "would never start; start it earlier or train longer"
        )


def _check_bank_memory(num_examples, hidden_dim, dtype, sharded):
    """Says what the memory bank takes, and refuses one that cannot fit."""
    from tfadv import replicas
    from tfadv.objectives.memory_bank import MemoryBank

    if sharded and replicas.count() == 1:
        raise InputError(
            "--bank_sharding: there is one device only, which would hold all "
            "of the banks; leave it out, or train where there are several"
        )
    rows = MemoryBank.rows_held(num_examples, sharded)
    needed = MemoryBank.memory(rows, hidden_dim, dtype) / 2**20
    free = psutil.virtual_memory().available / 2**20
    what = (
        f"CARL's memory bank: 2 x {rows:,} x {hidden_dim} {dtype}, "
        f"{needed:,.1f} MiB"
    )
    if replicas.count() > 1:
        what += f" on each of {replicas.count()} replicas"
    if needed > free:
        smaller = "" if dtype == "bfloat16" else "--bank_dtype=bfloat16, "
        if replicas.count() > 1 and not sharded:
            smaller += "--bank_sharding, "
        raise InputError(
            f"{what}, but {free:,.1f} MiB of memory are free; take {smaller}"
            "fewer training examples or more memory"
        )
    print(f"{what} ({free:,.0f} MiB are free)")
