"""Reports: what stands in their tables, pictures and pages."""

import html.parser
import json
import pathlib
import re
import shutil

import numpy as np
import pytest

import tfadv
from tests import report_runs
from tfadv import files
from tfadv.errors import InputError
from tfadv.report import figures, page, runs, tables
from tfadv.runs import methods


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
    return groups_of(*reversed(folders))


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
    assert row[-1] == "0, 7"


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


def groups_of(*folders):
    return runs.grouped(runs.read_all(folders))


def test_runs_of_other_settings_are_other_rows(tmp_path):
    """Made in Python, where there is no flagfile that tells them apart."""
    strong, weak = tfadv.FreeLB(step_size=0.2), tfadv.FreeLB(step_size=0.1)
    folders = [
        report_runs.write(tmp_path / name, "freelb", seed, **changes)
        for name, seed, changes in (
            ("a", 0, {"adversary": strong}),
            ("b", 0, {"adversary": weak}),
            ("c", 7, {"adversary": strong}),
            ("d", 0, {"adversary": weak, "learning_rate": 1e-5}),
        )
    ]
    rows = tables.accuracy_table(groups_of(*folders)).rows
    assert [(row[0], row[-1]) for row in rows] == [
        (
            f"freelb (adversary.step_size {step_size}, "
            f"optimization.learning_rate {rate})",
            seeds,
        )
        for step_size, rate, seeds in (
            (0.2, "5e-05", "0, 7"),
            (0.1, "5e-05", "0"),
            (0.1, "1e-05", "0"),
        )
    ]
    # One alone needs no more than its method.
    [row] = tables.accuracy_table(groups_of(folders[0])).rows
    assert row[0] == "freelb"


def test_how_a_result_is_computed_makes_no_other_row(tmp_path):
    folders = [
        report_runs.write(tmp_path / str(i), "freelb", 7 * i, **changes)
        for i, changes in enumerate(
            [{}, {"backup_seconds": 5.0, "accumulation_steps": 2}]
        )
    ]
    [group] = groups_of(*folders)
    assert len(group) == 2


def test_the_baseline_has_no_adversary_to_differ_in(tmp_path):
    folders = [
        report_runs.write(
            tmp_path / str(steps),
            "baseline",
            0,
            adversary=tfadv.FreeLB(steps=steps),
        )
        for steps in (2, 3)
    ]
    [group] = groups_of(*folders)
    assert len(group) == 2


