"""Installs a requirement: with uv, in seconds, or with pip where uv fails.

uv does not read pip's configuration. Where pip looks for packages, uv is told
to look, too.

  python .ci/install.py -e ".[test]"
"""

import ast
import os
import pathlib
import subprocess
import sys

PIP = [sys.executable, "-m", "pip"]
INSTALL = [*PIP, "install", "--quiet", "--disable-pip-version-check"]
UV = pathlib.Path(sys.executable).with_name("uv")
# pip's names -> uv's variables, and what separates several values in them.
SETTINGS = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "no-index": ("UV_NO_INDEX", " "),
    "constraint": ("UV_CONSTRAINT", " "),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
}


def uv_environment():
    """Returns the variables that have uv look where pip looks: a dict."""
    listed = subprocess.run(
        [*PIP, "config", "list"], capture_output=True, text=True, check=True
    )
    # What all commands share comes before what `pip install` alone has, and
    # variables come last: the later value holds.
    order = ["global", "install", ":env:"]
    values = []
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in order and key in SETTINGS:
            values.append((order.index(section), key, ast.literal_eval(value)))
    # pip takes the best version of all indexes.
    environment = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
    for _, key, value in sorted(values):
        variable, separator = SETTINGS[key]
        environment[variable] = separator.join(value.split())
    # Whoever has configured uv is obeyed.
    return environment | dict(os.environ)


def main(requirement):
    """Installs what pip's arguments, such as `-e .`, name."""
    if not UV.exists():
        subprocess.run([*INSTALL, "uv"])
    if UV.exists():
        command = [UV, "pip", "install", "--quiet", "--python", sys.executable]
        if not subprocess.run(
            [*command, *requirement], env=uv_environment()
        ).returncode:
            return 0
    print("uv cannot install here: pip does, in minutes", file=sys.stderr)
    return subprocess.run([*INSTALL, *requirement]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
