"""Adversaries as text: what RAR's head reads in perturbed embeddings."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from tfadv.adversaries.pgd import pgd_attack
from tfadv.data import batching
from tfadv.datasets.examples import Examples
from tfadv.errors import InputError
from tfadv.robustness.trained import Trained
from tfadv.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Summary:
    """What came of a split's reconstructions.

    Args:
        examples: int, the attacked ones.
        blank: int. Reconstructions without any visible character are left
            out.
        changed_tokens: float, the mean number an example.
        flipped: int, the examples that were classified rightly as they were
            and wrongly as reconstructed.
        victim_flipped: int, the same for the other run, or `None`.
    """

    examples: int
    blank: int
    changed_tokens: float
    flipped: int
    victim_flipped: int | None

    def __str__(self):
        line = (
            f"{self.flipped} of {self.examples} predictions flip from right "
            f"to wrong; {self.changed_tokens:.2f} tokens changed on average"
        )
        if self.victim_flipped is not None:
            line += f"; {self.victim_flipped} flip on the other run"
        if self.blank:
            line += f"; {self.blank} blank reconstructions left out"
        return line


def reconstruct(
    run: Trained,
    examples: Examples,
    epsilon: float,
    batch_size: int = 32,
    victim: Trained | None = None,
    **attack: Any,
) -> tuple[list[dict], Summary]:
    """Attacks texts and reads the adversaries back as text.

    k-PGD perturbs the word embeddings; the reconstruction head names the word
    at every position; the words make a text, which is classified like any
    other.

    Args:
        run: `Trained`, such as `tfadv.load` returns it; a run of method `rar`
            or `carl_rar`.
        examples: `tfadv.datasets.examples.Examples`.
        epsilon: float, see `tfadv.pgd_attack`.
        batch_size: int.
        victim: `Trained`, on which the texts are tried as well; or `None`.
        **attack: further arguments of `tfadv.pgd_attack`.

    Returns:
        `(lines, summary)`: a list of dicts in the examples' order, and
        `Summary`. A line has `index`, `original`, `reconstruction`, `label`,
        `prediction_before`, `prediction_after`, `changed` (a list of
        `{"position", "from", "to"}`), and with a victim `victim_before` and
        `victim_after`.

    Raises:
        InputError: the run has no reconstruction head.

    Example:

    ```python
    run = tfadv.load("runs/rar")
    lines, summary = reconstruct(run, dataset.test, epsilon=0.3)
    print(lines[0]["original"], "->", lines[0]["reconstruction"])
    ```

    Reference:
     - CARL and RAR paper, section 4.5 and Table 6
    """
    head = _reconstruction_head(run)
    encoder = run.classifier.encoder
    tokenized = batching.tokenize(examples, run.tokenizer)

    @tf.function(input_signature=batching.batch_spec(), autograph=False)
    def attacked(x, y):
        result = pgd_attack(run.classifier, x, y, epsilon, **attack)
        embeddings = tf.cast(encoder.embed(x), tf.float32) + result.delta
        read = head.reconstruct(
            encoder.encode(embeddings, x)["sequence_output"]
        )
        return tf.where(head.words(x), read, x["token_ids"])

    after = batching.map_in_order(attacked, tokenized, batch_size, "attacking")
    before = tokenized.token_ids.to_list()
    lines = [
        _line(run, examples, index, np.array(ids), after[index][: len(ids)])
        for index, ids in enumerate(before)
    ]
    attempted = len(lines)
    lines = [line for line in lines if line["reconstruction"].strip()]
    add_predictions(lines, run, "prediction", "reconstruction")
    if victim is not None:
        add_predictions(lines, victim, "victim", "reconstruction")
    changed = [len(line["changed"]) for line in lines]
    summary = Summary(
        examples=len(lines),
        blank=attempted - len(lines),
        changed_tokens=float(np.mean(changed)) if lines else 0.0,
        flipped=_flipped(lines, "prediction"),
        victim_flipped=None if victim is None else _flipped(lines, "victim"),
    )
    return lines, summary


def _reconstruction_head(run):
    for objective in run.classifier.objectives:
        if objective.reads_words:
            return objective
    raise InputError(
        "no-reconstruction-head",
        "expected a run with a reconstruction head, found one without",
        "give a run that has learned to reconstruct words, such as one of "
        "`method`=rar or carl_rar",
        argument="run_dir",
        value=str(run.folder),
    )


def _line(run, examples, index, before, after):
    return {
        "index": index,
        "original": examples.texts[index],
        "reconstruction": run.tokenizer.detokenize(after),
        "label": run.label_names[examples.labels[index]],
        "changed": changed_tokens(run.tokenizer, before, after),
    }


def changed_tokens(
    tokenizer: Tokenizer, before: np.ndarray, after: np.ndarray
) -> list[dict]:
    """Lists where two texts of equally many tokens differ.

    Args:
        tokenizer: `tfadv.Tokenizer`.
        before: int array of token ids.
        after: int array of token ids.

    Returns:
        List of `{"position", "from", "to"}`.
    """
    differs = np.flatnonzero(before != after)
    pieces = [tokenizer.ids_to_tokens(ids[differs]) for ids in (before, after)]
    return [
        {"position": int(position), "from": one, "to": other}
        for position, one, other in zip(differs, *pieces, strict=True)
    ]


def add_predictions(
    lines: list[dict], run: Trained, name: str, changed_column: str
) -> None:
    """Classifies texts and their adversaries, and notes the classes' names.

    Args:
        lines: list of dicts with `"original"` and `changed_column`; the
            entries `{name}_before` and `{name}_after` are added.
        run: `Trained`, such as `tfadv.load` returns it.
        name: string.
        changed_column: string, the entry with the adversary.
    """
    for when, column in (("before", "original"), ("after", changed_column)):
        probabilities = run.predict_proba([line[column] for line in lines])
        for line, row in zip(lines, probabilities, strict=True):
            line[f"{name}_{when}"] = run.label_names[int(np.argmax(row))]


def _flipped(lines, name):
    return sum(
        line[f"{name}_before"] == line["label"] != line[f"{name}_after"]
        for line in lines
    )
