"""Adversarial training of text classifiers in Keras and TensorFlow.

The public names are listed in `_HOMES`. They are imported on first use, so
that `--help` and a mistyped flag answer before TensorFlow has loaded.
"""

import importlib

__version__ = "0.2.0"

_HOMES = {
    "AdversarialClassifier": "update.classifier",
    "ContrastiveObjective": "objectives.contrastive",
    "DataSettings": "data.settings",
    "Encoder": "encoders.encoder",
    "EncoderSettings": "runs.settings",
    "FreeLB": "adversaries.freelb",
    "InputError": "errors",
    "Method": "runs.methods",
    "Objective": "objectives.objective",
    "OptimizationSettings": "runs.settings",
    "ReconstructionObjective": "objectives.reconstruction",
    "Settings": "runs.settings",
    "Tokenizer": "text.tokenizer",
    "load": "runs.opening",
    "load_data": "data.loading",
    "pgd_attack": "adversaries.pgd",
    "register_method": "runs.methods",
    "register_objective": "objectives.registry",
    "train": "training.loop",
}
# Modules that are public, too: name -> home.
_MODULES = {"optimizers": "training.optimizers"}

__all__ = sorted(_HOMES)


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"tfadv.{_MODULES[name]}")
    if name not in _HOMES:
        raise AttributeError(f"module 'tfadv' has no attribute '{name}'")
    home = importlib.import_module(f"tfadv.{_HOMES[name]}")
    return getattr(home, name)


def __dir__():
    return sorted([*globals(), *_HOMES, *_MODULES])
