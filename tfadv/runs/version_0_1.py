"""Opens runs of version 0.1, whose record was `run.json` and `flags.cfg`."""

import dataclasses
import pathlib

from tfadv import fields, files
from tfadv.adversaries.freelb import FreeLB
from tfadv.data.settings import DataSettings
from tfadv.objectives import registry
from tfadv.runs.record import Record
from tfadv.runs.settings import EncoderSettings, OptimizationSettings, Settings

FORMAT = 2


def read_record(folder: str | pathlib.Path) -> Record:
    """Makes a record of what version 0.1 left in a run's folder.

    What `run.json` does not tell comes from `flags.cfg`; a run that was made
    in Python has none in it, and what it does not tell is the default.

    Args:
        folder: path of the run's folder.

    Returns:
        `Record`.

    Raises:
        InputError: a file cannot be read, or a value is not allowed.
        KeyError, TypeError or ValueError: `run.json` has another form.
    """
    folder = pathlib.Path(folder)
    content = files.read_json(folder / "run.json")
    if content["format"] != FORMAT:
        raise ValueError(
            f"format {content['format']}, expected {FORMAT} or settings.json"
        )
    flags = _read_flags(folder / "flags.cfg")
    objectives, special_ids = {}, ()
    for name, values in content["objectives"].items():
        values = dict(values)
        special_ids = values.pop("special_ids", special_ids)
        objectives[name] = registry.settings_of(name).from_dict(values)
    adversary = dict(content["adversary"] or {})
    warmup_steps = adversary.pop("warmup_steps", 0)
    optimization = _from_flags(OptimizationSettings, flags)
    if not flags:
        # The one other setting that a run made in Python has written down.
        results = files.read_json(folder / "results.json", missing={})
        optimization["seed"] = results.get("seed", 0)
    proportion = float(flags.get("adv_warmup_proportion", 0.0))
    data = _from_flags(DataSettings, flags)
    return Record(
        settings=Settings(
            method=content["method"],
            encoder=EncoderSettings(
                content["encoder"],
                content["max_length"],
                content["perturb_at"],
                content["precision"],
            ),
            adversary=FreeLB(**adversary),
            adversary_warmup_proportion=proportion,
            optimization=OptimizationSettings(**optimization),
            objectives=objectives,
        ),
        dataset=content["dataset"],
        label_names=tuple(content["label_names"]),
        data=DataSettings(**data) if data else None,
        special_ids=tuple(special_ids),
        warmup_steps=warmup_steps,
        version="0.1",
    )


def _read_flags(path):
    """Returns a flagfile as a dict of strings, and of booleans."""
    if not path.exists():
        return {}
    found = {}
    for line in path.read_text(encoding="utf-8").split("\n"):
        name, equals, value = line.removeprefix("--").partition("=")
        if equals:
            found[name] = value
        elif name.startswith("no"):
            found[name.removeprefix("no")] = False
        elif name:
            found[name] = True
    return found


def _from_flags(kind, flags):
    """Returns the fields of a flat group that the flags tell."""
    values = {}
    for name, (flag, _, of_type) in fields.flags_of(kind).items():
        if flag in flags:
            of_type, _ = fields.options_of(of_type)
            values[name] = of_type(flags[flag])
    return values
