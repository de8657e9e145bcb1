"""Which trained run, and which split of its data or of others."""

import dataclasses
import typing

from tfadv.data.settings import DataSettings
from tfadv.fields import Group, field

if typing.TYPE_CHECKING:
    from tfadv.datasets.examples import Examples
    from tfadv.runs.record import Record


@dataclasses.dataclass(frozen=True)
class TrainedRun(Group):
    """Which trained run, and which split of its data or of others."""

    run_dir: str | None = field(
        None, "Folder of a run: the `output_dir` of tools.train."
    )
    split: str | None = field(
        None,
        "The split of the data, by default test: of the data the run was "
        "trained with, or of what `dataset` or the file flags name.",
        choices=("train", "dev", "test"),
    )

    @property
    def split_or_test(self) -> str:
        """The split's name; that of the test split where none is given."""
        return self.split or "test"

    def load_split(
        self, data: DataSettings, record: "Record"
    ) -> "tuple[str, Examples]":
        """Loads the split, of the run's data where none are given.

        Args:
            data: `DataSettings` that the flags describe.
            record: the run's record.

        Returns:
            What `tfadv.data.loading.load_split` returns.

        Raises:
            InputError: as that function.
        """
        from tfadv.data import loading

        data = data.or_those_of(record.data)
        return loading.load_split(data, self.split_or_test, record.label_names)
