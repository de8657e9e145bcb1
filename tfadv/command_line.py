"""How the binaries start, take their flags, and fail."""

import contextlib
import logging as standard_logging
import re
import signal
import sys
import typing
from collections.abc import Callable, Sequence

from absl import app, flags, logging

from tfadv import plugins
from tfadv.errors import InputError, TerminatedError
from tfadv.flags.generated import Flags
from tfadv.log import logger

_HELP = ("--help", "-help", "-h", "--helpfull")


def run(
    main: Callable, groups: Sequence[Flags], takes_arguments: bool = False
) -> typing.NoReturn:
    """Runs a binary: parses its flags, calls `main`, reports bad input.

    Bad input, a flag's or a file's, ends the process with code 2 and one
    line on stderr; SIGTERM in training with code 143 and one line. What
    `--plugin` names is imported first, so that it can add flags.

    Args:
        main: callable of the groups' settings, and of the list of arguments
            that are not flags.
        groups: the flags that the binary has besides `--plugin`.
        takes_arguments: whether `main` takes that list.
    """
    # absl shows the docstring of `__main__`, which may be a console script.
    doc = sys.modules[main.__module__].__doc__
    sys.modules["__main__"].__doc__ = doc
    names = {}

    def fail(error):
        print(_line(error, names), file=sys.stderr)
        sys.exit(2)

    def parse(argv):
        if any(arg in _HELP for arg in argv[1:]):
            # absl's own parser prints the help and exits.
            return app.parse_flags_with_usage(
                ["--help" if arg == "-h" else arg for arg in argv]
            )
        try:
            _, *arguments = _parse(argv)
            if arguments and not takes_arguments:
                raise _bad_flag(f"{arguments[0]!r} is not a flag")
            settings = [group.read() for group in groups]
        except InputError as error:
            fail(error)
        if takes_arguments:
            settings.append(arguments)
        return settings

    def guarded(settings):
        # absl's own default has TensorFlow tell of every step of an export.
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)
        try:
            with _shown_log():
                main(*settings)
        except InputError as error:
            fail(error)
        except TerminatedError as error:
            print(error, file=sys.stderr)
            # As of a process that SIGTERM has killed.
            sys.exit(128 + signal.SIGTERM)

    _define_plugin(flags.FLAGS, module_name=sys.argv[0])
    try:
        for plugin in _plugins(sys.argv):
            plugins.load(plugin)
        for group in groups:
            group.define()
            names |= group.names()
    except InputError as error:
        fail(error)
    app.run(guarded, flags_parser=parse)


def plugin_flags() -> str:
    """Writes the `--plugin` flags of this process, as a flagfile has them."""
    loaded = map(plugins.absolute, flags.FLAGS.plugin)
    return "".join(f"--plugin={name}\n" for name in loaded)


def _define_plugin(values, **options):
    flags.DEFINE_multi_string(
        "plugin",
        [],
        "A module, or a .py file, that registers objectives and methods.",
        values,
        **options,
    )


def _plugins(argv):
    """Finds the `--plugin` flags, in flagfiles as well, before the others."""
    values = flags.FlagValues()
    values.set_gnu_getopt(True)
    _define_plugin(values)
    # What is wrong is told when all flags are parsed.
    with contextlib.suppress(flags.Error, UnicodeDecodeError):
        values(argv, known_only=True)
    return values["plugin"].value


def _parse(argv):
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        text = str(error).removeprefix("flag ").removeprefix("ERROR:: ")
        # absl shows the arguments of some errors.
        text = re.sub(r"\('(.+)', .*\)", r"\1", text)
        raise _bad_flag(text.removesuffix(".")) from error
    except UnicodeDecodeError as error:
        named = " ".join(arg for arg in argv if "flagfile" in arg)
        raise _bad_flag(f"{named}: the file is not UTF-8 text") from error


def _bad_flag(problem):
    return InputError("bad-flag", problem, "--help lists all flags")


def _line(error, names):
    """Writes an error as a line that names flags.

    Args:
        error: `InputError`.
        names: dict, the flags of paths of settings.
    """

    def is_flag(name):
        return names.get(name, name) in flags.FLAGS

    def shown(name):
        return f"--{names.get(name, name)}" if is_flag(name) else f"`{name}`"

    def show_value(value):
        several = isinstance(value, tuple | list)
        return ",".join(map(str, value)) if several else str(value)

    if error.argument is not None and not is_flag(error.argument):
        # Not the user's argument, but something of its value.
        where = "" if error.value is None else f"{show_value(error.value)}: "
        error = InputError(error.code, where + error.problem, error.remedy)
    return f"error[{error.code}]: {error.message(shown, show_value)}"


@contextlib.contextmanager
def _shown_log():
    """Shows the library's messages on stderr."""
    handler = standard_logging.StreamHandler()
    handler.setFormatter(standard_logging.Formatter("%(message)s"))
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(standard_logging.INFO)
    # absl would show them once more.
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
