"""A dataset and an encoder on which training takes a second."""

import dataclasses
import io

import numpy as np

from tests import checkpoints
from tfadv.datasets.examples import Examples, TextDataset
from tfadv.runs.record import Record
from tfadv.runs.settings import Settings

WORDS = ["good", "bad", "the", "film", "is", "a", "plot", "dull", "fine"]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]


def encoder_folder(folder, vocabulary=None, positions=24):
    """Writes a random BERT checkpoint with its vocabulary, or another's."""
    pieces = PIECES
    if vocabulary is not None:
        text = (vocabulary / "vocab.txt").read_text(encoding="utf-8")
        pieces = text.removesuffix("\n").split("\n")
    config = checkpoints.bert_config(len(pieces), 8, 2, 1, 16, positions)
    case = checkpoints.Case("tiny", config, seed=3, batch=1, tokens=1)
    checkpoints.write_checkpoint(
        folder, config, checkpoints.random_tensors(case)
    )
    (folder / "vocab.txt").write_text(
        "\n".join(pieces) + "\n", encoding="utf-8"
    )
    return folder


def sentencepiece_model(sentences, vocab_size, **options):
    """Makes a SentencePiece model with ALBERT's control tokens.

    Returns:
        bytes, the content of a `spiece.model`.
    """
    import sentencepiece

    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(sentences),
        model_writer=file,
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        control_symbols="[CLS],[SEP],[MASK]",
        minloglevel=2,
        **options,
    )
    return file.getvalue()


def examples(count, seed):
    """Makes sentences whose class is one of their words."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count).astype(np.int32)
    texts = []
    for label in labels:
        words = list(rng.choice(WORDS[2:], rng.integers(1, 12)))
        words.insert(rng.integers(0, len(words) + 1), ("bad", "good")[label])
        texts.append(" ".join(words))
    return Examples(texts, labels)


def dataset(dev=24, test=24):
    """Makes a dataset; a split of no examples is none."""
    return TextDataset(
        name="tiny",
        label_names=("bad", "good"),
        train=examples(90, seed=0),
        dev=examples(dev, seed=1) if dev else None,
        test=examples(test, seed=2) if test else None,
    )


def write_csv(path, examples, label_names=("bad", "good")):
    """Writes a split as a CSV file with the columns `text` and `label`."""
    rows = [
        f"{text},{label_names[label]}"
        for text, label in zip(examples.texts, examples.labels, strict=True)
    ]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return path


def write_all(folder, positions=24):
    """Writes the encoder, and the dataset as a CSV file a split."""
    (folder / "encoder").mkdir()
    encoder_folder(folder / "encoder", positions=positions)
    splits = dataset()
    for split in ("train", "dev", "test"):
        write_csv(folder / f"{split}.csv", getattr(splits, split))


def changed(settings, **changes):
    """Changes settings by the names of their fields, nested ones included."""
    for group in ("encoder", "optimization"):
        values = getattr(settings, group)
        names = {item.name for item in dataclasses.fields(values)}
        own = {n: changes.pop(n) for n in names & changes.keys()}
        if own:
            changes[group] = dataclasses.replace(values, **own)
    if "method" in changes:
        # Those of another method are none of this one's.
        changes.setdefault("objectives", {})
    return dataclasses.replace(settings, **changes)


def settings(encoder="all-minilm-l6-v2", **changes):
    """Makes settings of an encoder's folder, as `changed` takes the others."""
    return changed(Settings(), name=str(encoder), **changes)


def record(encoder="all-minilm-l6-v2", label_names=("bad", "good"), **changes):
    """Makes the record of a run on these sentences."""
    return Record(
        settings(encoder, **changes),
        dataset="tiny",
        label_names=tuple(label_names),
        special_ids=(0, 1, 2, 3, 4),
    )
