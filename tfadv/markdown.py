"""The one writer of Markdown tables."""

import html
import re
from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lays out an aligned Markdown table.

    Args:
        header: list of strings.
        rows: list of lists of strings, each as long as `header`. Cells are
            Markdown already; `cell` makes one of any text.

    Returns:
        string, without a line end.

    Example:

    ```python
    print(table(["method", "accuracy"], [["freelb", "80.1 %"]]))
    ```
    """
    lines = [list(header), *map(list, rows)]
    # A rule of fewer than three dashes is none to some readers.
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| "
        + " | ".join(
            text.ljust(width) for text, width in zip(line, widths, strict=True)
        )
        + " |"
        for line in lines
    )


def cell(value: object) -> str:
    """Writes a value so that it is plain text in Markdown, in tables as well.

    Args:
        value: anything with a `str`.

    Returns:
        string.
    """
    # Surrogates, which JSON may hold, cannot be written as UTF-8.
    text = re.sub(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]+", " ", str(value))
    text = re.sub(r"([\\`*\[\]~$#])", r"\\\1", text.strip())
    # Inside of a word it is no markup.
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)
    return html.escape(text, quote=False).replace("|", "&#124;")
