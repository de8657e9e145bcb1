"""The errors that are the user's to mend."""


class InputError(ValueError):
    """Bad input: a file, a column, a flag or a folder is not as it must be.

    The message is one line that says what was expected, what was found and
    what to do. The binaries print it to stderr and exit with code 2; library
    users catch it as the `ValueError` it is.

    Example:

    ```python
    raise tfadv.errors.InputError(
        "reviews.csv has no column 'text'; its columns are 'body', 'stars'; "
        "name one of them with --text_column"
    )
    ```
    """


class NotFiniteLossError(InputError):
    """Training ended because its loss was NaN or infinite."""


class TerminatedError(Exception):
    """SIGTERM ended training, which has left a backup to go on from.

    The message is one line; the binaries print it and exit with code 143.
    """
