"""Flags made from settings, and settings made from flags.

A field of a `tfadv.fields.Group` is the one home of a setting's name, type,
default, choices, bounds and help. What is wrong with values, or between them,
the group itself says when it is made.
"""

import dataclasses
import re
import sys
import typing

from absl import flags

from tfadv import fields
from tfadv.errors import InputError


class Flags:
    """The flags of a group of settings.

    Args:
        kind: class, a `tfadv.fields.Group`.
        required: names of the fields that must be given.

    Example:

    ```python
    data = Flags(DataSettings)
    data.define()
    flags.FLAGS(sys.argv)
    settings = data.read()
    ```
    """

    def __init__(
        self, kind: type[fields.Group], required: typing.Sequence[str] = ()
    ):
        self.kind = kind
        self.required = required

    def define(self) -> None:
        """Defines the flags."""
        define(self.kind)

    def names(self) -> dict[str, str]:
        """Returns the flags by the paths of their settings."""
        return names(self.kind)

    def read(self) -> fields.Group:
        """Makes the settings that the flags describe.

        Raises:
            InputError: a value is not allowed, or values do not go together.
                The error names flags.
        """
        settings = read(self.kind)
        for name in self.required:
            if getattr(settings, name) is None:
                raise InputError(
                    "missing-flag",
                    "expected a value, found none",
                    "give it",
                    argument=self.names()[name],
                )
        return settings


def define(
    kind: type[fields.Group], helps: typing.Mapping[str, str] | None = None
) -> None:
    """Defines a flag for each setting of a group that has one.

    Args:
        kind: class, a `tfadv.fields.Group`.
        helps: dict of further help, by the settings' paths.
    """
    known = fields.flags_of(kind)
    flag_of = names(kind)
    for path, (name, item, of_type) in known.items():
        setting = item.metadata["setting"]
        default: typing.Any = item.default
        text = " ".join(
            [setting.help, *filter(None, [(helps or {}).get(path)])]
        )
        text = re.sub(
            "`([a-z_.]+)`", lambda m: f"--{flag_of.get(m[1], m[1])}", text
        )
        if setting.choices:
            text = f"<{'|'.join(setting.choices)}>: {text}"
        # absl shows the flags of this module, the binary, in --help.
        home = sys.argv[0]
        of_type, _ = fields.options_of(of_type)
        if of_type is bool:
            flags.DEFINE_bool(name, default, text, module_name=home)
        elif of_type == tuple[str, ...]:
            flags.DEFINE_multi_string(
                name, list(default), text, module_name=home
            )
        else:
            # It writes values as well as it reads them.
            parser = _Parser(of_type, setting)
            flags.DEFINE(  # type: ignore[call-overload]
                parser,
                name,
                default,
                text,
                serializer=parser,
                module_name=home,
            )


def names(
    kind: type[fields.Group], path: str = "", prefix: str = ""
) -> dict[str, str]:
    """Maps the paths of a group's settings to their flags.

    Args:
        kind: class, a `tfadv.fields.Group`.
        path: string, put before the paths.
        prefix: string, put before the flags that have their field's name.

    Returns:
        dict of strings.
    """
    known = fields.flags_of(kind, path, prefix)
    return {path: name for path, (name, _, _) in known.items()}


def read(
    kind: type[fields.Group], prefix: str = "", **given: typing.Any
) -> fields.Group:
    """Makes a group of settings from the flags' values.

    Args:
        kind: class, a `tfadv.fields.Group`.
        prefix: string, as that of `names`.
        **given: values of fields that are not taken from flags.

    Returns:
        An instance of `kind`.

    Raises:
        InputError: as those of the group; it names flags.
    """
    flag_of = names(kind, prefix=prefix)
    types_of = typing.get_type_hints(kind)
    values = dict(given)
    for item in dataclasses.fields(kind):
        if item.name in given:
            continue
        if fields.is_group(types_of[item.name]):
            inner = prefix + item.metadata.get("flag_prefix", "")
            values[item.name] = read(types_of[item.name], inner)
        elif item.name in flag_of:
            values[item.name] = flags.FLAGS[flag_of[item.name]].value
    try:
        return kind(**values)
    except InputError as error:
        raise error.renamed(flag_of) from error


class _Parser(flags.ArgumentParser):
    """Turns a flag's text into a value of its setting's type, and back."""

    def __init__(self, kind, setting):
        self._several = typing.get_origin(kind) is tuple
        self._kind = typing.get_args(kind)[0] if self._several else kind
        self._none = setting.none
        if self._kind in (int, float):
            words = fields.bounds(setting, self._kind)
            if self._several:
                words = f"numbers, separated by commas: each {words}"
            if self._none:
                words += f", or {self._none}"
            self.syntactic_help = words

    def parse(self, argument):
        if not isinstance(argument, str):  # the default
            return argument
        if self._several:
            return tuple(map(self._value, argument.split(",")))
        if argument == self._none:
            return None
        return self._value(argument)

    def _value(self, text):
        text = text.strip()
        if self._kind is int:
            if not re.fullmatch("[+-]?[0-9]{1,99}", text):
                raise ValueError("expected a whole number")
            return int(text)
        if self._kind is float:
            try:
                return float(text)
            except ValueError:
                raise ValueError("expected a number") from None
        # `--train_file=` takes back what a flagfile says.
        return text or None

    def flag_type(self):
        return self._kind.__name__

    def serialize(self, value):
        if self._several:
            return ",".join(map(str, value))
        return str(value)
