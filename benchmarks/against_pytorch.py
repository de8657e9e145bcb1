"""Measures updates against plain PyTorch: fine-tuning, FreeLB, CARL and RAR.

python -m benchmarks.against_pytorch
python -m benchmarks.against_pytorch --short

The peers are those of benchmarks/torch_peers.py, in float32. Each system has
a process of its own; they take turns. Needs PyTorch and transformers.
"""

import gc
import statistics

from tqdm import tqdm

from benchmarks import measure, sizes

MODULE = "benchmarks.against_pytorch"
FLOAT32 = "tfadv, float32"
CONTRAST = "CARL's contrast alone"
SGEMM = "sgemm"
# Our name and the peer's, and the most that our time may be of the peer's.
UPDATES = {
    "plain": ("plain", "plain", 0.85),
    "FreeLB": ("FreeLB", "FreeLB", 0.85),
    "CARL": ("CARL, m sampled", "CARL", 0.35),
    "RAR": ("RAR", "RAR", 0.8),
    CONTRAST: ("CARL, m sampled", "CARL", None),
}
# And a FreeLB update of ours of our plain one.
FREELB_AIM = 3.0
# Matrix products there and back in one call.
PRODUCTS = 10


def main():
    parser = measure.make_parser(__doc__)
    sizes.add_encoder_flag(parser)
    sizes.add_update_flags(parser)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--warmup", type=int, default=2, help="calls before those that count"
    )
    parser.add_argument(
        "--updates", nargs="+", default=tuple(UPDATES), choices=tuple(UPDATES)
    )
    short = {"batch": 4, "repeats": 2, "warmup": 1}
    options = measure.parse(parser, short)
    if options.only:
        serve(options)
        return
    print(describe(options), flush=True)
    seconds, rate = measure_all(options)
    print(f"\n{tables(seconds, rate, options)}")


def describe(options):
    """Tells the sizes of what is measured."""
    return (
        f"{sizes.describe_encoder(options.encoder)}; {options.batch} texts x "
        f"{options.tokens} tokens; FreeLB: n = {options.steps}, gamma = "
        f"{options.gamma}; CARL: two banks of {options.examples:,} rows, m = "
        f"{options.negatives:,}; median of {options.repeats} in turns, after "
        f"{options.warmup} to warm up."
    )


def measure_all(options):
    """Measures all updates, one after the other.

    Returns:
        dict of dicts: by the updates' names, by the systems', the median
        seconds; and the operations a second of the machine's sgemm.
    """
    seconds = {}
    with measure.workers(MODULE, [*measure.OURS, measure.PEER]) as workers:
        bar = tqdm(options.updates, "updates")
        for name in bar:
            bar.set_postfix_str(name)
            measure.in_turns(workers, [{"update": name, "prepare": True}])
            seconds[name] = medians(workers, name, options.repeats)
        ours = {FLOAT32: workers[FLOAT32]}
        measure.in_turns(ours, [{"update": SGEMM, "prepare": True}])
        sgemm = medians(ours, SGEMM, max(options.repeats, 5))[FLOAT32]
    return seconds, sgemm_flops(options) / sgemm


def medians(workers, name, repeats):
    """Returns the median time of an update, by the workers' names."""
    answers = measure.in_turns(workers, [{"update": name}] * repeats)
    return {name: statistics.median(times) for name, times in answers.items()}


def sgemm_flops(options):
    """Counts the operations of the products that `make_sgemm` makes."""
    wanted = sizes.ENCODERS[options.encoder]
    rows = options.batch * options.tokens
    return PRODUCTS * 2 * 2 * rows * wanted.hidden * wanted.intermediate


def tables(seconds, rate, options):
    """Lays out what was measured."""
    rows = []
    for name, measured in seconds.items():
        for system in measured:
            plain = seconds.get("plain", {}).get(system)
            aim = UPDATES[name][2] if system == FLOAT32 else None
            rows.append(
                [
                    name,
                    system,
                    measured[system] / measured[measure.PEER],
                    None if aim is None else f"at most {aim}",
                    None if plain is None else measured[system] / plain,
                    f"at most {FREELB_AIM}"
                    if (name, system) == ("FreeLB", FLOAT32)
                    else None,
                ]
            )
    columns = ["update", "system", "of PyTorch's time", "aim"]
    columns += ["of its own plain step's", "aim"]
    parts = [measure.table(columns, rows)]
    if "plain" in seconds:
        flops = {
            system: sizes.step_flops(
                sizes.ENCODERS[options.encoder],
                options.batch,
                options.tokens,
                pooled_only=system != measure.PEER,
            )
            for system in seconds["plain"]
        }
        shares = [
            [system, flops[system] / 1e9, flops[system] / measured / rate]
            for system, measured in seconds["plain"].items()
        ]
        parts.append(
            "The matrix products of the plain step (forward, and twice that "
            "backward; ours compute the last layer for the first token alone, "
            "but for keys and values), and their rate as a share "
            "of this machine's sgemm, the products of "
            f"{options.batch * options.tokens} rows with the feed-forward "
            "layer's matrices and back, in float32:"
        )
        columns = ["plain step", "GFLOP", "of sgemm's rate"]
        parts.append(measure.table(columns, shares))
    units = ", ".join(
        f"{name} {measured[measure.PEER]:.2f} s"
        for name, measured in seconds.items()
    )
    parts.append(f"1.00 of PyTorch's time here: {units}.")
    return "\n\n".join(parts)


def serve(options):
    """Makes the updates that are asked for, and tells how long they take."""
    is_peer = options.only == measure.PEER
    make = torch_maker(options) if is_peer else our_maker(options)
    known = {}

    def answer(update, prepare=False):
        if prepare:
            # One at a time: two banks are enough.
            known.clear()
            gc.collect()
            known[update] = make(update)
            for _ in range(options.warmup):
                known[update]()
        return measure.timed(known[update])

    measure.answer(answer)


def our_maker(options):
    """Returns a callable from an update's name to ours."""
    from tfadv import startup

    startup.import_tensorflow()
    import tensorflow as tf

    from benchmarks import updates

    # One update after the other is traced; TensorFlow takes it for one.
    tf.get_logger().setLevel("ERROR")

    options.precision = measure.OURS[options.only]

    def make(name):
        if name == SGEMM:
            return make_sgemm(options)
        if name == CONTRAST:
            return updates.make_part(UPDATES[name][0], options)
        return updates.make_update(UPDATES[name][0], options)

    return make


def torch_maker(options):
    """Returns a callable from an update's name to the peer's."""
    from benchmarks import torch_peers

    torch_peers.use_all_cores()

    def make(name):
        if name == CONTRAST:
            return torch_peers.make_part(UPDATES[name][1], options)
        return torch_peers.make_update(UPDATES[name][1], options)

    return make


def make_sgemm(options):
    """Returns products of the largest shapes that occur in a step."""
    import tensorflow as tf

    wanted = sizes.ENCODERS[options.encoder]
    shape = [options.batch * options.tokens, wanted.hidden]
    rows = tf.random.normal(shape)
    # The products neither grow nor vanish.
    wide, narrow = (
        tf.Variable(tf.random.normal(shape, stddev=shape[0] ** -0.5))
        for shape in (
            [wanted.hidden, wanted.intermediate],
            [wanted.intermediate, wanted.hidden],
        )
    )

    @tf.function(autograph=False)
    def products():
        found = rows
        for _ in range(PRODUCTS):
            found = tf.matmul(tf.matmul(found, wide), narrow)
        return found

    return lambda: products()[0, 0].numpy()


if __name__ == "__main__":
    main()
