"""The study's tables, from its runs' figures."""

import statistics

from scipy import stats

from tfadv.markdown import table
from tfadv.runs import methods

# Which methods are compared with which, over the same seeds.
REFERENCE = "freelb"


def markdown(rows):
    """Lays out the study's report.

    Args:
        rows: list of dicts, the lines of runs.jsonl.

    Returns:
        string.
    """
    names = list(dict.fromkeys(row["dataset"] for row in rows))
    parts = ["# The study's figures", settings(rows)]
    for name in names:
        of_name = [row for row in rows if row["dataset"] == name]
        parts.append(f"## {name}")
        parts += tables(of_name)
    if len(names) > 1 and REFERENCE in (values := by_method(rows)):
        parts += ["## Both", difference_table(values)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def section(title, header, rows, note=""):
    """Lays out a table with a title and a note."""
    return f"**{title}**\n\n{table(header, rows)}\n\n{note}".strip()


def settings(rows):
    """Says what was measured, and how."""
    lines = []
    for name in dict.fromkeys(row["dataset"] for row in rows):
        row = next(row for row in rows if row["dataset"] == name)
        seeds = sorted({row["seed"] for row in rows if row["dataset"] == name})
        attack = row["attack"]
        lines.append(
            f"- {name}: {row['train_examples']:,} training examples, "
            f"{row['steps']} updates, seeds {', '.join(map(str, seeds))}; "
            f"attacks on {row['attacked_examples']} test examples, "
            f"k-PGD with {attack['steps']} steps in {attack['norm']} balls."
        )
    return "\n".join(lines)


def measures(rows):
    """Names what is compared between methods, and how to read it in a row."""
    epsilons = list(rows[0]["epsilons"])
    found = {
        "clean": lambda row: row["test"],
        **{
            f"epsilon {e}": lambda row, e=e: row["epsilons"][e]["accuracy"]
            for e in epsilons
        },
    }
    if all("hotflip" in row for row in rows):
        found["HotFlip"] = lambda row: row["hotflip"]
    return found


def tables(rows):
    """Builds one dataset's tables."""
    values = by_method(rows)
    found = [accuracy_table(values)]
    if REFERENCE in values:
        found.append(difference_table(values))
    found.append(distance_table(values))
    if any("texts" in row for row in rows):
        found.append(text_table(values))
    return found


def by_method(rows):
    """Sorts rows by method, and by what pairs them with another method's."""
    there = {row["method"] for row in rows}
    return {
        method: {
            (row["dataset"], row["seed"]): row
            for row in rows
            if row["method"] == method
        }
        for method in methods.registered()
        if method in there
    }


def accuracy_table(values):
    """Tables 2 and 5: accuracy, clean and under attack."""
    columns = measures(_first(values))
    body = [
        [
            method,
            *(
                _mean([100 * read(row) for row in runs.values()], ".1f")
                for read in columns.values()
            ),
        ]
        for method, runs in values.items()
    ]
    return section(
        "Accuracy in %: mean over the seeds (standard deviation)",
        ["method", *columns],
        body,
        "Clean: the whole test split.",
    )


def difference_table(values):
    """Differences from FreeLB with the same seed, and what they are worth."""
    columns = measures(_first(values))
    tests = {
        (method, name): difference(
            {seed: 100 * read(row) for seed, row in runs.items()},
            {seed: 100 * read(row) for seed, row in values[REFERENCE].items()},
        )
        for method, runs in values.items()
        if method != REFERENCE
        for name, read in columns.items()
    }
    adjusted = holm({key: test["p"] for key, test in tests.items()})
    body = [
        [
            method,
            *(
                _compared(tests[method, n], adjusted[method, n])
                for n in columns
            ),
        ]
        for method in values
        if method != REFERENCE
    ]
    return section(
        "Difference from FreeLB in points [95 % interval], p",
        ["method", *columns],
        body,
        "Paired t-test over the seeds, and data sets where there are several; "
        "p after Holm over the table.",
    )


def distance_table(values):
    """Table 4: how far the representations move."""
    epsilons = list(_first(values)[0]["epsilons"])
    columns = [(key, e) for key in ("cosine", "euclidean") for e in epsilons]
    body = [
        [
            method,
            *(
                _mean([r["epsilons"][e][key] for r in runs.values()], ".3f")
                for key, e in columns
            ),
        ]
        for method, runs in values.items()
    ]
    return section(
        "Between clean and attacked representations",
        ["method", *(f"{key}, epsilon {e}" for key, e in columns)],
        body,
    )


def text_table(values):
    """Table 6: reconstructed texts, on their own and the plain classifier."""
    columns = {
        "own, original": "prediction_before",
        "own, adversary": "prediction_after",
        "plain, original": "victim_before",
        "plain, adversary": "victim_after",
    }
    body = []
    for method, runs in values.items():
        texts = [row["texts"] for row in runs.values() if "texts" in row]
        if texts:
            cells = [
                _mean([100 * text[key] for text in texts], ".1f")
                for key in columns.values()
            ]
            changed = _mean([text["changed_tokens"] for text in texts], ".2f")
            body.append([method, *cells, changed])
    return section(
        "Accuracy in % on reconstructed texts",
        ["adversaries of", *columns, "tokens changed"],
        body,
        "k-PGD at epsilon 0.4, read back as text by RAR's head.",
    )


def difference(one, other):
    """Compares two methods over the seeds that both have.

    Args:
        one: dict of floats, by seed.
        other: the same, of the reference.

    Returns:
        dict: `mean` of the differences, `interval` of 95 % confidence and
        `p` of the paired t-test; the last two `None` for fewer than two
        seeds or differences that are all the same.
    """
    differences = [one[seed] - other[seed] for seed in one if seed in other]
    mean = statistics.fmean(differences)
    if len(set(differences)) < 2:
        return {"mean": mean, "interval": None, "p": None}
    test = stats.ttest_1samp(differences, 0.0)
    interval = test.confidence_interval(0.95)
    return {
        "mean": mean,
        "interval": (float(interval.low), float(interval.high)),
        "p": float(test.pvalue),
    }


def holm(p_values):
    """Adjusts p values for their number, after Holm 1979.

    Args:
        p_values: dict of floats; `None` stays.

    Returns:
        dict of the same keys.
    """
    known = sorted((p, key) for key, p in p_values.items() if p is not None)
    adjusted = dict.fromkeys(p_values)
    largest = 0.0
    for rank, (p, key) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[key] = largest
    return adjusted


def _first(values):
    return list(next(iter(values.values())).values())


def _mean(numbers, form):
    spread = statistics.stdev(numbers) if len(numbers) > 1 else 0.0
    return f"{statistics.fmean(numbers):{form}} ({spread:{form}})"


def _compared(test, adjusted):
    if test["interval"] is None:
        return f"{test['mean']:+.1f}"
    low, high = test["interval"]
    return f"{test['mean']:+.1f} [{low:+.1f}, {high:+.1f}], {adjusted:.3f}"
