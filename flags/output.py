"""Where results go."""

import dataclasses
import pathlib

from tfadv.fields import Group, field


@dataclasses.dataclass(frozen=True)
class Output(Group):
    """Where results go."""

    output_dir: str | None = field(
        None, "Folder for the results; made if there is none."
    )
    overwrite: bool = field(
        False, "Replace the results that the output folder holds."
    )

    def folder(self, default: str) -> pathlib.Path:
        """Returns the output folder, or another one where none is given."""
        return pathlib.Path(self.output_dir or default)
