"""Writes settings as the flags that make them."""

from tfadv import fields
from tfadv.fields import Group
from tfadv.runs.settings import Settings

# The name of no file, which says why there is none.
_NO_DATA = "--train_file=the_texts_were_given_in_Python"


def text(settings: Settings, data: Group | None = None) -> str:
    """Writes a flagfile that `--flagfile` takes.

    Args:
        settings: `Settings`.
        data: `DataSettings`; `None` where the texts were given in Python, for
            which there is no flag: the flagfile is refused then until another
            `--train_file` follows it.

    Returns:
        string, a line per flag, in the order of their names.

    Example:

    ```python
    flagfile.text(tfadv.Settings(method="rar"))  # "--adv_init_magnitude=0.0...
    ```
    """
    groups = [settings, *settings.objectives.values()]
    if data is not None:
        groups.append(data)
    lines = [] if data is not None else [_NO_DATA]
    for group in groups:
        for path, (flag, item, _) in fields.flags_of(type(group)).items():
            value = group
            for name in path.split("."):
                value = getattr(value, name)
            lines += _line(flag, value, item.metadata["setting"].none)
    return "".join(f"{line}\n" for line in sorted(lines))


def _line(flag, value, none):
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no{flag}"]
    value = none if value is None else value
    return [] if value is None else [f"--{flag}={value}"]
