"""Systems in processes of their own, measured in turns; tables of ratios.

A process that waits for its turn does nothing: the threads of a library that
wait actively after a call take no time of the next system.
"""

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import time

from tqdm import tqdm

from tfadv import markdown

PEER = "PyTorch"
# Our own systems, each with its precision.
OURS = {"tfadv, float32": "float32", "tfadv, bfloat16": "mixed_bfloat16"}
# Seconds until threads that wait actively have gone to sleep.
_REST = 0.3
# What an answer's line begins with.
_ANSWER = "answer: "


class Worker:
    """A system in a process of its own, which answers one question at a time.

    Args:
        module: string, the benchmark that is run again with `--only=system`.
            There, `answer` takes the questions.
        system: string.
        arguments: list of strings, its other flags; `None` for this process's.
    """

    def __init__(self, module, system, arguments=None):
        self.system = system
        arguments = sys.argv[1:] if arguments is None else arguments
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments, f"--only={system}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "TRANSFORMERS_VERBOSITY": "error",
            },
        )

    def ask(self, **question):
        """Waits for the answer to a question.

        Raises:
            RuntimeError: the process has ended instead.
        """
        answered = ""
        try:
            print(json.dumps(question), file=self._process.stdin, flush=True)
            # What libraries print is no answer.
            for line in self._process.stdout:
                if line.startswith(_ANSWER):
                    answered = line.removeprefix(_ANSWER)
                    break
        except BrokenPipeError:
            pass
        if not answered:
            raise RuntimeError(
                f"{self.system} ended with code {self._process.wait()}"
            )
        return json.loads(answered)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        # Read to its end, the input ends the process.
        self._process.stdin.close()
        self._process.wait()


@contextlib.contextmanager
def workers(module, systems, arguments=None):
    """Gives a dict of `Worker`s, one for each system."""
    with contextlib.ExitStack() as stack:
        yield {
            system: stack.enter_context(Worker(module, system, arguments))
            for system in systems
        }


def answer(function):
    """Answers the questions of this process's `Worker`, until there are none.

    Args:
        function: callable of a question's entries, as keyword arguments, that
            returns what JSON can hold.
    """
    for line in sys.stdin:
        answered = json.dumps(function(**json.loads(line)))
        print(f"\n{_ANSWER}{answered}", flush=True)


