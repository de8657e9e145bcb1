"""Stores the PyTorch reference's results, for tests without PyTorch.

Run `python -m tests.make_golden` after changing a case or the reference.
"""

import numpy as np

from tests import checkpoints, torch_reference


def _save(kind, cases, compute):
    """Writes `golden/{kind}.npz` with keys `{case name}/{result}`."""
    arrays = {
        f"{case.name}/{key}": array.astype(np.float32)
        for case in cases
        for key, array in compute(case).items()
    }
    checkpoints.GOLDEN_FOLDER.mkdir(exist_ok=True)
    path = checkpoints.GOLDEN_FOLDER / f"{kind}.npz"
    np.savez_compressed(path, allow_pickle=False, **arrays)
    print(f"{path.name}: {len(arrays)} arrays, {path.stat().st_size} bytes")


def main():
    """Regenerates both files."""
    _save("encoder", checkpoints.ENCODER_CASES, torch_reference.encoder_outputs)
    _save("freelb", checkpoints.FREELB_CASES, torch_reference.freelb_outputs)


if __name__ == "__main__":
    main()
