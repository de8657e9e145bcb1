"""Measures updates over sentences of SST-2's real lengths, batching included.

python -m benchmarks.epoch
python -m benchmarks.epoch --short

FreeLB, CARL and RAR. Ours: `training_batches`, whose batches hold texts of
like length, an encoder that leaves padding out, and one traced function for
all shapes. The peer: random batches, each padded to its longest sentence. With
fewer batches than an epoch has, both make as many of the whole epoch's, for
fewer sentences would bucket worse: those at equal distances in the order of
the tokens of a sentence. The time of their tokens stands for that of all.
Needs PyTorch and transformers.
"""

import functools
import sys

from benchmarks import lengths, measure, sizes

MODULE = "benchmarks.epoch"
# Our name of an update, and the most that our time may be of the peer's.
UPDATES = {
    "FreeLB": ("FreeLB", {"tfadv, float32": 0.35, "tfadv, bfloat16": 0.22}),
    "CARL": ("CARL, m sampled", {"tfadv, float32": 0.35}),
    "RAR": ("RAR", {"tfadv, float32": 0.8}),
}


def main():
    parser = measure.make_parser(__doc__)
    sizes.add_encoder_flag(parser)
    sizes.add_update_flags(parser, tokens=False)
    lengths.add_flags(parser, sentences=4000)
    parser.add_argument(
        "--batches", type=int, help="of each system; None: a whole epoch"
    )
    parser.add_argument(
        "--updates", nargs="+", default=tuple(UPDATES), choices=tuple(UPDATES)
    )
    options = measure.parse(parser, short={"batches": 4, "updates": ["FreeLB"]})
    if options.only:
        measure.answer_batches(
            our_batches if options.only in measure.OURS else torch_batches,
            options,
        )
        return
    drawn = lengths.draw(options)
    whole = -(-len(drawn) // options.batch)
    batches = min(options.batches or whole, whole)
    print(
        f"{sizes.describe_encoder(options.encoder)}; FreeLB: n = "
        f"{options.steps}, gamma = {options.gamma}; CARL: two banks of "
        f"{options.examples:,} rows, m = {options.negatives:,}; "
        f"{lengths.describe(drawn, options)}; {batches} of {whole} batches of "
        f"{options.batch}",
        flush=True,
    )
    for name in options.updates:
        # The workers, too, are told of one alone.
        arguments = [*sys.argv[1:], f"--updates={name}"]
        report = measure.compare_batches(
            MODULE, drawn, batches, UPDATES[name][1], arguments=arguments
        )
        print(f"\n{name}\n\n{report}", flush=True)


def our_batches(options, drawn):
    """Returns all batches: their sizes, and what updates on them."""
    from tfadv import startup

    startup.import_tensorflow()
    import tensorflow as tf

    from benchmarks import updates
    from tfadv.data import batching

    options.precision = measure.OURS[options.only]
    [name] = options.updates
    classifier = updates.make_classifier(UPDATES[name][0], options)
    sentences = updates.make_sentences(
        drawn, classifier.encoder.backbone.vocabulary_size, lengths.MAX_LENGTH
    )
    batches = batching.training_batches(sentences, options.batch, seed=0)

    @tf.function(input_signature=batches.element_spec, autograph=False)
    def update(x, y):
        return classifier.train_step((x, y))

    return [
        (updates.computed(x), functools.partial(update, x, y))
        for x, y in batches
    ]


def torch_batches(options, drawn):
    """Returns all batches: their sizes, and what updates on them."""
    from benchmarks import torch_peers

    torch_peers.use_all_cores()
    [name] = options.updates
    step = torch_peers.make_step(name, options)
    wanted = sizes.ENCODERS[options.encoder]
    return [
        (inputs["input_ids"].shape, functools.partial(step, inputs, labels))
        for inputs, labels in torch_peers.make_loader(
            drawn, wanted.vocabulary, options.batch
        )
    ]


if __name__ == "__main__":
    main()
