r"""Shows several runs side by side.

Prints a table, a row a run, and writes it to report.md.

  python -m tools.report runs/baseline runs/freelb --output_dir=runs/report
"""

import pathlib

from tfadv import command_line
from tfadv.errors import InputError
from tfadv.flags import output

REPORT = "report.md"


def main(folders):
    """Reads the runs' results and writes the table."""
    from tfadv import report, run_folder

    if not folders:
        raise InputError(
            "no run folders: give the --output_dir of one or more "
            "tools.train runs"
        )
    table = report.table([report.read_results(folder) for folder in folders])
    print(table)
    if output.OUTPUT_DIR.value is None:
        return
    path = pathlib.Path(output.OUTPUT_DIR.value) / REPORT
    if path.exists() and not output.OVERWRITE.value:
        raise InputError(
            f"{path} is there already; give --overwrite to replace it, or "
            "another --output_dir"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(table + "\n", encoding="utf-8")
    except OSError as error:
        raise run_folder.unwritable(path.parent, error) from error
    print(f"\nwritten to {path}")


def start():
    """Starts the binary."""
    command_line.run(main, [output], takes_arguments=True)


if __name__ == "__main__":
    start()
