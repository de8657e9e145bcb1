"""Where the texts come from that are classified."""

import dataclasses
import sys
from collections.abc import Iterable

from tfadv.data.settings import DataSettings
from tfadv.errors import InputError
from tfadv.fields import Group, field
from tfadv.flags.run import TrainedRun


@dataclasses.dataclass(frozen=True)
class Texts(Group):
    """Where the texts come from that are classified."""

    texts_file: str | None = field(
        None,
        "A UTF-8 file with a text a line, instead of stdin. Instead of either, "
        "`split` or the data flags name a split, whose .csv, .tsv or .jsonl "
        "file needs no labels.",
    )

    def read(
        self,
        trained: TrainedRun,
        data: DataSettings,
        recorded: DataSettings | None,
    ) -> Iterable[str]:
        """Opens the texts that the flags name, or else those of stdin.

        Args:
            trained: `TrainedRun`, whose `split` alone names the run's data.
            data: `DataSettings` that the flags describe.
            recorded: `DataSettings` of the run, or `None`.

        Returns:
            Iterable of strings; a list for a split.

        Raises:
            InputError: flags exclude each other, or there are no texts.
        """
        from tfadv.data import loading
        from tfadv.inference import prediction

        given = {"split": trained.split, **data.to_dict()}
        given = {name: value for name, value in given.items() if value}
        if self.texts_file:
            for name, value in given.items():
                raise InputError(
                    "clash",
                    "a text file has neither splits nor columns, found "
                    f"`{name}`={value} beside it",
                    "omit one of them",
                    argument="texts_file",
                    value=self.texts_file,
                )
            return prediction.read_file(self.texts_file)
        if data.names_source or trained.split:
            return loading.load_texts(
                data.or_those_of(recorded), trained.split_or_test
            )
        for name, value in given.items():
            raise InputError(
                "clash",
                "it says nothing about stdin, which has a text a line",
                "give the file with `test_file`",
                argument=name,
                value=value,
            )
        if sys.stdin is None or sys.stdin.isatty():
            raise InputError(
                "no-texts",
                "expected texts on stdin, a text a line, found a terminal",
                "give them there (< texts.txt), or with `texts_file`, or name "
                "a split with `test_file`, `dataset` or `split`",
            )
        return prediction.read_texts(sys.stdin.buffer, "stdin")
