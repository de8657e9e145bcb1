"""Yahoo! Answers as a dataset of TensorFlow Datasets, which has none."""

import csv
import io
import tarfile
import zlib

import tensorflow_datasets as tfds
from etils import epath

from tfadv.errors import InputError

ARCHIVE = "yahoo_answers_csv.tar.gz"
CLASS_NAMES = (
    "Society & Culture",
    "Science & Mathematics",
    "Health",
    "Education & Reference",
    "Computers & Internet",
    "Sports",
    "Business & Finance",
    "Entertainment & Music",
    "Family & Relationships",
    "Politics & Government",
)


class YahooAnswers(tfds.core.GeneratorBasedBuilder):
    """Questions of Yahoo! Answers with their best answers, in ten topics.

    1,400,000 training and 60,000 test rows, as many of each topic. Line
    breaks, which the archive writes as a backslash and an n, are restored.

    Example:

    ```python
    import tensorflow_datasets as tfds
    from tfadv.datasets import yahoo_answers  # makes it known to TFDS

    dataset = tfds.load("yahoo_answers", split="train")
    ```

    Reference:
        Zhang, Zhao and LeCun (2015), Character-level Convolutional Networks
        for Text Classification, https://arxiv.org/abs/1509.01626.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Download {ARCHIVE}, which Xiang Zhang's page of datasets "
        "(https://github.com/zhangxiangxiao/Crepe) links to, and put it, "
        "still packed, into the manual folder."
    )

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=(
                "Questions of Yahoo! Answers, their best answers and topics."
            ),
            features=tfds.features.FeaturesDict(
                {
                    "question_title": tfds.features.Text(),
                    "question_content": tfds.features.Text(),
                    "best_answer": tfds.features.Text(),
                    "label": tfds.features.ClassLabel(names=CLASS_NAMES),
                }
            ),
            supervised_keys=("question_title", "label"),
            homepage="https://arxiv.org/abs/1509.01626",
        )

    def _split_generators(self, dl_manager):
        try:
            archive = dl_manager.manual_dir / ARCHIVE
        except AssertionError:
            # TFDS' own check: the folder is missing or empty.
            archive = dl_manager.download_dir / "manual" / ARCHIVE
        if not archive.exists():
            raise InputError(
                "no-archive",
                f"expected {ARCHIVE} in the folder {archive.parent}, found "
                "none",
                "put it there (it is linked from "
                "https://github.com/zhangxiangxiao/Crepe), or give the "
                "dataset's files with `data_dir`",
                argument="dataset",
                value="yahoo",
            )
        return {
            split: self._generate_examples(archive, split)
            for split in ("train", "test")
        }

    def _generate_examples(self, archive, split):
        """Yields (key, example), reading the archive as a stream."""
        name = f"yahoo_answers_csv/{split}.csv"
        line = 0
        try:
            for line, row in enumerate(_csv_rows(archive, name), 1):
                number, *texts = row
                title, content, answer = (
                    text.replace("\\n", "\n") for text in texts
                )
                if not 1 <= int(number) <= len(CLASS_NAMES):
                    raise ValueError(f"there is no class {number}")
                yield (
                    line,
                    {
                        "question_title": title,
                        "question_content": content,
                        "best_answer": answer,
                        "label": int(number) - 1,
                    },
                )
        except (
            OSError,
            EOFError,
            KeyError,
            ValueError,
            csv.Error,
            tarfile.TarError,
            zlib.error,
        ) as error:
            raise InputError(
                "damaged-download",
                f"{ARCHIVE} in the folder {archive.parent} is damaged: {name} "
                f"cannot be read beyond row {line} ({error})",
                "download it again",
                argument="dataset",
                value="yahoo",
            ) from error


def _csv_rows(archive, name):
    with (
        epath.Path(archive).open("rb") as file,
        tarfile.open(fileobj=file, mode="r:gz") as members,
    ):
        for member in members:
            if member.name == name:
                text = io.TextIOWrapper(
                    members.extractfile(member), encoding="utf-8", newline=""
                )
                yield from csv.reader(text, strict=True)
                return
    raise KeyError(f"there is no {name} in it")