def answer_batches(make, options):
    """Answers how long a system takes for its next batches.

    The first question brings the sentences' `lengths`; what it is answered is
    the start, a first batch of middle width, and `width`: the tokens a
    sentence that are computed, over all batches. Where fewer are wanted than
    there are, those measured lie at equal distances in the order of widths.

    Args:
        make: callable of the options and the lengths that returns a list of
            all batches: each one's sentences, and the tokens a sentence that
            are computed of it; and a callable that makes an update or an
            attack of it.
        options: `argparse.Namespace`.
    """
    calls = None

    def found(batches=1, lengths=None):
        nonlocal calls
        start = time.perf_counter()
        answered = {}
        if lengths is not None:
            every = sorted(make(options, lengths), key=lambda call: call[0][1])
            middle = every[len(every) // 2]
            number = min(options.batches or len(every), len(every))
            chosen = [every[i] for i in evenly(number, len(every))]
            calls = itertools.chain([middle], chosen)
            shapes = [shape for shape, _ in every]
            answered["width"] = _tokens(shapes) / _sentences(shapes)
        shapes = []
        for shape, call in itertools.islice(calls, batches):
            call()
            shapes.append(shape)
        return {
            **answered,
            "seconds": time.perf_counter() - start,
            "sentences": _sentences(shapes),
            "tokens": _tokens(shapes),
        }

    answer(found)


def evenly(number, whole):
    """Returns the places of some of a sequence, at equal distances."""
    return [int((i + 0.5) * whole / number) for i in range(number)]


def _sentences(shapes):
    return sum(rows for rows, _ in shapes)


def _tokens(shapes):
    return sum(rows * width for rows, width in shapes)


def in_turns(workers, questions):
    """Asks all workers the same questions, one worker after the other.

    So a busy moment of the machine hits all alike.

    Args:
        workers: dict of `Worker`s.
        questions: iterable of dicts.

    Returns:
        dict of lists of answers, by the workers' names.
    """
    answers = {name: [] for name in workers}
    for question in questions:
        for name, worker in workers.items():
            time.sleep(_REST)
            answers[name].append(worker.ask(**question))
    return answers


def compare_batches(module, lengths, batches, aims, at_once=5, arguments=None):
    """Measures our systems and the peer on batches of sentences.

    Args:
        module: string, a benchmark whose workers use `answer_batches`.
        lengths: list of ints, the sentences' lengths in tokens.
        batches: int, for each system.
        aims: dict, as in `batches_report`.
        at_once: int, the batches of a turn.
        arguments: list of strings, as of `Worker`.

    Returns:
        string, the report.
    """
    with workers(module, [*OURS, PEER], arguments) as systems:
        first = {name: w.ask(lengths=lengths) for name, w in systems.items()}
        totals = batches_in_turns(systems, batches, at_once)
    return batches_report(totals, first, aims)


def batches_in_turns(workers, batches, at_once):
    """Has all workers train on or attack batches, some at a time.

    Args:
        workers: dict of `Worker`s, which answer how many `batches` they are
            to make with the sums over them.
        batches: int, for each.
        at_once: int, the batches of a turn.

    Returns:
        dict of dicts, the sums over all batches, by the workers' names.
    """
    counts = [
        min(at_once, batches - first) for first in range(0, batches, at_once)
    ]
    bar = tqdm(counts, f"{at_once} batches each")
    answers = in_turns(workers, ({"batches": count} for count in bar))
    return {
        name: {
            key: sum(answer[key] for answer in answered) for key in answered[0]
        }
        for name, answered in answers.items()
    }


def batches_report(totals, first, aims):
    """Lays out what systems take for all batches, a sentence for a sentence.

    That is the time of a token in the batches measured, times the tokens of
    all.

    Args:
        totals: dict of dicts, as `batches_in_turns` returns them.
        first: dict of dicts, the answers to the first questions.
        aims: dict, the most that some systems' time may be of the peer's.

    Returns:
        string.
    """
    widths = {name: found["width"] for name, found in first.items()}
    seconds = {
        name: total["seconds"] / total["tokens"] * widths[name]
        for name, total in totals.items()
    }
    rows = []
    for name in totals:
        aim = f"at most {aims[name]}" if name in aims else None
        time_share = seconds[name] / seconds[PEER]
        rows.append([name, time_share, aim, widths[name] / widths[PEER]])
    columns = ["system", "of PyTorch's time", "aim", "of its tokens"]
    all_tokens = ", ".join(f"{n} {width:.1f}" for n, width in widths.items())
    measured = ", ".join(
        f"{name} {total['tokens'] / total['sentences']:.1f}"
        for name, total in totals.items()
    )
    starts = ", ".join(
        f"{name} {answer['seconds']:.1f} s" for name, answer in first.items()
    )
    return (
        f"{table(columns, rows)}\n\nTokens a sentence that are computed: "
        f"{all_tokens}; in the batches measured {measured}. Not in the times: "
        f"imports, building, tracing and the first batch: {starts}. 1.00 of "
        f"PyTorch's time here: {seconds[PEER]:.3f} s a sentence."
    )


def median_in_turns(functions, repeats):
    """Calls functions of this process in turns.

    Args:
        functions: dict of callables.
        repeats: int.

    Returns:
        dict of each function's median time.
    """
    times = {name: [] for name in functions}
    for _ in tqdm(range(repeats), "rounds"):
        for name, function in functions.items():
            times[name].append(timed(function))
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def timed(function):
    """Returns the seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def table(columns, rows):
    """Lays out a Markdown table.

    Args:
        columns: list of strings.
        rows: list of lists: strings as they are, numbers with three digits
            that count, `None` as an empty cell.

    Returns:
        string.
    """
    return markdown.table(
        columns, [[_cell(value) for value in row] for row in rows]
    )


def _cell(value):
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def make_parser(doc):
    """Returns a parser whose help shows the module's text and all defaults."""
    return argparse.ArgumentParser(
        description=doc.split("\n")[0],
        epilog="\n".join(doc.split("\n")[1:]),
        formatter_class=_HelpFormatter,
    )


def parse(parser, short):
    """Parses the flags, with other defaults where `--short` is given.

    Args:
        parser: `argparse.ArgumentParser`.
        short: dict of these defaults.

    Returns:
        `argparse.Namespace`; `only` is the system to be, or `None`.
    """
    changes = ", ".join(f"{name} {value}" for name, value in short.items())
    parser.add_argument(
        "--short",
        action="store_true",
        help=f"takes a minute or two: {changes}, unless given",
    )
    parser.add_argument("--only", help=argparse.SUPPRESS)
    if parser.parse_known_args()[0].short:
        parser.set_defaults(**short)
    return parser.parse_args()


class _HelpFormatter(
    argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter
):
    pass
