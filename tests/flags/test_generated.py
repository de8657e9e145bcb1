"""Flags are made of the fields of settings, and settings of flags."""

import dataclasses

import pytest
from absl import flags
from absl.testing import flagsaver

from tests.tools import in_process
from tfadv.data.settings import DataSettings
from tfadv.errors import InputError
from tfadv.fields import Group, field, flags_of, group
from tfadv.flags.export import Export
from tfadv.flags.generated import Flags
from tfadv.flags.output import Output
from tfadv.flags.predict import Texts
from tfadv.flags.reconstruct import Reconstruction
from tfadv.flags.robustness import Robustness
from tfadv.flags.run import TrainedRun
from tfadv.flags.training import Training
from tfadv.objectives.settings import ContrastiveSettings
from tfadv.robustness.settings import AttackSettings
from tfadv.runs import flagfile
from tfadv.runs.settings import Settings
from tfadv.tuning.settings import Tuning

BINARIES = {
    "train": [DataSettings, Settings, Output],
    "tune": [Tuning, DataSettings, Settings, Output],
    "evaluate": [TrainedRun, DataSettings, Output],
    "attack": [TrainedRun, DataSettings, Robustness, AttackSettings, Output],
    "reconstruct": [
        *(TrainedRun, DataSettings, Reconstruction, AttackSettings, Output)
    ],
    "export": [TrainedRun, Export, DataSettings, Output],
    "predict": [TrainedRun, Texts, DataSettings, Output],
    "report": [Output],
}


@dataclasses.dataclass(frozen=True)
class Inner(Group):
    """Settings inside of others."""

    size: int = field(3, "How many, see `inner.rate`.", low=1, high=9)
    rate: float = field(0.5, "How fast.", above=0)

    def check(self):
        if self.rate > self.size:
            raise InputError(
                "too-fast",
                "expected a `rate` up to `size`",
                "lower `rate`",
                argument="rate",
                value=self.rate,
            )


@dataclasses.dataclass(frozen=True)
class Outer(Group):
    """Settings of every kind."""

    name: str | None = field(None, "A name.", flag="called")
    kind: str = field("one", "Which.", choices=("one", "two"))
    limit: int | None = field(7, "A limit, or all.", none="all", low=1)
    radii: tuple[float, ...] = field((0.1, 0.2), "Radii.", low=0)
    words: tuple[str, ...] = field((), "Words, one at a time.")
    fast: bool = field(False, "Whether to hurry.")
    hidden: int = field(1, "Without a flag.", flag=None)
    inner: Inner = group(Inner, flag_prefix="inner_")


def read(*arguments):
    outer = Flags(Outer)
    with flagsaver.flagsaver():
        outer.define()
        flags.FLAGS(["test", *arguments])
        return outer.read()


def test_without_flags_the_settings_are_the_defaults():
    assert read() == Outer()


def test_flags_are_settings():
    found = read(
        "--called=a,b",
        "--kind=two",
        "--limit=all",
        "--radii=0.3,1",
        "--words=x",
        "--words=y,z",
        "--fast",
        "--inner_size=2",
        "--inner_rate=1e-3",
    )
    assert found == Outer(
        name="a,b",
        kind="two",
        limit=None,
        radii=(0.3, 1.0),
        words=("x", "y,z"),
        fast=True,
        inner=Inner(size=2, rate=0.001),
    )


def test_an_empty_value_takes_back_what_was_said_before():
    assert read("--called=a", "--called=").name is None


@pytest.mark.parametrize(
    "argument",
    [
        "--limit=some",
        "--limit=1.5",
        "--limit=",
        "--radii=",
        "--radii=1,x",
        "--fast=maybe",
        "--inner_size=" + "9" * 5000,
    ],
)
def test_values_of_another_type_are_refused_at_once(argument):
    with pytest.raises(flags.IllegalFlagValueError):
        read(argument)


@pytest.mark.parametrize(
    ("arguments", "code", "flag", "value"),
    [
        (["--kind=three"], "not-a-choice", "kind", "three"),
        (["--limit=0"], "out-of-range", "limit", 0),
        (["--radii=0.1,-1"], "out-of-range", "radii", -1.0),
        (["--inner_size=10"], "out-of-range", "inner_size", 10),
        (["--inner_rate=inf"], "out-of-range", "inner_rate", float("inf")),
        (["--inner_rate=4"], "too-fast", "inner_rate", 4.0),
    ],
)
def test_the_settings_own_errors_name_flags(arguments, code, flag, value):
    with pytest.raises(InputError) as caught:
        read(*arguments)
    error = caught.value
    assert (error.code, error.argument, error.value) == (code, flag, value)
    if code == "too-fast":
        assert error.problem == "expected a `inner_rate` up to `inner_size`"
        assert error.remedy == "lower `inner_rate`"


def test_help_says_what_the_fields_say():
    with flagsaver.flagsaver():
        Flags(Outer).define()
        helps = {
            name: flags.FLAGS[name].help
            for name, _, _ in flags_of(Outer).values()
        }
        bounds = flags.FLAGS["inner_size"].parser.syntactic_help
        assert flags.FLAGS["radii"].default_as_str == "'0.1,0.2'"
    assert helps["inner_size"] == "How many, see --inner_rate."
    assert helps["kind"] == "<one|two>: Which."
    assert bounds == "a whole number of at least 1 and of at most 9"
    assert "hidden" not in helps


def test_what_must_be_given():
    output = Flags(Output, required=["output_dir"])
    with flagsaver.flagsaver():
        output.define()
        flags.FLAGS(["test"])
        with pytest.raises(InputError) as caught:
            output.read()
    assert caught.value.code == "missing-flag"
    assert caught.value.argument == "output_dir"


def read_training(*arguments):
    training = Training()
    with flagsaver.flagsaver():
        training.define()
        flags.FLAGS(["test", *arguments])
        return training.read()


@pytest.mark.parametrize(
    ("method", "objectives"),
    [
        ("baseline", []),
        ("freelb", []),
        ("carl", ["contrastive"]),
        ("rar", ["reconstruction"]),
        ("carl_rar", ["contrastive", "reconstruction"]),
    ],
)
def test_a_method_has_the_settings_of_its_objectives(method, objectives):
    settings = read_training(f"--method={method}", "--bank_momentum=0.25")
    assert list(settings.objectives) == objectives
    if "contrastive" in objectives:
        found = settings.objectives["contrastive"]
        assert found == ContrastiveSettings(momentum=0.25)


def test_what_is_written_as_a_flagfile_is_read_back(tmp_path):
    settings = Settings(
        method="carl_rar",
        objectives={
            "contrastive": ContrastiveSettings(
                num_negatives=None, start_step=3, bank_dtype="bfloat16"
            )
        },
    )
    path = tmp_path / "flags.cfg"
    lines = flagfile.text(settings).splitlines(keepends=True)
    # Texts that were given in Python have no flag; this one refuses.
    [refusal] = [line for line in lines if "given_in_Python" in line]
    lines.remove(refusal)
    path.write_text("".join(lines))
    assert read_training(f"--flagfile={path}") == settings


@pytest.mark.parametrize("binary", BINARIES)
def test_no_binary_has_two_settings_of_one_flag(binary):
    names = [
        name
        for kind in BINARIES[binary]
        for name, _, _ in flags_of(kind).values()
    ]
    assert len(names) == len(set(names))
    called = in_process.call(binary, ["--help"])
    assert called.returncode in (0, 1)
    for name in names:
        assert f"--{name}:" in called.stdout or (
            f"--[no]{name}:" in called.stdout
        ), name
