"""How well a trained classifier holds up under attacks on word embeddings."""

from typing import Any

import numpy as np
import tensorflow as tf

from tfadv import markdown
from tfadv.adversaries.pgd import pgd_attack
from tfadv.data import batching
from tfadv.datasets.examples import Examples
from tfadv.robustness import word_classes
from tfadv.robustness.statistics import (
    bootstrap_interval,
    cosines,
    with_interval,
)
from tfadv.robustness.trained import Trained

# Sentences whose words are shown with what delta does to them.
_HEAT_MAPS = 12


def measure(
    run: Trained,
    examples: Examples,
    epsilons: list[float],
    batch_size: int = 32,
    seed: int = 0,
    **attack: Any,
) -> tuple[dict, dict[str, np.ndarray]]:
    """Attacks a split within balls of several sizes.

    Args:
        run: `Trained`, such as `tfadv.load` returns it.
        examples: `tfadv.datasets.examples.Examples`.
        epsilons: list of floats, the balls' radii.
        batch_size: int. The results do not depend on it.
        seed: int, of the random starts and the bootstrap.
        **attack: further arguments of `tfadv.pgd_attack`.

    Returns:
        `(results, representations)`. `results` is a dict for
        `robustness.json`: `examples`, `seed`, `attack` (the settings),
        `clean` (the accuracy without an attack, on the same examples) and
        `epsilons`, a list of dicts with `epsilon`, `accuracy`, `cosine`
        and `euclidean` (means between clean and attacked sentence
        representations), an interval of 95 % confidence beside each,
        `delta_norm` (the mean over the examples), `delta_norm_by_word_class`
        (means over the tokens of each class, with intervals) and
        `heat_maps`. `representations` is a dict of arrays: `labels`, `clean`
        and, by epsilon, `attacked`, `[epsilons, examples, hidden]`.

    Example:

    ```python
    run = tfadv.load("runs/freelb")
    results, _ = measure(run, dataset.test, [0.1, 0.2], steps=10)
    results["epsilons"][0]["accuracy"]
    ```

    Reference:
     - CARL and RAR paper, section 4.4, Tables 4 and 5
    """
    tokenized = batching.tokenize(examples, run.tokenizer)
    signature = (*batching.batch_spec(), tf.TensorSpec([], tf.float32))

    @tf.function(input_signature=signature, autograph=False)
    def attacked(x, y, epsilon):
        result = pgd_attack(run.classifier, x, y, epsilon, seed=seed, **attack)
        guess = tf.argmax(result.clean["logits"], 1, output_type=y.dtype)
        return (
            result.fooled,
            guess != y,
            tf.cast(result.clean["pooled_output"], tf.float32),
            tf.cast(result.adversarial["pooled_output"], tf.float32),
            tf.norm(result.delta, axis=2),
        )

    rows, attacked_representations = [], []
    for epsilon in epsilons:
        radius = tf.constant(epsilon, tf.float32)
        answers = batching.map_in_order(
            lambda x, y, radius=radius: attacked(x, y, radius),
            tokenized,
            batch_size,
            f"attacking, epsilon {epsilon:g}",
        )
        *columns, word_norms = zip(*answers, strict=True)
        fooled, wrong, clean, adversarial = map(np.stack, columns)
        rows.append(
            {
                "epsilon": float(epsilon),
                **with_interval("accuracy", ~fooled, seed),
                **with_interval("cosine", cosines(clean, adversarial), seed),
                **with_interval(
                    "euclidean",
                    np.linalg.norm(clean - adversarial, axis=1),
                    seed,
                ),
                "delta_norm": float(
                    np.mean([np.linalg.norm(norms) for norms in word_norms])
                ),
                **_by_word(run, tokenized, examples, word_norms, seed),
            }
        )
        attacked_representations.append(adversarial)
    results = {
        "examples": len(examples),
        "seed": seed,
        "attack": attack,
        "clean": with_interval("accuracy", ~wrong, seed),
        "epsilons": rows,
    }
    representations = {
        "labels": np.asarray(examples.labels),
        "clean": clean,
        "attacked": np.stack(attacked_representations),
    }
    return results, representations


def table(results: dict) -> str:
    """Lays out what was measured as a Markdown table, a row per attack.

    Args:
        results: dict, the content of `robustness.json`.

    Returns:
        string.
    """
    attack = results["attack"]
    rows = [["none", *_percents(results["clean"]), "-", "-"]]
    for row in results["epsilons"]:
        distances = [f"{row[key]:.3f}" for key in ("cosine", "euclidean")]
        name = f"PGD, epsilon {row['epsilon']:g}"
        rows.append([name, *_percents(row), *distances])
    if "hotflip" in results:
        row = results["hotflip"]
        name = f"HotFlip, {row['max_flips']} words"
        rows.append([name, *_percents(row), "-", "-"])
    header = ["attack", "accuracy", "95 % interval", "cosine", "euclidean"]
    return (
        f"{results['examples']} examples, k = {attack['steps']}, step size "
        f"{attack.get('step_size') or '2.5 * epsilon / k'}, "
        f"{attack['norm']} ball, restarts = {attack['restarts']}\n"
        + markdown.table(header, rows)
    )


def _percents(row):
    low, high = row["accuracy_interval"]
    return (
        f"{100 * row['accuracy']:.1f} %",
        f"{100 * low:.1f} to {100 * high:.1f} %",
    )


def _by_word(run, tokenized, examples, word_norms, seed):
    """Tells which words delta pushes: by class, and on a few sentences."""
    kinds, maps = word_classes.CLASSES, []
    sums = np.zeros([len(examples), len(kinds)])
    counts = np.zeros_like(sums)
    for index, ids in enumerate(tokenized.token_ids.to_list()):
        pieces = run.tokenizer.ids_to_tokens(ids)
        norms = word_norms[index][: len(pieces)]
        classes = word_classes.classify(pieces, ids, run.tokenizer)
        columns = [kinds.index(kind) for kind in classes]
        np.add.at(sums[index], columns, norms)
        np.add.at(counts[index], columns, 1)
        if index < _HEAT_MAPS:
            maps.append(
                {
                    "tokens": pieces,
                    "norms": [round(float(norm), 5) for norm in norms],
                    "label": run.label_names[examples.labels[index]],
                }
            )
    return {
        "delta_norm_by_word_class": {
            kind: {
                "mean": float(of_kind.sum() / number.sum()),
                "mean_interval": bootstrap_interval(
                    of_kind, seed, counts=number
                ),
                "tokens": int(number.sum()),
            }
            for kind, of_kind, number in zip(
                kinds, sums.T, counts.T, strict=True
            )
            if number.any()
        },
        "heat_maps": maps,
    }
