"""Measures how an update's time grows with tokens, batch, n, m and N.

python -m benchmarks.growth
python -m benchmarks.growth --short

One size grows, the others stay at their base. The table has the exponent e
of the power law, time = c * size^e, that fits the times best: 1 is in
proportion, 0 not at all. Writes growth.png, the times over those at the
smallest size.
"""

import copy
import pathlib

import numpy as np

from benchmarks import measure, sizes

UPDATE, PART = "CARL, m sampled", "CARL's contrast alone"
# What grows: the flag, its name, the update, the sizes, in the short version.
SERIES = (
    ("tokens", "tokens of a text", "FreeLB", (16, 32, 64, 128, 256)),
    ("batch", "texts of a batch", "FreeLB", (4, 8, 16, 32, 64)),
    ("steps", "n, passes", "FreeLB", (1, 2, 3, 5, 8)),
    ("negatives", "m, negatives", UPDATE, (500, 1000, 2000, 4000, 8000)),
    ("examples", "N, rows of a bank", UPDATE, (20000, 40000, 80000, 160000)),
    ("negatives", "m", PART, (500, 1000, 2000, 4000, 8000)),
    ("examples", "N", PART, (20000, 40000, 80000, 160000)),
)
FILE = "growth.png"


def main():
    parser = measure.make_parser(__doc__)
    sizes.add_encoder_flag(parser, default="small")
    sizes.add_update_flags(parser)
    parser.set_defaults(batch=16, tokens=32, examples=20000, negatives=4000)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--every", type=int, default=1, help="of the sizes: 2 for every second"
    )
    parser.add_argument(
        "--divide", type=int, default=1, help="all sizes that grow, for a look"
    )
    parser.add_argument(
        "--output_dir",
        type=pathlib.Path,
        default="benchmarks",
        help=f"of {FILE}",
    )
    options = measure.parse(parser, short={"repeats": 3, "every": 2})
    from tfadv import startup

    startup.import_tensorflow()
    import tensorflow as tf

    # One function after the other is traced; TensorFlow takes it for one.
    tf.get_logger().setLevel("ERROR")
    print(
        f"{sizes.describe_encoder(options.encoder)}; base: {options.batch} "
        f"texts x {options.tokens} tokens, n = {options.steps}, m = "
        f"{options.negatives:,}, N = {options.examples:,}; median of "
        f"{options.repeats} in turns",
        flush=True,
    )
    found = [measure_series(*series, options) for series in SERIES]
    print(f"\n{report(found)}")
    options.output_dir.mkdir(parents=True, exist_ok=True)
    draw(found, options.output_dir / FILE)


def measure_series(flag, name, update, values, options):
    """Measures an update at growing sizes.

    Returns:
        The series' name, its sizes and the median times.
    """
    from benchmarks import updates

    values = values[:: options.every]
    values = [max(1, value // options.divide) for value in values]
    functions = {}
    for value in values:
        changed = copy.copy(options)
        setattr(changed, flag, value)
        if update == PART:
            functions[value] = updates.make_part(UPDATE, changed)
        else:
            functions[value] = updates.make_update(update, changed)
        # Traces.
        functions[value]()
    medians = measure.median_in_turns(functions, options.repeats)
    of = "FreeLB" if update == "FreeLB" else update.split(",")[0]
    return f"{name}: {of}", list(medians), list(medians.values())


def exponent(values, seconds):
    """Fits a power law by least squares on logarithms.

    Args:
        values: list of sizes.
        seconds: list of times.

    Returns:
        float, the exponent.
    """
    return float(np.polyfit(np.log(values), np.log(seconds), 1)[0])


def report(found):
    """Lays out the series: the largest size over the smallest, the exponent.

    Args:
        found: list of names, sizes and times, as `measure_series` returns.

    Returns:
        string.
    """
    rows = [
        [
            name,
            f"{values[0]:,} to {values[-1]:,}",
            values[-1] / values[0],
            seconds[-1] / seconds[0],
            f"{exponent(values, seconds):.2f}",
        ]
        for name, values, seconds in found
    ]
    columns = ["what grows", "from, to", "by", "time grows by", "exponent"]
    return measure.table(columns, rows)


def draw(found, path):
    """Draws the series over their smallest sizes, both axes logarithmic."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for (name, values, seconds), marker in zip(found, "osD^vx+", strict=False):
        axes.plot(
            np.divide(values, values[0]),
            np.divide(seconds, seconds[0]),
            marker=marker,
            label=f"{name} ({values[0]:,} to {values[-1]:,})",
        )
    most = max(values[-1] / values[0] for _, values, _ in found)
    axes.plot([1, most], [1, most], "k:", linewidth=1, label="in proportion")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("size, over the smallest")
    axes.set_ylabel("time of an update, over that at the smallest")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150, facecolor="white")


if __name__ == "__main__":
    main()
