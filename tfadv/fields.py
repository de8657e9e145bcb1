"""Settings as dataclasses: one home for a default, its bounds and its help.

A group of settings is a frozen dataclass that derives from `Group`; each of its
fields is made with `field`. From these the command line makes its flags, a run
its `settings.json`, and Python its checks.
"""

import dataclasses
import math
import os
import types
import typing
from collections.abc import Mapping
from typing import Any, Self

from tfadv.errors import InputError


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a field says of itself, beside its name, type and default.

    Args:
        help: string, a sentence for `--help` and for readers.
        flag: string, the flag's name; `""` for the field's own name, `None`
            where there is no flag.
        choices: tuple of the values that are allowed, or `None` for any.
        low: number, the smallest value allowed, or `None`.
        above: number that values must exceed, or `None`.
        high: number, the largest value allowed, or `None`.
        none: string, what the command line calls `None`, where that is a
            choice of its own; `None` where it means that nothing is given.
    """

    help: str
    flag: str | None = ""
    choices: tuple | None = None
    low: float | None = None
    above: float | None = None
    high: float | None = None
    none: str | None = None


def field(default: Any, help: str, **options: Any) -> Any:
    """Declares a setting.

    Args:
        default: its default; a list, a dict or a `Group` is copied.
        help: string, see `Setting`.
        **options: further arguments of `Setting`.

    Returns:
        A dataclass field.

    Example:

    ```python
    @dataclasses.dataclass(frozen=True)
    class Optimization(Group):
        epochs: int = field(2, "Passes over the training set.", low=1)
    ```
    """
    metadata = {"setting": Setting(help, **options)}
    return dataclasses.field(default=default, metadata=metadata)


def group(kind: type["Group"], flag_prefix: str = "") -> Any:
    """Declares a group of settings inside of another one.

    Args:
        kind: class, a `Group`.
        flag_prefix: string, put before the names of its flags.

    Returns:
        A dataclass field.
    """
    return dataclasses.field(
        default_factory=kind, metadata={"flag_prefix": flag_prefix}
    )


@dataclasses.dataclass(frozen=True)
class Group:
    """Base class of groups of settings, which are frozen dataclasses.

    A group checks its values when it is made: their types, choices and bounds,
    then, in `check`, whether they go together.

    Raises:
        InputError: a value is not allowed. Its code is `"wrong-type"`,
            `"not-a-choice"`, `"out-of-range"` or what `check` raises.

    Example:

    ```python
    @dataclasses.dataclass(frozen=True)
    class Optimization(Group):
        epochs: int = field(2, "Passes over the training set.", low=1)

    settings = Optimization(epochs=3)
    Optimization.from_dict(settings.to_dict()) == settings  # True
    ```
    """

    def __post_init__(self):
        types_of = typing.get_type_hints(type(self))
        for item in dataclasses.fields(self):
            setting = item.metadata.get("setting")
            value = getattr(self, item.name)
            if setting is None:
                continue
            value = _checked(item.name, value, types_of[item.name], setting)
            object.__setattr__(self, item.name, value)
        self.check()

    def check(self) -> None:
        """Raises `InputError` where values do not go together."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as a dict for JSON, groups as dicts in it."""
        return {
            item.name: _as_data(getattr(self, item.name))
            for item in dataclasses.fields(self)
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Makes the group again from what `to_dict` returned.

        Args:
            content: dict. A setting that it lacks has its default.

        Raises:
            InputError: a name or a value is not one of this group's.
        """
        types_of = typing.get_type_hints(cls)
        names = {item.name for item in dataclasses.fields(cls)}
        unknown = sorted(set(content) - names)
        if unknown:
            raise InputError(
                "unknown-setting",
                f"expected some of {', '.join(sorted(names))}, found "
                f"{', '.join(unknown)}",
                "correct the names",
            )
        values = {}
        for name, value in content.items():
            kind = types_of[name]
            if isinstance(value, dict) and is_group(kind):
                value = kind.from_dict(value)
            values[name] = value
        return cls(**values)


def flags_of(
    kind: type["Group"], path: str = "", prefix: str = ""
) -> dict[str, tuple[str, dataclasses.Field, Any]]:
    """Lists the settings of a group that have a flag, those inside included.

    Args:
        kind: class, a `Group`.
        path: string, put before the paths.
        prefix: string, put before the flags' names.

    Returns:
        dict: a setting's path, such as `"optimization.epochs"`, to
        `(flag, dataclasses.Field, type)`.
    """
    found = {}
    types_of = typing.get_type_hints(kind)
    for item in dataclasses.fields(kind):
        of_type = types_of[item.name]
        if is_group(of_type):
            inner = prefix + item.metadata.get("flag_prefix", "")
            found |= flags_of(of_type, f"{path}{item.name}.", inner)
            continue
        setting = item.metadata.get("setting")
        if setting is not None and setting.flag is not None:
            flag = setting.flag or prefix + item.name
            found[path + item.name] = (flag, item, of_type)
    return found


def is_group(kind: Any) -> bool:
    """Tells whether a field's type is a group of settings."""
    return isinstance(kind, type) and issubclass(kind, Group)


def _as_data(value):
    if isinstance(value, Group):
        return value.to_dict()
    if isinstance(value, dict):
        return {key: _as_data(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_as_data(item) for item in value]
    return value


def options_of(kind: Any) -> tuple[Any, bool]:
    """Takes `int | None` apart.

    Returns:
        `(type, optional)`: the type without `None`, and whether it had it.
    """
    if isinstance(kind, types.UnionType):
        [other] = [k for k in typing.get_args(kind) if k is not type(None)]
        return other, True
    return kind, False


def _checked(name, value, kind, setting):
    """Returns a value in its type, or refuses it."""
    kind, optional = options_of(kind)
    if value is None and optional:
        return None
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, tuple | list):
            raise InputError(
                "wrong-type",
                f"expected several values, received {type(value).__name__}",
                "give a list of them",
                argument=name,
                value=value,
            )
        kind = typing.get_args(kind)[0]
        return tuple(_checked(name, item, kind, setting) for item in value)
    if kind is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    plain = kind in (int, float, str, bool)
    if plain and (
        not isinstance(value, kind) or (kind is int and isinstance(value, bool))
    ):
        # NumPy's numbers are numbers, too.
        if kind in (int, float) and hasattr(value, "item"):
            return _checked(name, value.item(), kind, setting)
        raise InputError(
            "wrong-type",
            f"expected {kind.__name__}, received {type(value).__name__}",
            "give one of that type",
            argument=name,
            value=value,
        )
    if setting.choices is not None and value not in setting.choices:
        raise InputError(
            "not-a-choice",
            f"expected one of {', '.join(map(str, setting.choices))}",
            "choose one of them",
            argument=name,
            value=value,
        )
    if kind in (int, float) and not _within(value, setting):
        raise InputError(
            "out-of-range",
            f"expected {bounds(setting, kind)}",
            "give such a number",
            argument=name,
            value=value,
        )
    return value


def _within(value, setting):
    # Written so that NaN and infinity fail, too.
    return (
        math.isfinite(value)
        and (setting.low is None or value >= setting.low)
        and (setting.above is None or value > setting.above)
        and (setting.high is None or value <= setting.high)
    )


def by_path(content: dict, path: str = "") -> dict:
    """Lists the values in nested dicts by their paths.

    Args:
        content: dict, such as `Group.to_dict` returns it.
        path: string, put before the names.

    Returns:
        dict.

    Example:

    ```python
    by_path({"adversary": {"steps": 3}})  # {"adversary.steps": 3}
    ```
    """
    found = {}
    for name, value in content.items():
        if isinstance(value, dict):
            found |= by_path(value, f"{path}{name}.")
        else:
            found[path + name] = value
    return found


def bounds(setting: Setting, kind: type = float) -> str:
    """Says in words which numbers a setting allows.

    Args:
        setting: `Setting`.
        kind: `int` or `float`.

    Returns:
        string, such as `"a number greater than 0"`.
    """
    words = [
        f"{word} {bound:,}"
        for word, bound in (
            ("of at least", setting.low),
            ("greater than", setting.above),
            ("of at most", setting.high),
        )
        if bound is not None
    ]
    noun = "a whole number" if kind is int else "a number"
    if not words:
        return noun if kind is int else "a finite number"
    return f"{noun} {' and '.join(words)}"
