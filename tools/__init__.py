"""The binaries: `python -m tools.NAME --help`."""
