"""How to train: `Settings`, whose home is `tfadv.runs.settings`."""

from tfadv.runs.settings import (
    EncoderSettings,
    OptimizationSettings,
    Settings,
)

__all__ = ["EncoderSettings", "OptimizationSettings", "Settings"]
