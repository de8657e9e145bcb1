"""A run's record: what it is, as data, in its `settings.json`."""
import os

import dataclasses
import hashlib

import numpy as np

import tfadv
from tfadv.adversaries.freelb import FreeLB
from tfadv.datasets.examples import TextDataset
from tfadv.data.settings import DataSettings
from tfadv.errors import InputError
from tfadv.runs import methods
from tfadv.runs.settings import Settings

FORMAT = 3

# Settings that may change while a run goes on: they do not change its results.
_FREE = ("settings.optimization.backup_seconds",)


@dataclasses.dataclass(frozen=True)
class Record:
    """What a run is: how it was trained, on what, and how to build it again.

    Args:
        settings: `Settings` that it was trained with.
        dataset: string, the dataset's name.
        label_names: tuple of strings: class `i` is called `label_names[i]`.
        data: `DataSettings` that the dataset was loaded with, or `None` where
            it was made in Python.
        special_ids: tuple of ints, the token ids that are no words.
        warmup_steps: int, the updates over which the adversary grew.
        sha256_of_texts: string, a digest of all texts and labels, or `None`.
        version: string, of the tfadv that wrote it.

    Example:

    ```python
    record = run_folder.read_record("runs/freelb")
    record.settings.optimization.learning_rate  # 5e-5
    ```
    """

    settings: Settings
    dataset: str
    label_names: tuple[str, ...]
    data: DataSettings | None = None
    special_ids: tuple[int, ...] = ()
    warmup_steps: int = 0
    sha256_of_texts: str | None = None
    version: str = tfadv.__version__

    @property
    def adversary(self) -> FreeLB | None:
        """The adversary of the run's training, or `None` if it has none."""
        if not methods.get(self.settings.method).adversary:
            return None
        return dataclasses.replace(
            self.settings.adversary, warmup_steps=self.warmup_steps
        )

    def to_dict(self) -> dict:
        """Returns the content of `settings.json`."""
        return {
            "format": FORMAT,
            "tfadv": self.version,
            "settings": self.settings.to_dict(),
            "data": self.data and self.data.to_dict(),
            "sha256_of_texts": self.sha256_of_texts,
            "classifier": {
                "dataset": self.dataset,
                "label_names": list(self.label_names),
                "special_ids": list(self.special_ids),
                "warmup_steps": self.warmup_steps,
            },
        }

    @classmethod
    def from_dict(cls, content: dict) -> "Record":
        """Makes a record from the content of `settings.json`.

        Args:
            content: what the file holds.

        Returns:
            `Record`.

        Raises:
            InputError: a setting is not one of this version's, or the method
                is not registered.
            KeyError, TypeError or ValueError: it has another form.
        """
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, expected {FORMAT}")
        classifier = content["classifier"]
        names = classifier["label_names"]
        if len(names) < 2 or not all(isinstance(name, str) for name in names):
            raise ValueError("label_names must be two or more strings")
        if not isinstance(classifier["dataset"], str):
            raise TypeError("dataset must be a string")
        data = content.get("data")
        return cls(
            settings=Settings.from_dict(content["settings"]),
            dataset=classifier["dataset"],
            label_names=tuple(names),
            data=None if data is None else DataSettings.from_dict(data),
            special_ids=tuple(map(int, classifier["special_ids"])),
            warmup_steps=int(classifier["warmup_steps"]),
            sha256_of_texts=content.get("sha256_of_texts"),
            version=str(content.get("tfadv")),
        )


def identity(settings: Settings, dataset: TextDataset) -> dict:
    """Tells what makes a run another one if it changes.

    Args:
        settings: `Settings`.
        dataset: `TextDataset` that is trained on.

    Returns:
        dict for JSON: `settings`, `data` and `sha256_of_texts`.
    """
    source = dataset.source
    return {
        "settings": settings.to_dict(),
        "data": source and source.to_dict(),
        "sha256_of_texts": _digest(dataset),
    }


def check_same(given: dict, stored: object, folder: str | os.PathLike, begun: str = "run") -> None:
    """Refuses to go on with what was begun as something else.

    Args:
        given: dict, what is to go on, as `identity` returns it.
        stored: what the folder says that it holds; entries of which `given`
            has none are not looked at.
        folder: path, for the message.
        begun: string, what is to go on: `"run"` or `"search"`.

    Raises:
        InputError: with the code `"another-run"` or `"another-search"`: they
            differ. The message names the first differences.
    """
    stored = stored if isinstance(stored, dict) else {}
    old = _flat({name: stored.get(name) for name in given})
    new = _flat(given)
    names = [
        name
        for name in dict.fromkeys([*new, *old])
        if new.get(name) != old.get(name) and name not in _FREE
    ]
    if not names:
        return
    told = [
        f"`{name.partition('.')[2]}` is {_shown(new, name)}, where the {begun} "
        f"has {_shown(old, name)}"
        for name in names
        if name != "sha256_of_texts"
    ]
    raise InputError(
        f"another-{begun}",
        f"the folder holds another {begun}: "
        + ("; ".join(told[:3]) or "its texts or labels are others"),
        f"give the same settings to resume it, another folder, or `overwrite` "
        "to start anew",
        argument="output_dir",
        value=str(folder),
    )


def _flat(content, path=""):
    """Lists the values in nested dicts by their paths."""
    if not isinstance(content, dict):
        return {path: content}
    found = {}
    for name, value in content.items():
        found |= _flat(value, f"{path}.{name}" if path else name)
    return found


def _shown(values, name):
    return repr(values[name]) if name in values else "none"


def _digest(dataset):
    digest = hashlib.sha256()
    for name in ("train", "dev", "test"):
        split = getattr(dataset, name)
        if split is not None:
            for text in split.texts:
                digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
            digest.update(np.asarray(split.labels, np.int32).tobytes())
        digest.update(name.encode())
    digest.update("\0".join(dataset.label_names).encode())
    return digest.hexdigest()
