"""Stores the PyTorch reference's results, for tests without PyTorch.

Run `python -m tests.make_golden` after changing a case or the reference.
"""

import numpy as np

from tests import checkpoints, torch_reference


def _save_cases(kind, cases, compute):
    """Writes `golden/{kind}.npz` with keys `{case name}/{result}`."""
    arrays = {
        f"{case.name}/{key}": array
        for case in cases
        for key, array in compute(case).items()
    }
    _save(kind, arrays)


def _save(kind, arrays):
    arrays = {key: array.astype(np.float32) for key, array in arrays.items()}
    checkpoints.GOLDEN_FOLDER.mkdir(exist_ok=True)
    path = checkpoints.GOLDEN_FOLDER / f"{kind}.npz"
    np.savez_compressed(path, allow_pickle=False, **arrays)
    print(f"{path.name}: {len(arrays)} arrays, {path.stat().st_size} bytes")


def main():
    """Regenerates all files."""
    x = checkpoints.activation_inputs()
    _save("activations", torch_reference.activations(x))
    for kind, cases, compute in (
        ("encoder", checkpoints.ENCODER_CASES, torch_reference.encoder_outputs),
        ("config", checkpoints.CONFIG_CASES, torch_reference.config_outputs),
        ("freelb", checkpoints.FREELB_CASES, torch_reference.freelb_outputs),
    ):
        _save_cases(kind, cases, compute)


if __name__ == "__main__":
    main()
