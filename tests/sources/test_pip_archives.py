import dataclasses
import errno
import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile

import pytest

from tfadv.errors import InputError
from tfadv.sources import pip_archives


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("TFADV_CACHE", str(folder))
    return folder


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """A package that the real pip finds in a folder, without network."""
    links = tmp_path / "links"
    links.mkdir()
    wheel = links / "tfadv_demo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("demo/model/config.json", "{}")
        archive.writestr("demo/model/deep/vocab.txt", "a\nb\n")
        archive.writestr("demo/code.py", "")
        info = "tfadv_demo-1.0.dist-info/"
        archive.writestr(
            info + "METADATA",
            "Metadata-Version: 2.1\nName: tfadv-demo\nVersion: 1.0\n"
            "Requires-Dist: there-is-no-such-package\n",
        )
        archive.writestr(
            info + "WHEEL",
            "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\n"
            "Tag: py3-none-any\n",
        )
        archive.writestr(info + "RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)
    return pip_archives.Package(
        name="tfadv-demo",
        version="1.0",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        kind="wheel",
        wanted="demo/model/",
        megabytes=1,
    )


@pytest.fixture
def downloaded(demo, tmp_path, monkeypatch):
    """Spares the time of pip where it is not what is tested."""
    (wheel,) = (tmp_path / "links").iterdir()
    monkeypatch.setattr(pip_archives, "_download", lambda *_: wheel)


def changed(package, **changes):
    return dataclasses.replace(package, **changes)


def error_of(code, call, *args):
    """The one line of the error of this code that a call raises."""
    with pytest.raises(InputError) as caught:
        call(*args)
    assert caught.value.code == code
    message = str(caught.value)
    assert "\n" not in message
    return message


def files_below(folder):
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file()
    )


def test_fetch_unpacks_the_wanted_files_once(
    cache, demo, monkeypatch, capfd, caplog
):
    caplog.set_level("INFO", logger="tfadv")
    folder = pip_archives.fetch(demo)
    assert files_below(folder) == [
        "demo/model/config.json",
        "demo/model/deep/vocab.txt",
    ]
    assert (folder / "demo/model/deep/vocab.txt").read_text() == "a\nb\n"
    assert list(cache.iterdir()) == [folder]
    assert capfd.readouterr() == ("", "")
    [line] = caplog.messages
    assert "downloading the package tfadv-demo 1.0 (1 MB)" in line

    monkeypatch.setattr(pip_archives.subprocess, "run", None)
    assert pip_archives.fetch(demo) == folder
    assert len(caplog.messages) == 1


def test_fetch_takes_a_single_file(cache, demo, downloaded):
    folder = pip_archives.fetch(changed(demo, wanted="demo/model/config.json"))
    assert files_below(folder) == ["demo/model/config.json"]


def test_two_processes_fetch_at_once(cache, demo):
    program = (
        "from tfadv.sources import pip_archives\n"
        f"print(pip_archives.fetch(pip_archives.{demo!r}))\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=pathlib.Path(pip_archives.__file__).parents[1],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    (folder,) = cache.iterdir()
    assert outputs == [f"{folder}\n"] * 2
    assert len(files_below(folder)) == 2


def test_slower_process_uses_what_the_faster_one_made(
    cache, demo, monkeypatch, downloaded
):
    made = pip_archives.fetch(demo)
    shutil.rmtree(made)
    unpack = pip_archives._unpack

    def unpack_as_another_finishes(package, archive, folder):
        unpack(package, archive, folder)
        shutil.copytree(folder, made)

    monkeypatch.setattr(pip_archives, "_unpack", unpack_as_another_finishes)
    assert pip_archives.fetch(demo) == made
    assert list(cache.iterdir()) == [made]


def test_pip_refuses_another_digest(cache, demo):
    package = changed(demo, sha256="0" * 64)
    message = error_of("wrong-digest", pip_archives.fetch, package)
    assert demo.sha256 in message
    assert "0" * 64 in message
    assert list(cache.iterdir()) == []


def test_digest_is_checked_again(cache, demo, monkeypatch):
    def pip(command, **_):
        downloads = pathlib.Path(command[command.index("--dest") + 1])
        downloads.mkdir()
        (downloads / "any.whl").write_bytes(b"other")
        return subprocess.CompletedProcess(command, 0, stdout="")

    monkeypatch.setattr(pip_archives.subprocess, "run", pip)
    found = hashlib.sha256(b"other").hexdigest()
    assert found in error_of("wrong-digest", pip_archives.fetch, demo)


def test_pip_downloads_nothing(cache, demo, monkeypatch):
    def pip(command, **_):
        os.mkdir(command[command.index("--dest") + 1])
        return subprocess.CompletedProcess(command, 0, stdout="")

    monkeypatch.setattr(pip_archives.subprocess, "run", pip)
    assert "found 0" in error_of("download-failed", pip_archives.fetch, demo)


def test_unknown_version(cache, demo):
    package = changed(demo, version="2.0")
    message = error_of("download-failed", pip_archives.fetch, package)
    assert "No matching distribution found for tfadv-demo==2.0" in message


def test_no_network(cache, demo, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:secret@127.0.0.1:9/simple")
    message = error_of("download-failed", pip_archives.fetch, demo)
    assert "secret" not in message
    assert "127.0.0.1" not in message


def test_python_without_pip(cache, demo, tmp_path, monkeypatch):
    venv.create(tmp_path / "bare", symlinks=os.name != "nt")
    folder = "Scripts" if os.name == "nt" else "bin"
    python = tmp_path / "bare" / folder / "python"
    monkeypatch.setattr(pip_archives.sys, "executable", str(python))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    error_of("no-pip", pip_archives.fetch, demo)


@pytest.mark.parametrize(
    ("output", "code", "fragment"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] "
            "No space left on device\n",
            "disk-full",
            "1 MB",
        ),
        (
            "Collecting demo\n  error: subprocess-exited-with-error\n  "
            "      ERROR: No matching distribution found for setuptools\n",
            "download-failed",
            "tfadv-demo 1.0: No matching distribution found for setuptools;",
        ),
        (
            "error: metadata-generation-failed\n\nhint: see above\n",
            "download-failed",
            "tfadv-demo 1.0: metadata-generation-failed;",
        ),
        (
            "ERROR: 403 for url: https://me:secret@example.com/simple\n",
            "download-failed",
            "tfadv-demo 1.0: 403 for url: the package index;",
        ),
        ("", "download-failed", "it gives no reason"),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES\n",
            "wrong-digest",
            "found another",
        ),
    ],
)
def test_what_pip_says_becomes_one_line(demo, output, code, fragment):
    error = pip_archives._pip_failure(demo, output)
    assert error.code == code
    assert fragment in str(error)
    assert "\n" not in str(error)


