"""Published results: every printed number follows from the stored outcomes, and one that does not is named."""

import csv
import io
import json
import lzma
import shutil
from dataclasses import asdict

import pytest
import torch
import yaml

from stages import publish, verify
from stages.metrics.attacked import add_attacks, add_successes
from stages.metrics.base import Value
from stages.metrics.clips import rates
from stages.metrics.intervals import bootstrap, number_prompts
from stages.reporting.published.compare import difference
from stages.store.pictures import read_metadata
from tests.reporting.conftest import build

DRAWS = 10_000  # the metrics' default


def measured(folder, twin):
    """Gives a synthetic run the numbers that its metrics would have written."""
    groups = {
        prompts: number_prompts([row["prompt"] for row in read_metadata(folder / "samples/tiny" / prompts)])
        for prompts in ("concept", "retain")
    }
    for name in ("rates", "drift"):
        path = folder / f"metrics/tiny/{name}.json"
        content = json.loads(path.read_text())
        original = json.loads((twin / f"metrics/tiny/{name}.json").read_text())["samples"]
        content["rows"] = []
        for prompts, judged in content["samples"].items():
            sides = (judged, original[prompts])
            own, other = ({key: torch.tensor(v).double() for key, v in side.items()} for side in sides)
            if name == "rates":
                values = rates(own, other, groups[prompts], seed=0, draws=DRAWS)
            else:
                values = {
                    key: Value(float(v.mean()), *bootstrap(v, groups=groups[prompts], seed=0, draws=DRAWS), len(v))
                    for key, v in own.items()
                }
            content["rows"] += [{"prompts": prompts, "metric": key, **asdict(v)} for key, v in values.items()]
        path.write_text(json.dumps(content))


