"""Sizes of what is measured, and how much there is to compute in a step."""

import dataclasses

ALBERT_BASE = "albert-base"


@dataclasses.dataclass(frozen=True)
class EncoderSizes:
    """The sizes of an ALBERT encoder, whose layers share their weights."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    embedding: int
    vocabulary: int


ENCODERS = {
    ALBERT_BASE: EncoderSizes(12, 768, 12, 3072, 128, 30000),
    "small": EncoderSizes(4, 256, 4, 1024, 64, 5000),
    "tiny": EncoderSizes(2, 32, 2, 64, 16, 1000),
}
DROPOUT = 0.1


def add_encoder_flag(parser, names="", default=ALBERT_BASE):
    """Adds `--encoder`: names of `ENCODERS`, and others that are told."""
    sizes = ENCODERS[ALBERT_BASE]
    parser.add_argument(
        "--encoder",
        default=default,
        choices=None if names else tuple(ENCODERS),
        help=f"{ALBERT_BASE}: {sizes.layers} layers of {sizes.hidden}, random "
        f"weights; small, tiny: for a quick look{names}",
    )


def add_update_flags(parser, tokens=True):
    """Adds the sizes of an update of any method.

    Args:
        parser: `argparse.ArgumentParser`.
        tokens: bool, whether all texts have a number of tokens that is given.
    """
    parser.add_argument("--steps", type=int, default=3, help="n of FreeLB")
    parser.add_argument(
        "--gamma", type=float, default=0.0, help="random start of FreeLB"
    )
    parser.add_argument("--batch", type=int, default=32, help="texts")
    if tokens:
        parser.add_argument(
            "--tokens", type=int, default=64, help="of each text"
        )
    parser.add_argument(
        "--examples", type=int, default=67349, help="rows of CARL's banks"
    )
    parser.add_argument("--negatives", type=int, default=16000, help="m")
    parser.add_argument(
        "--bank_dtype", default="float32", help="of CARL's banks"
    )


def describe_encoder(name):
    """Tells an encoder's sizes in words."""
    if name not in ENCODERS:
        return name
    s = ENCODERS[name]
    return (
        f"{name} ({s.layers} layers of {s.hidden}, {s.heads} heads, "
        f"intermediate {s.intermediate}, embedding {s.embedding}, vocabulary "
        f"{s.vocabulary:,}, dropout {DROPOUT}, random weights)"
    )


def forward_flops(sizes, batch, tokens, classes=2, pooled_only=False):
    """Counts the operations of all matrix products of a forward pass.

    A product of `[a, b]` and `[b, c]` has 2abc.

    Args:
        sizes: `EncoderSizes`.
        batch: int, texts.
        tokens: int, of each text.
        classes: int.
        pooled_only: bool. Whether the last layer is computed for the first
            token alone, but for the keys and values.

    Returns:
        int.
    """
    rows = batch * tokens

    def layer(queries):
        # Query and output, key and value.
        projections = 2 * 2 * (queries + rows) * sizes.hidden**2
        # Queries by keys, weights by values.
        attention = 2 * 2 * queries * tokens * sizes.hidden
        feedforward = 2 * 2 * queries * sizes.hidden * sizes.intermediate
        return projections + attention + feedforward

    into_first_layer = 2 * rows * sizes.embedding * sizes.hidden
    pooler = 2 * batch * sizes.hidden**2
    head = 2 * batch * sizes.hidden * classes
    layers = (sizes.layers - 1) * layer(rows)
    layers += layer(batch if pooled_only else rows)
    return layers + into_first_layer + pooler + head


def step_flops(sizes, batch, tokens, classes=2, pooled_only=False):
    """Counts those of a training step, forward and backward.

    Backward there are two products for each: one for the gradient of either
    factor.
    """
    return 3 * forward_flops(sizes, batch, tokens, classes, pooled_only)
