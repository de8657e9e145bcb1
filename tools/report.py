r"""Shows several runs side by side.

Prints tables, and writes report.md, report.html (one self-contained page) and
a PNG file a picture. Runs that differ in their seed alone are averaged. What
tools.attack and tools.reconstruct have left in the runs' folders is shown too.

  python -m tools.report runs/baseline runs/freelb --output_dir=runs/report
"""

import pathlib

from tfadv import command_line
from tfadv.errors import InputError
from tfadv.flags import output


def main(folders):
    """Reads the runs, prints the tables and writes the report."""
    from tfadv import files
    from tfadv.report import page, runs, tables

    if not folders:
        raise InputError(
            "no run folders: give the --output_dir of one or more "
            "tools.train runs"
        )
    if output.OUTPUT_DIR.value is None:
        groups = runs.grouped([runs.read(folder) for folder in folders])
        print(page.as_markdown(tables.all_tables(groups)))
        return
    output_dir = pathlib.Path(output.OUTPUT_DIR.value)
    files.check_results(
        [output_dir / page.MARKDOWN, output_dir / page.PAGE],
        output.OVERWRITE.value,
    )
    try:
        print(page.write(folders, output_dir))
    except OSError as error:
        raise files.unwritable(output_dir, error) from error
    print(f"written to {output_dir / page.PAGE}")


def start():
    """Starts the binary."""
    command_line.run(main, [output], takes_arguments=True)


if __name__ == "__main__":
    start()
