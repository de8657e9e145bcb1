"""Adversarial training of text classifiers in Keras and TensorFlow.

The public names are listed in `_HOMES`. They are imported on first use, so
that `--help` and a mistyped flag answer before TensorFlow has loaded.
"""

import importlib

__version__ = "0.1.0"

_HOMES = {
    "AdversarialClassifier": "update.classifier",
    "ContrastiveObjective": "objectives.contrastive",
    "Encoder": "encoders.encoder",
    "FreeLB": "adversaries.freelb",
    "InputError": "errors",
    "Objective": "objectives.objective",
    "ReconstructionObjective": "objectives.reconstruction",
    "Tokenizer": "text.tokenizer",
    "load": "runs.opening",
    "pgd_attack": "adversaries.pgd",
    "register_objective": "objectives.registry",
}

__all__ = sorted(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'tfadv' has no attribute '{name}'")
    home = importlib.import_module(f"tfadv.{_HOMES[name]}")
    return getattr(home, name)


def __dir__():
    return sorted([*globals(), *_HOMES])
