r"""Shows several runs side by side.

Prints tables, and writes report.md, report.html (one self-contained page) and
a PNG file a picture. Runs that differ in their seed alone are averaged. What
tools.attack and tools.reconstruct have left in the runs' folders is shown too.

  python -m tools.report runs/baseline runs/freelb --output_dir=runs/report
"""

import pathlib

from tfadv import command_line
from tfadv.errors import InputError
from tfadv.flags.generated import Flags
from tfadv.flags.output import Output


def main(output: Output, folders: list[str]) -> None:
    """Reads the runs, prints the tables and writes the report."""
    if not folders:
        raise InputError(
            "no-runs",
            "expected the folders of runs, found none",
            "give the --output_dir of one or more tools.train runs",
        )
    from tfadv import files
    from tfadv.report import page, runs, tables

    if output.output_dir is None:
        groups = runs.grouped(runs.read_all(folders))
        print(page.as_markdown(tables.all_tables(groups)))
        return
    folder = pathlib.Path(output.output_dir)
    files.check_results(
        [folder / page.MARKDOWN, folder / page.PAGE], output.overwrite
    )
    try:
        print(page.write(folders, folder))
    except OSError as error:
        raise files.unwritable(folder, error) from error
    print(f"written to {folder / page.PAGE}")


def start() -> None:
    """Starts the binary."""
    command_line.run(main, [Flags(Output)], takes_arguments=True)


if __name__ == "__main__":
    start()