def attack(folder):
    """Adds an attack that found other prompts, and what was seen before it."""
    place, n = folder / "attacks/tiny/bell", 6
    for at, words in ((place, "xyz {}"), (place / "before", "a red thing {}")):
        at.mkdir(parents=True)
        lines = [{"file": f"{i}.png", "index": i, "prompt": words.format(i // 2), "seed": i} for i in range(n)]
        (at / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        for i in range(n):
            shutil.copy(folder / "samples/tiny/concept/0000.png", at / f"{i}.png")
    path = folder / "metrics/tiny/rates.json"
    content = json.loads(path.read_text())
    after, groups = torch.tensor([1.0, 1, 0, 1, 0, 0]), number_prompts([f"{i // 2}" for i in range(n)])
    row = asdict(rates({"target": after}, None, groups, seed=0, draws=DRAWS)["target_rate"])
    found = {"seen": "target", "samples": {"bell": {"target": after.int().tolist()}}}
    add_attacks(content, found | {"rows": [{"prompts": "bell", "metric": "target_rate"} | row]})
    before = {"seen": "target", "samples": {"bell/before": {"target": [0, 1, 0, 0, None, 1]}}}
    add_successes(content, before, {"bell": [f"a red thing {i // 2}" for i in range(n)]})
    path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A study that is measured, reported and published once; tests copy it."""
    root = tmp_path_factory.mktemp("published")
    tree = build(root, ("none", "esd"), (0, 1))
    runs = tree.artifacts / "runs/sd-shapes/red"
    for seed in "01":
        for method in ("esd", "none"):
            measured(runs / method / seed, runs / "none" / seed)
        attack(runs / "esd" / seed)
    assert tree.report() == 0
    assert run_publish(tree, root / "out") == 0
    return tree, root / "out"


def run_publish(tree, out, *options):
    where = ["--artifacts", f"{tree.artifacts}", "--params", f"{tree.params}", "--out", f"{out}"]
    return publish.main(["--study", tree.name, *where, *options])


@pytest.fixture
def copy(published, tmp_path):
    return shutil.copytree(published[1], tmp_path / "copy")


def said(capsys, folder):
    """The line of a verification that fails."""
    capsys.readouterr()
    assert verify.main([str(folder)]) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def edit(path, change):
    """Changes the text of a file, packed or not."""
    content = path.read_bytes()
    text = (lzma.decompress(content) if path.suffix == ".xz" else content).decode()
    changed = change(text)
    assert changed != text
    path.write_bytes(lzma.compress(changed.encode()) if path.suffix == ".xz" else changed.encode())


def flip(text, **where):
    """Changes the first outcome `rates:target` of the pictures asked for."""
    rows = list(csv.DictReader(io.StringIO(text)))
    row = next(row for row in rows if all(row[key] == value for key, value in where.items()))
    row["rates:target"] = "01"[row["rates:target"] == "0"]
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def test_the_tables_are_the_report_s_and_follow_from_the_outcomes(published, caplog):
    tree, out = published
    caplog.set_level("INFO")
    assert verify.main([str(out)]) == 0
    assert "frechet_unedited of frechet" in caplog.text and "156 pictures" in caplog.text
    for path in sorted((tree.artifacts / "tables").iterdir()):
        assert (out / "tables" / path.name).read_text() == path.read_text()
    printed = (out / "tables/results.csv").read_text()
    assert all(f",bell,{name}," in printed for name in ("attack_rate", "asr", "pre_asr"))


def test_the_protocol_and_the_machine_are_kept(published):
    tree, out = published
    about = json.loads((out / "study.json").read_text())
    kept = yaml.safe_load((tree.params / "protocol.yaml").read_text())
    assert about["protocol"] == {"version": kept["version"], "content": kept}
    assert about["published"]["processor"]["name"] and about["published"]["versions"]["torch"]


def test_a_folder_of_studies_is_verified_each(published):
    assert verify.main([str(published[1].parent)]) == 0


def test_an_altered_outcome_is_named(copy, capsys):
    edit(copy / "outcomes.csv.xz", lambda text: flip(text, method="esd", seed="1", prompts="concept"))
    line = said(capsys, copy)
    assert "sd-shapes/red/esd/1, concept prompts, target_rate: value is written as" in line


def test_an_altered_outcome_of_the_unedited_model_shows_in_its_own_numbers(copy, capsys):
    edit(copy / "outcomes.csv.xz", lambda text: flip(text, method="none", seed="0", prompts="retain"))
    assert "red/none/0, retain prompts, target_rate" in said(capsys, copy)


def test_a_number_that_is_left_out_or_that_no_outcome_gives_is_named(copy, capsys):
    row = "sd-shapes,red,esd,0,rates,concept,shape_rate,"
    kept = (copy / "values.csv.xz").read_bytes()
    edit(copy / "values.csv.xz", lambda text: text.replace(row, row.replace("shape_", "texture_")))
    assert "concept prompts, texture_rate: no outcomes" in said(capsys, copy)
    (copy / "values.csv.xz").write_bytes(kept)
    edit(copy / "values.csv.xz", lambda text: "".join(x for x in text.splitlines(True) if not x.startswith(row)))
    assert "red/esd/0, concept prompts, shape_rate: missing" in said(capsys, copy)


@pytest.mark.parametrize("metric", ["attack_rate", "asr", "pre_asr"])
def test_an_altered_number_of_an_attack_is_named(copy, capsys, metric):
    def change(text):
        lines = text.splitlines(keepends=True)
        place = next(i for i, line in enumerate(lines) if f",bell,{metric}," in line)
        cells = lines[place].split(",")
        cells[7] = "0.9"
        return "".join([*lines[:place], ",".join(cells), *lines[place + 1 :]])

    edit(copy / "values.csv.xz", change)
    assert f"bell prompts, {metric}: value is written as 0.9" in said(capsys, copy)


def test_an_altered_cell_of_a_csv_is_named(copy, capsys):
    def change(text):
        line = next(line for line in text.splitlines() if ",esd,all,concept,target_rate," in line)
        cells = line.split(",")
        cells[8] = "0.5"
        return text.replace(line, ",".join(cells))

    edit(copy / "tables/results.csv", change)
    line = said(capsys, copy)
    assert "results.csv: row tiny sd-shapes" in line and "target_rate" in line and "column value: printed 0.5" in line


def test_an_altered_cell_of_markdown_is_named(copy, capsys):
    def change(text):
        row = next(line for line in text.splitlines() if line.startswith("| esd |"))
        return text.replace(row, row.replace("%", "1%", 1))

    edit(copy / "tables/tiny-sd-shapes-red.md", change)
    line = said(capsys, copy)
    assert "tiny-sd-shapes-red.md: line" in line and "row esd, column Concept seen" in line


@pytest.mark.parametrize("name", ["report/index.html", "README.md"])
def test_a_file_without_numbers_is_compared_by_its_digest(copy, capsys, name):
    edit(copy / name, lambda text: text + " ")
    assert f"{name}: altered since it was published" in said(capsys, copy)


@pytest.mark.parametrize("name", ["outcomes.csv.xz", "study.json", "tables/tiny.md", "report/index.html"])
def test_a_missing_file_is_named_with_the_way_out(copy, capsys, name):
    (copy / name).unlink()
    (copy.parent / "empty").mkdir()
    line = said(capsys, copy)
    assert name in line and ("is missing" in line or "no published results" in line)


@pytest.mark.parametrize("name", ["outcomes.csv.xz", "records.jsonl.xz", "study.json"])
def test_a_truncated_file_is_named_with_the_way_out(copy, capsys, name):
    path = copy / name
    path.write_bytes(path.read_bytes()[:-20])
    line = said(capsys, copy)
    assert f"{path} is damaged" in line and "git checkout" in line


def test_another_file_is_named(copy, capsys):
    (copy / "more.txt").write_text("x")
    assert "more.txt is none of the published files" in said(capsys, copy)


def test_a_study_that_is_not_finished_is_refused(published, tmp_path, capsys):
    tree = published[0]
    artifacts = shutil.copytree(tree.artifacts, tmp_path / "artifacts")
    shutil.rmtree(artifacts / "runs/sd-shapes/red/esd/1")
    assert run_publish(type(tree)(artifacts, tree.params), tmp_path / "out") == 2
    assert "1 of its runs are not finished, such as sd-shapes/red/esd/1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_page_has_fewer_pictures_or_the_folder_is_refused(published, tmp_path, capsys):
    tree, out = published
    whole = (out / "report/index.html").stat().st_size / 10**6
    assert run_publish(tree, tmp_path / "thin", "--megabytes", f"{0.9 * whole + 0.02}") == 0
    assert (tmp_path / "thin/report/index.html").stat().st_size < 0.9 * whole * 10**6
    assert verify.main([str(tmp_path / "thin")]) == 0
    assert run_publish(tree, tmp_path / "none", "--megabytes", "0.01") == 2
    assert "with one picture a row" in capsys.readouterr().err


def test_the_ends_of_an_interval_may_differ_in_the_last_digit_and_nothing_else_may():
    table = "| m | a |\n|---|---|\n| x | {} |\n"
    assert difference("a.md", table.format("9.4% [6 to 14.2%]"), table.format("9.4% [6 to 14.3%]")) is None
    assert difference("a.md", table.format("9.4% [6 to 14.2%]"), table.format("9.4% [6 to 14.5%]"))
    assert difference("a.md", table.format("9.4% [6 to 14.2%]"), table.format("9.5% [6 to 14.2%]"))
    rows = "method,value,ci_low\nx,{},{}\n"
    assert difference("a.csv", rows.format("0.5", "0.123456"), rows.format("0.5", "0.123457")) is None
    assert difference("a.csv", rows.format("0.5", "0.123456"), rows.format("0.5", "0.12347"))
    assert difference("a.csv", rows.format("0.500001", "0.1"), rows.format("0.5", "0.1"))
