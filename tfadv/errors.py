"""The errors that the user can mend."""

import re
from collections.abc import Callable, Mapping

# An argument's name, or the path of a setting.
_NAMES = re.compile(r"`([a-z_][a-z0-9_.]*)`")


class InputError(ValueError):
    """Bad input: a file, an argument or a folder is not as it must be.

    The message is one line that says what was expected, what was found and
    what to do. It names Python arguments, in backticks; the command line shows
    them as flags, adds the code, and exits with code 2. Library users catch the
    error as the `ValueError` it is.

    Args:
        code: string. A short name for this kind of problem, such as
            `"no-such-column"`. It stays when the wording changes: tests and
            programs look at it.
        problem: string. What was expected and what was found.
        remedy: string. What the user can do about it.
        argument: string. The name of the argument that is to blame, or `None`.
            A field of nested settings has its path:
            `"optimization.learning_rate"`.
        value: the argument's value; `None` leaves it out of the message.

    Example:

    ```python
    raise tfadv.InputError(
        "no-such-column",
        "expected a column 'text' in reviews.csv, found 'body', 'stars'",
        "name one of them with `text_column`",
        argument="text_column",
        value="text",
    )
    ```
    """

    def __init__(
        self,
        code: str,
        problem: str,
        remedy: str = "",
        *,
        argument: str | None = None,
        value: object = None,
    ):
        self.code = code
        self.problem = problem
        self.remedy = remedy
        self.argument = argument
        self.value = value
        super().__init__(code, problem, remedy)

    def blaming(
        self, argument: str | None, value: object = None
    ) -> "InputError":
        """Returns the same error for another argument.

        Args:
            argument: string, as in the constructor.
            value: the argument's value.

        Returns:
            `InputError`.
        """
        return InputError(
            self.code,
            self.problem,
            self.remedy,
            argument=argument,
            value=value,
        )

    def renamed(self, names: Mapping[str, str]) -> "InputError":
        """Returns the same error with other names for arguments.

        Args:
            names: dict of strings. An argument that it lacks keeps its name.

        Returns:
            `InputError`.
        """

        def rename(text):
            return _NAMES.sub(lambda m: f"`{names.get(m[1], m[1])}`", text)

        return InputError(
            self.code,
            rename(self.problem),
            rename(self.remedy),
            argument=self.argument and names.get(self.argument, self.argument),
            value=self.value,
        )

    def __str__(self):
        return self.message(lambda name: f"`{name}`")

    def message(
        self,
        shown: Callable[[str], str],
        show_value: Callable[[object], str] = repr,
    ) -> str:
        """Writes the message.

        Args:
            shown: callable that takes an argument's name and returns how to
                show it.
            show_value: callable that takes the argument's value and returns
                how to show it.

        Returns:
            string, one line.
        """
        where = ""
        if self.argument is not None:
            where = shown(self.argument)
            if self.value is not None:
                where += f"={show_value(self.value)}"
            where += ": "
        parts = [part for part in (self.problem, self.remedy) if part]
        text = _NAMES.sub(lambda m: shown(m[1]), "; ".join(parts))
        return " ".join((where + text).split())


class NotFiniteLossError(InputError):
    """Training ended because its loss was NaN or infinite."""


class TerminatedError(Exception):
    """SIGTERM ended training, which has left a backup to go on from.

    The message is one line; the binaries print it and exit with code 143.
    """
