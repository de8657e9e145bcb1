"""How the binaries start, fail and remember their flags."""

import math
import pathlib
import signal
import sys

from absl import app, flags, logging

from tfadv.errors import InputError, TerminatedError


def run(main, flag_modules, takes_arguments=False):
    """Runs a binary: parses its flags, calls `main`, reports bad input.

    Bad input, a flag's or a file's, ends the process with code 2 and one
    line on stderr, SIGTERM in training with code 143 and one line.

    Args:
        main: callable without arguments, or of the list of arguments that
            are not flags.
        flag_modules: the modules of `tfadv.flags` whose flags `--help` lists.
        takes_arguments: bool, whether `main` takes that list.
    """
    # absl shows the docstring of `__main__`, which may be a console script.
    doc = sys.modules[main.__module__].__doc__
    sys.modules["__main__"].__doc__ = doc
    # absl lists the flags of a binary's own module, and of those it adopts.
    for module in flag_modules:
        for flag in flags.FLAGS.flags_by_module_dict()[module.__name__]:
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)

    def guarded(argv):
        arguments = argv[1:]
        if arguments and not takes_arguments:
            fail(f"{arguments[0]!r} is not a flag; --help lists all flags")
        # absl's own default has TensorFlow tell of every step of an export.
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)
        try:
            main(arguments) if takes_arguments else main()
        except InputError as error:
            fail(error)
        except TerminatedError as error:
            print(error, file=sys.stderr)
            # As of a process that SIGTERM has killed.
            sys.exit(128 + signal.SIGTERM)

    app.run(guarded, flags_parser=_parse)


def fail(error):
    """Ends the process with code 2 and one line on stderr."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(2)


def _parse(argv):
    if any(arg in ("--help", "-help", "-h", "--helpfull") for arg in argv[1:]):
        # absl's own parser prints the help and exits.
        return app.parse_flags_with_usage(
            ["--help" if arg == "-h" else arg for arg in argv]
        )
    try:
        arguments = flags.FLAGS(argv)
    except flags.Error as error:
        fail(f"{error}; --help lists all flags")
    except UnicodeDecodeError as error:
        named = " ".join(arg for arg in argv if "flagfile" in arg)
        fail(f"{named}: the file is not UTF-8 text ({error})")
    # absl's bounds let NaN through.
    for name in flags.FLAGS:
        value = flags.FLAGS[name].value
        if isinstance(value, float) and not math.isfinite(value):
            fail(f"--{name}={value}: expected a finite number")
    return arguments


def flagfile_text(left_out):
    """Writes the flags of this process as a flagfile.

    Args:
        left_out: names of flags that are not written.

    Returns:
        string: a line a flag that has a value.
    """
    lines = []
    for module, defined in flags.FLAGS.flags_by_module_dict().items():
        if not module.startswith("tfadv."):
            continue
        lines += [
            flag.serialize()
            for flag in defined
            if flag.value is not None and flag.name not in left_out
        ]
    return "\n".join(sorted(lines)) + "\n"


def read_flagfile(path, names):
    """Sets flags to what a run's `flags.cfg` has for them.

    Args:
        path: path of the file.
        names: the flags to take; others in the file are passed over.

    Raises:
        InputError: the file is missing or cannot be read.
    """
    path = pathlib.Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problem = f"cannot be read ({error})"
        if isinstance(error, FileNotFoundError):
            problem = "is missing"
        raise InputError(
            f"{path} {problem}; say with --dataset or the file flags which "
            "data to read"
        ) from error
    wanted = tuple(f"--{name}=" for name in names)
    for line in lines:
        if line.startswith(wanted):
            name, _, value = line.removeprefix("--").partition("=")
            flags.FLAGS[name].parse(value)
