"""Settings are data: checked when they are made, whole when they come back."""

import dataclasses
import json
import subprocess
import sys

import pytest

import tfadv
from tests import tiny_run
from tfadv.adversaries.freelb import FreeLB
from tfadv.data.settings import DataSettings
from tfadv.errors import InputError
from tfadv.objectives.settings import (
    ContrastiveSettings,
    ReconstructionSettings,
)
from tfadv.runs import flagfile, methods, record
from tfadv.runs.settings import EncoderSettings, OptimizationSettings, Settings

METHODS = ("baseline", "freelb", "carl", "rar", "carl_rar")
CHANGED = Settings(
    method="carl_rar",
    encoder=EncoderSettings("mine", 64, "embedding_block", "mixed_bfloat16"),
    adversary=FreeLB(4, 0.2, 0.1, 0.5),
    adversary_warmup_proportion=0.25,
    optimization=OptimizationSettings(
        epochs=3,
        max_steps=40,
        batch_size=16,
        accumulation_steps=4,
        learning_rate=1e-4,
        learning_rate_schedule="linear",
        warmup_proportion=0.2,
        seed=7,
        strategy="mirrored",
        deterministic=True,
        backup_seconds=5,
    ),
    objectives={
        "contrastive": ContrastiveSettings(
            num_negatives=None, start_step=5, bank_sharding=True
        ),
        "reconstruction": ReconstructionSettings(weight=0.2),
    },
)


@pytest.mark.parametrize(
    "settings", [*map(Settings, METHODS), CHANGED], ids=str
)
def test_they_come_back_from_json(settings):
    again = Settings.from_dict(json.loads(json.dumps(settings.to_dict())))
    assert again == settings


def test_a_method_has_its_objectives_settings():
    assert Settings("baseline").objectives == {}
    assert Settings("carl").objectives == {"contrastive": ContrastiveSettings()}
    given = {"reconstruction": ReconstructionSettings(weight=0.3)}
    assert Settings("carl_rar", objectives=given).objectives == {
        "contrastive": ContrastiveSettings(),
        **given,
    }


@pytest.mark.parametrize(
    ("changes", "code", "argument"),
    [
        ({"method": "pgd"}, "unknown-method", "method"),
        (
            {"objectives": {"contrastive": ContrastiveSettings()}},
            "objective-not-of-method",
            "objectives",
        ),
        ({"adversary_warmup_proportion": 1.5}, "out-of-range", None),
        ({"epochs": 0}, "out-of-range", "epochs"),
        ({"learning_rate": float("nan")}, "out-of-range", "learning_rate"),
        ({"batch_size": "8"}, "wrong-type", "batch_size"),
        ({"strategy": "tpu"}, "not-a-choice", "strategy"),
        (
            {"batch_size": 2, "accumulation_steps": 3},
            "more-slices-than-texts",
            "accumulation_steps",
        ),
        (
            {"warmup_proportion": 0.3},
            "warmup-without-schedule",
            "warmup_proportion",
        ),
        (
            {"method": "carl", "epochs": 1},
            "starts-after-the-end",
            "objectives.contrastive.start_epoch",
        ),
        (
            {
                "method": "carl",
                "max_steps": 9,
                "objectives": {
                    "contrastive": ContrastiveSettings(start_step=9)
                },
            },
            "starts-after-the-end",
            "objectives.contrastive.start_step",
        ),
        (
            {
                "method": "rar",
                "objectives": {
                    "reconstruction": ReconstructionSettings(start_epoch=2.0)
                },
            },
            "starts-after-the-end",
            "objectives.reconstruction.start_epoch",
        ),
        (
            {
                "method": "carl",
                "objectives": {
                    "contrastive": ContrastiveSettings(bank_sharding=True)
                },
            },
            "nothing-to-shard-over",
            "objectives.contrastive.bank_sharding",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(changes, code, argument):
    with pytest.raises(InputError) as error:
        tiny_run.settings(**changes)
    assert error.value.code == code
    assert argument is None or error.value.argument == argument


@pytest.mark.parametrize("name", ["speed", "optimization"])
def test_what_is_no_setting_is_refused(name):
    with pytest.raises(InputError) as error:
        Settings.from_dict({name: {"speed": 3}})
    assert error.value.code == "unknown-setting"


def test_a_flagfile_has_every_setting():
    lines = flagfile.text(CHANGED, DataSettings(dataset="sst2")).splitlines()
    assert lines == sorted(lines)
    assert {
        "--encoder=mine",
        "--max_length=64",
        "--adv_steps=4",
        "--adv_warmup_proportion=0.25",
        "--max_steps=40",
        "--deterministic",
        "--bank_sharding",
        "--contrastive_negatives=all",
        "--reconstruction_weight=0.2",
        "--dataset=sst2",
    } <= set(lines)
    assert not any(line.startswith("--train_file") for line in lines)
    lines = flagfile.text(Settings("freelb")).splitlines()
    assert "--nodeterministic" in lines
    assert not any("contrastive" in line for line in lines)


def test_methods_are_registered_once():
    assert tuple(methods.registered())[:5] == METHODS
    rar = methods.get("rar")
    assert methods.register_method(rar) is rar
    with pytest.raises(InputError) as error:
        methods.register_method(dataclasses.replace(rar, title="other"))
    assert error.value.code == "method-exists"
    with pytest.raises(InputError) as error:
        methods.register_method(
            tfadv.Method("plain", "Plain", "x", False, ("reconstruction",))
        )
    assert error.value.code == "objectives-without-adversary"
    assert "plain" not in methods.registered()


def test_a_record_comes_back_and_knows_its_adversary():
    described = dataclasses.replace(
        tiny_run.record(method="carl"), warmup_steps=4, sha256_of_texts="0"
    )
    content = json.loads(json.dumps(described.to_dict()))
    assert record.Record.from_dict(content) == described
    assert described.adversary == FreeLB(warmup_steps=4)
    assert tiny_run.record(method="baseline").adversary is None


def test_texts_labels_and_names_of_classes_tell_runs_apart():
    settings, dataset = tiny_run.settings(), tiny_run.dataset()
    train = dataset.train
    expected = record.identity(settings, dataset)
    assert expected == record.identity(settings, tiny_run.dataset())
    for changed in (
        {"train": dataclasses.replace(train, texts=[*train.texts[:-1], "x"])},
        {"train": dataclasses.replace(train, labels=1 - train.labels)},
        {"label_names": ("good", "bad")},
        {"test": None},
        {"dev": dataset.test, "test": dataset.dev},
    ):
        other = dataclasses.replace(dataset, **changed)
        with pytest.raises(InputError) as error:
            record.check_same(
                record.identity(settings, other), expected, "runs/mine"
            )
        assert error.value.code == "another-run"


def test_settings_need_no_tensorflow():
    code = (
        "import sys, tfadv\n"
        "tfadv.Settings.from_dict(tfadv.Settings('carl_rar').to_dict())\n"
        "import tfadv.runs.run_folder, tfadv.tuning.settings\n"
        "print(sorted({'tensorflow', 'keras'} & sys.modules.keys()))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert found.stdout == "[]\n", found.stderr
