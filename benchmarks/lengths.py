"""The lengths of SST-2's training sentences, on which padding depends."""

import csv
import pathlib

import numpy as np

# How many of the 67,349 sentences have 0, 1, 2, ... tokens in ALBERT's
# vocabulary, [CLS] and [SEP] among them.
SST2_COUNTS = (
    *(0, 0, 0, 1920, 5156, 5654, 4939, 4397, 3968, 3452, 3128, 2948, 2552),
    *(2343, 2163, 1995, 1799, 1594, 1542, 1418, 1287, 1242, 1165, 958, 1004),
    *(898, 858, 783, 712, 688, 618, 564, 510, 489, 443, 420, 385, 356, 332),
    *(291, 249, 233, 209, 198, 205, 152, 165, 130, 101, 103, 86, 74, 68, 59),
    *(54, 45, 41, 34, 28, 26, 28, 21, 13, 14, 8, 9, 5, 7, 3, 4, 2, 0, 0, 1),
    *(1, 1, 0, 0, 0, 0, 0, 1),
)
MAX_LENGTH = 128


def add_flags(parser, sentences):
    """Adds the flags that tell which lengths are taken."""
    parser.add_argument(
        "--sentences", type=int, default=sentences, help="drawn by chance"
    )
    parser.add_argument(
        "--data_dir",
        type=pathlib.Path,
        help="folder with SST-2's train.tsv, to draw its sentences; needs "
        "--tokenizer. Without it, lengths are drawn from a stored histogram",
    )
    parser.add_argument(
        "--tokenizer", help="folder of ALBERT's tokenizer, to count the tokens"
    )


def draw(options):
    """Draws the lengths of sentences.

    Args:
        options: `argparse.Namespace` with the flags of `add_flags`.

    Returns:
        list of ints.
    """
    rng = np.random.default_rng(0)
    if options.data_dir is None:
        return from_counts(SST2_COUNTS, options.sentences, rng)
    if options.tokenizer is None:
        raise SystemExit("--data_dir needs --tokenizer")
    from tfadv import startup

    startup.import_tensorflow()
    import tfadv

    with open(
        options.data_dir / "train.tsv", encoding="utf-8", newline=""
    ) as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        texts = [row["sentence"] for row in reader]
    texts = rng.choice(texts, options.sentences, replace=False)
    tokenizer = tfadv.Tokenizer.from_pretrained(options.tokenizer, MAX_LENGTH)
    return tokenizer.tokenize(list(texts)).row_lengths().numpy().tolist()


def from_counts(counts, number, rng):
    """Draws some of the sentences that a histogram has counted.

    Args:
        counts: sequence of ints, of the sentences of each length.
        number: int.
        rng: `numpy.random.Generator`.

    Returns:
        list of ints.
    """
    every = np.repeat(np.arange(len(counts)), counts)
    return rng.choice(every, number, replace=False).tolist()


def describe(lengths, options):
    """Tells in words which lengths these are."""
    source = "the stored histogram" if options.data_dir is None else "train.tsv"
    return (
        f"{len(lengths):,} sentences of SST-2's real lengths, drawn from "
        f"{source}: {np.mean(lengths):.1f} tokens on average, at most "
        f"{max(lengths)}; the token ids are random"
    )
