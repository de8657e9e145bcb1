"""Reports: what stands in their tables, pictures and pages."""

import html.parser
import json
import pathlib
import re

import numpy as np
import pytest

from tests import report_runs
from tfadv import files
from tfadv.errors import InputError
from tfadv.report import page, runs, tables


class Reader(html.parser.HTMLParser):
    """Collects the elements of a page."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def of(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return report_runs.write_all(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def groups(folders):
    return runs.grouped([runs.read(folder) for folder in reversed(folders)])


@pytest.fixture(scope="module")
def written(folders, tmp_path_factory):
    """The report's folder and its Markdown."""
    output = tmp_path_factory.mktemp("report")
    return output, page.write(folders, output)


def test_runs_that_differ_in_their_seed_are_one_row(groups):
    assert runs.names(groups) == ["baseline", "freelb", "rar"]
    row = tables.accuracy_table(groups).rows[1]
    mean, deviation = np.mean([86, 90]), np.std([86, 90], ddof=1)
    assert row[3] == f"{mean:.1f} ± {deviation:.1f} %"
    assert row[-1] in ("0, 7", "7, 0")


def test_attacked_accuracy_has_a_column_a_radius(groups):
    table = tables.attacked_accuracy_table(groups)
    assert table.header == [
        "method",
        "clean",
        "epsilon 0",
        "epsilon 0.1",
        "epsilon 0.4",
        "HotFlip",
    ]
    assert table.rows[0] == [
        "baseline",
        *("87.0 %", "87.0 %", "50.0 %", "2.0 %", "50.0 %"),
    ]
    assert table.rows[1][4] == "25.0 ± 7.1 %"
    assert table.note.startswith("k-PGD (steps 4, norm l2, restarts 1) on 30")
    distances = tables.distance_table(groups)
    assert distances.rows[2] == [
        "rar",
        *("1.000", "0.900", "0.600"),
        *("0.000", "0.300", "1.200"),
    ]
    words = tables.word_class_table(groups)
    assert words.rows[0] == ["baseline", "0.1333", "0.2000"]


def test_the_papers_values_stand_beside_ours(tmp_path):
    folders = report_runs.write_all(tmp_path, dataset="ag_news")
    groups = runs.grouped([runs.read(folder) for folder in folders])
    attacked = tables.attacked_accuracy_table(groups)
    assert attacked.rows[2][3] == "69.0 % (paper: 78.6 %)"
    # It attacked at other radii than 0.4.
    assert attacked.rows[2][4] == "25.0 %"
    assert tables.accuracy_table(groups).rows[0][4] == "89.90 %"
    distances = tables.distance_table(groups).rows[0]
    assert distances[2] == "0.900 (paper: 0.851)"
    assert distances[5] == "0.300 (paper: 8.409)"


def test_a_dataset_that_the_paper_lacks_has_no_value_of_it(groups):
    assert tables.accuracy_table(groups).rows[0][4] == "-"
    for table in tables.all_tables(groups):
        assert "(paper:" not in table.markdown()


def test_runs_without_measurements_have_the_first_table_alone(tmp_path):
    folder = report_runs.write_all(tmp_path)[0]
    for name in ("robustness.json", "representations.npz", "hotflip.jsonl"):
        (folder / name).unlink()
    groups = runs.grouped([runs.read(folder)])
    assert len(tables.all_tables(groups)) == 1
    output = tmp_path / "report"
    output.mkdir()
    page.write([folder], output)
    reader = Reader((output / "report.html").read_text())
    assert len(reader.of("table")) == len(reader.of("img")) == 1


def test_hotflip_has_a_column_only_where_it_was_run(tmp_path):
    folder = report_runs.write_all(tmp_path)[0]
    path = folder / "robustness.json"
    measured = json.loads(path.read_text())
    del measured["hotflip"]
    path.write_text(json.dumps(measured))
    table = tables.attacked_accuracy_table([[runs.read(folder)]])
    assert "HotFlip" not in table.header
    assert [len(row) for row in table.rows] == [len(table.header)]


def test_the_page_is_whole_and_self_contained(written):
    output, _ = written
    text = (output / "report.html").read_text()
    reader = Reader(text)
    pictures = reader.of("img")
    assert len(pictures) == 3
    for picture in pictures:
        assert picture["src"].startswith("data:image/svg+xml;base64,")
        assert len(picture["alt"]) > 40
    # Four tables of numbers, RAR's adversaries, HotFlip's of each method.
    assert len(reader.of("table")) == 4 + 1 + 3
    for tag in ("script", "link", "iframe"):
        assert not reader.of(tag)
    assert not re.search(r"(src|href)=\"(?!data:)|url\(|@import", text)
    assert "&lt;b&gt;film" in text
    assert "<mark>dull</mark>" in text


def test_the_markdown_shows_the_picture_files(written):
    output, markdown = written
    assert (output / "report.md").read_text() == markdown
    for number in (2, 4, 5):
        assert f"Table {number}" in markdown
    pictures = re.findall(r"!\[(.+)\]\((.+)\)", markdown)
    assert len(pictures) == 3
    for alt, name in pictures:
        assert len(alt) > 40
        assert (output / name).read_bytes().startswith(b"\x89PNG")


def test_equal_runs_give_equal_pages(folders, written, tmp_path):
    output, _ = written
    page.write(folders, tmp_path)
    names = {path.name for path in pathlib.Path(tmp_path).iterdir()}
    assert names == {path.name for path in output.iterdir()}
    first, again = (
        (path / "report.html").read_bytes() for path in (output, tmp_path)
    )
    assert first == again


def test_texts_may_hold_any_line_separator(tmp_path):
    folder = report_runs.write_all(tmp_path)[0]
    line = {"adversary": "one\u2028two\x85three\ftwo"}
    files.write_lines(folder / "hotflip.jsonl", [line, line])
    assert runs.read(folder).flips == [line, line]


def test_measurements_of_another_form_are_refused(tmp_path):
    folder = report_runs.write_all(tmp_path)[0]
    (folder / "robustness.json").write_text('{"epsilons": []}')
    with pytest.raises(InputError, match=r"robustness\.json: expected the"):
        runs.read(folder)