def test_cache_folder_is_a_file(cache, demo):
    cache.write_text("")
    message = error_of("unwritable-cache", pip_archives.fetch, demo)
    assert f"to the cache folder {cache} (File exists)" in message


def test_no_space_to_unpack(cache, demo, monkeypatch, downloaded):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pip_archives.shutil, "copyfileobj", full)
    message = error_of("unwritable-cache", pip_archives.fetch, demo)
    assert "(No space left on device)" in message
    assert list(cache.iterdir()) == []


def test_wanted_files_are_missing(cache, demo, downloaded):
    package = changed(demo, wanted="demo/data/")
    assert "demo/data/" in error_of("bad-archive", pip_archives.fetch, package)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    "path", ["demo/model/../../../evil", "demo/model/..\\evil", "demo/model/c:"]
)
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_members_stay_below_the_folder(tmp_path, demo, kind, path):
    archive = tmp_path / "archive"
    if kind == "wheel":
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr(path, "evil")
    else:
        with tarfile.open(archive, "w:gz") as opened:
            opened.addfile(tarfile.TarInfo(path), io.BytesIO())
    package = changed(demo, kind=kind)
    error_of(
        "bad-archive", pip_archives._unpack, package, archive, tmp_path / "out"
    )
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("kind", ["wheel", tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_are_refused(tmp_path, demo, kind):
    archive = tmp_path / "archive"
    if kind == "wheel":
        member = zipfile.ZipInfo("demo/model/link")
        member.external_attr = 0o120777 << 16
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr(member, "/etc/hostname")
        package = demo
    else:
        member = tarfile.TarInfo("demo/model/link")
        member.type = kind
        member.linkname = "/etc/hostname"
        with tarfile.open(archive, "w:gz") as opened:
            opened.addfile(member)
        package = changed(demo, kind="sdist")
    message = error_of(
        "bad-archive", pip_archives._unpack, package, archive, tmp_path / "out"
    )
    assert "'demo/model/link'" in message


def test_cache_is_in_the_home_folder_by_default(
    tmp_path, demo, monkeypatch, downloaded
):
    monkeypatch.delenv("TFADV_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = pip_archives.fetch(demo)
    assert folder.parent == tmp_path / "home" / ".cache" / "tfadv"


def test_unknown_encoder():
    message = error_of(
        "no-such-encoder", pip_archives.encoder_folder, "bert-huge"
    )
    assert "'bert-huge'" in message
    assert "all-minilm-l6-v2" in message


def test_real_encoder():
    folder = pip_archives.encoder_folder("all-minilm-l6-v2")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert config["hidden_size"] == 384
    assert config["num_hidden_layers"] == 6
    vocabulary = (folder / "vocab.txt").read_text("utf-8").splitlines()
    assert len(vocabulary) == config["vocab_size"]
    assert (folder / "model.safetensors").stat().st_size == 90_868_376
    for name in (
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    ):
        json.loads((folder / name).read_text("utf-8"))
