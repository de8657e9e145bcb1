"""Objectives' settings and what the registry makes of them."""

import subprocess
import sys

import numpy as np
import pytest

from tfadv.errors import InputError
from tfadv.fields import flags_of
from tfadv.objectives import registry
from tfadv.objectives.settings import (
    ContrastiveSettings,
    ReconstructionSettings,
)

LABELS = np.array([0, 1, 0, 1])


def context(labels=LABELS):
    return registry.Context(labels, [0, 2, 3], 8, 6, 40, seed=5)


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"loss": "hinge"}, "not-a-choice"),
        ({"weight": -1}, "out-of-range"),
        ({"temperature": 0}, "out-of-range"),
        ({"num_negatives": 0}, "out-of-range"),
        ({"num_negatives": 2.5}, "wrong-type"),
        ({"momentum": 1}, "out-of-range"),
        ({"momentum": float("nan")}, "out-of-range"),
        ({"bank_dtype": "float64"}, "not-a-choice"),
        ({"representation": "mean"}, "not-a-choice"),
        ({"start_step": 3, "start_epoch": 0.5}, "two-starts"),
    ],
)
def test_bad_settings_are_named(settings, code):
    with pytest.raises(InputError) as error:
        ContrastiveSettings(**settings)
    assert error.value.code == code
    assert error.value.argument == next(iter(settings))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (ContrastiveSettings(), 10),
        (ContrastiveSettings(start_epoch=0.25), 2),
        (ContrastiveSettings(start_step=7), 7),
        (ReconstructionSettings(), 0),
        (ReconstructionSettings(start_epoch=1.5), 15),
    ],
)
def test_the_start_is_in_steps(settings, expected):
    assert settings.first_step(10, 20) == expected


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        (ContrastiveSettings(start_epoch=2.0), "start_epoch"),
        (ContrastiveSettings(start_step=20), "start_step"),
        (ReconstructionSettings(start_epoch=2.0), "start_epoch"),
    ],
)
def test_a_start_after_the_end_is_told(settings, argument):
    with pytest.raises(InputError) as error:
        settings.first_step(10, 20)
    assert error.value.code == "starts-after-the-end"
    assert error.value.argument == argument


def test_settings_build_their_objectives():
    settings = ContrastiveSettings(
        loss="infonce", weight=0.3, num_negatives=None, start_step=9
    )
    contrastive = registry.build("contrastive", settings, context())
    assert contrastive.name == "contrastive"
    assert contrastive.weight == 0.3
    assert contrastive.options.num_negatives is None
    assert contrastive.get_config()["labels"] == LABELS.tolist()
    assert contrastive.get_config()["seed"] == 5
    reconstruction = registry.build(
        "reconstruction", ReconstructionSettings(weight=0.2), context(None)
    )
    assert reconstruction.weight == 0.2
    assert reconstruction.special_ids == [0, 2, 3]


def test_only_carl_lives_in_training_alone():
    for name, kept in {"contrastive": False, "reconstruction": True}.items():
        settings = registry.settings_of(name)()
        built = registry.build(name, settings, context(None))
        assert (built is not None) == kept
        assert registry.objective_class(name).kept_in_run == kept


@pytest.mark.parametrize(
    ("loss", "exchanges"), [("nce", True), ("infonce", False)]
)
def test_the_loss_of_nce_exchanges_and_is_calibrated(loss, exchanges):
    settings = ContrastiveSettings(loss=loss, num_negatives=1)
    objective = registry.build("contrastive", settings, context())
    assert objective.exchanges_in_loss == exchanges
    assert (objective.needs_calibration is not None) == exchanges
    if exchanges:
        assert objective.needs_calibration
        objective.log_z.assign([0.5, 0.5])
        assert not objective.needs_calibration


def test_settings_need_no_tensorflow():
    """The flags are made from them before anything slow is imported."""
    script = (
        "import sys\n"
        "from tfadv.adversaries.freelb import FreeLB\n"
        "from tfadv.objectives import registry\n"
        "FreeLB(3, 0.1)\n"
        "print([registry.settings_of(n)() for n in registry.names()])\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_no_two_settings_have_one_flag():
    flags = [
        flag
        for name in ("contrastive", "reconstruction")
        for flag, _, _ in flags_of(registry.settings_of(name)).values()
    ]
    assert len(flags) == len(set(flags)) == 12
