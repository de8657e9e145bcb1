"""Measures updates of all methods, on one batch, in time and in memory.

python -m benchmarks.training_step
python -m benchmarks.training_step --encoder=all-minilm-l6-v2 --tokens=32

Times are taken in turns in one process. Memory is the peak of a process that
makes one update and nothing else. The parts are what an objective alone costs:
its forward and backward computation on given representations, and for CARL
the bank's update.
"""

import sys

from tqdm import tqdm

from benchmarks import measure, sizes
from tfadv import startup

MODULE = "benchmarks.training_step"
METHODS = (
    "plain",
    "FreeLB",
    "CARL, m sampled",
    "CARL, m = all",
    "RAR, dense logits",
    "RAR",
    "CARL + RAR",
)
PARTS = ("CARL, m sampled", "CARL, m = all", "RAR, dense logits", "RAR")
SHORT = {
    "encoder": "small",
    "tokens": 32,
    "methods": ("plain", "FreeLB", "CARL, m sampled", "RAR"),
}


def main():
    parser = measure.make_parser(__doc__)
    sizes.add_encoder_flag(
        parser, "; or a name or folder as tools.train takes it"
    )
    sizes.add_update_flags(parser)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    options = measure.parse(parser, SHORT)
    startup.import_tensorflow()
    if options.only:
        measure.answer(lambda: peak_memory(options))
        return
    print(
        f"{sizes.describe_encoder(options.encoder)}, {options.precision}; "
        f"{options.batch} texts x {options.tokens} tokens, n = "
        f"{options.steps}, gamma = {options.gamma}, banks of "
        f"{options.examples:,} rows, m = {options.negatives:,}; median of "
        f"{options.repeats} in turns",
        flush=True,
    )
    base = "FreeLB" if "FreeLB" in options.methods else options.methods[0]
    seconds = time_table(base, options)
    parts_table(base, seconds, options)
    memory_table(base, options)


def time_table(base, options):
    """Prints what an update of each method takes, and returns the base's."""
    from benchmarks import updates

    functions, first = {}, {}
    for name in tqdm(options.methods, "tracing"):
        functions[name] = updates.make_update(name, options)
        first[name] = measure.timed(functions[name])
    medians = measure.median_in_turns(functions, options.repeats)
    columns = ["update", "seconds", f"ratio to {base}", "first, with tracing"]
    rows = [
        [name, median, median / medians[base], first[name]]
        for name, median in medians.items()
    ]
    print(f"\n{measure.table(columns, rows)}", flush=True)
    return medians[base]


def parts_table(base, seconds, options):
    """Prints what the objectives alone cost, in time and in memory."""
    from benchmarks import updates

    names = [name for name in PARTS if name in options.methods]
    parts = {name: updates.make_part(name, options) for name in names}
    for part in parts.values():
        part()
    medians = measure.median_in_turns(parts, max(options.repeats, 5))
    del parts
    nothing = in_a_process("part: nothing")
    columns = ["part", "seconds", f"% of {base}'s update", "peak MiB"]
    rows = [
        [
            name,
            f"{median:.3f}",
            100 * median / seconds,
            in_a_process(f"part: {name}") - nothing,
        ]
        for name, median in medians.items()
    ]
    print(f"\n{measure.table(columns, rows)}", flush=True)


def memory_table(base, options):
    """Prints the peak memory of a process that makes one update."""
    memory = {
        name: in_a_process(name) for name in tqdm(options.methods, "memory")
    }
    columns = ["update", "peak MiB", f"ratio to {base}"]
    rows = [[name, peak, peak / memory[base]] for name, peak in memory.items()]
    print(f"\n{measure.table(columns, rows)}")


def in_a_process(name):
    """Returns the peak memory, in MiB, of a process that does one thing."""
    with measure.Worker(MODULE, name, sys.argv[1:]) as worker:
        return worker.ask()


def peak_memory(options):
    """Does what this process is for, and returns its peak memory in MiB."""
    from benchmarks import updates
    from tfadv.training import callbacks

    name = options.only
    if name == "part: nothing":
        updates.make_encoder(options)
    elif name.startswith("part: "):
        updates.make_part(name.removeprefix("part: "), options)()
    else:
        updates.make_update(name, options)()
    return sum(callbacks.peak_memory().values()) / 2**20


if __name__ == "__main__":
    main()