def test_a_folder_that_is_given_twice_counts_once(folders, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(folders[0])
    table = tables.accuracy_table(groups_of(folders[0], folders[0], link))
    assert [row[-1] for row in table.rows] == ["0"]
    assert "±" not in table.markdown()
    assert table.note.startswith("Given more than once, counted once: ")
    assert str(folders[0]) in table.note
    assert tables.accuracy_table(groups_of(*folders)).note == ""


def test_names_differ_where_no_setting_does(tmp_path):
    folders = [
        report_runs.write(tmp_path / name, "freelb", 0) for name in ("a", "b")
    ]
    path = folders[1] / "settings.json"
    content = json.loads(path.read_text())
    content["sha256_of_texts"] = "1" * 64
    path.write_text(json.dumps(content))
    found = runs.names(groups_of(*folders))
    assert found == [f"freelb ({folder})" for folder in folders]


def test_runs_of_version_0_1(tmp_path):
    """Their flags tell their settings; from Python they wrote down few."""
    folders = {}
    for name, seed, flags in (
        (
            "slow",
            0,
            "--dataset=movie_reviews\n--learning_rate=1e-05\n--seed=0\n",
        ),
        (
            "again",
            7,
            "--dataset=movie_reviews\n--learning_rate=1e-05\n--seed=7\n",
        ),
        (
            "fast",
            0,
            "--dataset=movie_reviews\n--learning_rate=0.001\n--seed=0\n",
        ),
        ("python", 0, ""),
        ("python2", 7, ""),
    ):
        folder = report_runs.write(tmp_path / name, "freelb", seed)
        (folder / "settings.json").unlink()
        (folder / "updates.jsonl").unlink()
        description = {
            "format": 2,
            "method": "freelb",
            "encoder": "all-minilm-l6-v2",
            "dataset": "movie_reviews",
            "label_names": report_runs.CLASSES,
            "max_length": 64,
            "perturb_at": "word_embeddings",
            "precision": "float32",
            "adversary": {
                "steps": 3,
                "step_size": 0.1,
                "init_magnitude": 0.0,
                "max_norm": 0.0,
                "warmup_steps": 0,
            },
            "objectives": {},
        }
        (folder / "run.json").write_text(json.dumps(description))
        (folder / "flags.cfg").write_text(flags)
        folders[name] = folder
    seeds = [
        [run.results["seed"] for run in group]
        for group in groups_of(*folders.values())
    ]
    assert seeds == [[0, 7], [0], [0], [7]]
    page.write(list(folders.values()), tmp_path / "report")


def test_methods_are_in_the_order_of_their_registry(tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "_METHODS", methods.registered())
    tfadv.register_method(
        tfadv.Method("aaa", "Another", "another way to train")
    )
    folders = report_runs.write_all(tmp_path)
    other = tmp_path / "aaa"
    shutil.copytree(folders[0], other)
    record = report_runs.record("aaa", 0).to_dict()
    (other / "settings.json").write_text(json.dumps(record))
    names = runs.names(groups_of(other, *folders))
    assert names == ["baseline", "freelb", "rar", "aaa"]
    monkeypatch.undo()
    with pytest.raises(InputError) as caught:
        runs.read(other)
    assert caught.value.code == "unknown-method"
    assert "plugin" in caught.value.remedy


def test_the_papers_values_stand_beside_ours(tmp_path):
    folders = report_runs.write_all(tmp_path, dataset="ag_news")
    groups = groups_of(*folders)
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
    groups = groups_of(folder)
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


def curves(picture):
    """What is drawn: a panel's title -> lines, which are lists of points."""
    return {
        axes.get_title(): [line.get_xydata().tolist() for line in axes.lines]
        for axes in picture.figure.axes
        if axes.get_visible()
    }


def test_training_is_drawn_per_update(groups):
    found = curves(figures.training_curves(groups))
    assert list(found) == [
        "loss",
        "classification loss",
        "reconstruction loss",
        "accuracy",
        "adversarial accuracy",
    ]
    # A line per run, and of RAR's terms one.
    assert [len(line) for line in found["loss"]] == [10] * 4
    assert [len(line) for line in found["reconstruction loss"]] == [10]
    assert found["loss"][0][4] == [1.0, pytest.approx(0.7)]
    # Without objectives, the loss is the classification loss.
    assert found["classification loss"][:3] == found["loss"][:3]
    assert found["classification loss"][3] != found["loss"][3]
    # All but the baseline have adversaries.
    assert [len(line) for line in found["adversarial accuracy"]] == [10] * 3
    # Of accuracy there are two for each: training, and dev at two epochs.
    assert [len(line) for line in found["accuracy"]] == [10, 2] * 4
    assert found["accuracy"][1] == [[1.0, 0.7], [2.0, 0.7]]


def test_training_is_drawn_per_epoch_where_nothing_else_is_there(tmp_path):
    folder = report_runs.write(tmp_path / "run", "freelb", 0)
    (folder / "updates.jsonl").unlink()
    lines = [{"epoch": 1, "loss": 0.5}]
    report_runs.write_lines(folder / "metrics.jsonl", lines)
    found = curves(figures.training_curves(groups_of(folder)))
    assert found == {"loss": [[[1.0, 0.5]]]}


def test_names_are_no_markup(tmp_path):
    folder = report_runs.write(
        tmp_path / "run", "freelb", 0, dataset="a|b\n# *c*"
    )
    table = tables.accuracy_table(groups_of(folder))
    lines = table.markdown().split("\n")[2:5]
    assert len({line.count("|") for line in lines}) == 1
    assert "a&#124;b \\# \\*c\\*" in lines[2]


def broken(folder, name, content):
    (folder / name).write_text(content)
    with pytest.raises(InputError) as caught:
        runs.read(folder)
    assert name in str(caught.value)
    return caught.value.code


def test_measurements_of_another_form_are_refused(tmp_path):
    folder = report_runs.write_all(tmp_path)[0]
    for name, content in (
        ("robustness.json", '{"epsilons": []}'),
        ("results.json", "{}"),
        ("metrics.jsonl", ""),
        ("updates.jsonl", '{"epoch": "one"}'),
    ):
        other = shutil.copytree(folder, tmp_path / "copy")
        assert broken(other, name, content) == "odd-form"
        shutil.rmtree(other)
    assert broken(folder, "results.json", "{") == "bad-json"
