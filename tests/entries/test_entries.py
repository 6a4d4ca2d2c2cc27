"""The stage entries from prompts to pictures on a tiny backbone, and one clear line for every wrong input."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from stages import attack, evaluate, precompute, prepare, sample, seeds, train
from stages.interventions import load
from stages.metrics.attacked import add_attacks
from stages.store.files import digest
from tests import ROOT
from tests.metrics.told import Told, read_from_files
from tests.tiny import BUILD

CONCEPT = {"prompts": ["a red shape"], "neutral": ["a shape"], "retain": ["a blue circle"], "target": {"colour": "red"}}
RUN = ["--backbone", "tiny", "--concept", "red", "--seed", "1"]


@pytest.fixture
def project(backbone, tmp_path, monkeypatch):
    """A project folder with a tiny backbone, one concept, two methods and a study."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "data", "data")
    backbone.save(Path("artifacts/backbones/tiny"))
    settings = {"path": "artifacts/backbones/tiny", "family": "unet", "steps": 3, "pool": 2, "batch": 4, "build": BUILD}
    write("backbones", "tiny", {"class": "stages.backbones.unet.UNet"} | settings)
    write("concepts", "red", {"dataset": "data/shapes_colors.csv"} | CONCEPT)
    write("methods", "esd", {"class": "stages.methods.esd.ESD", "steps": 2, "batch": 2, "lr": 0.01})
    write("methods", "none", {"class": "stages.methods.none.NoMethod"})
    write("studies", "mini", {"prompts": {"concept": 3, "retain": 5}})
    return tmp_path


def write(kind, name, content):
    path = Path("params") / kind / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))


def run_all(out, method="esd"):
    prompts = "artifacts/prompts/mini/red.json"
    assert prepare.main(["--study", "mini", "--concept", "red", "--out", prompts]) == 0
    latents = "artifacts/tiny/red/latents.safetensors"
    assert precompute.main([*RUN, "--out", latents]) == 0
    assert train.main([*RUN, "--method", method, "--latents", latents, "--out", out]) == 0
    where = ["--run", out, "--prompts", prompts, "--out", f"{out}/samples/mini"]
    assert sample.main([*RUN, "--method", method, *where]) == 0


def test_every_entry_ends_with_where_its_result_lies(project, caplog):
    caplog.set_level("INFO")
    run_all("artifacts/a")
    said = "\n".join(f"{record.name}: {record.message}" for record in caplog.records)
    for line in (
        "prepare: artifacts/prompts/mini/red.json: 3 of concept, 5 of retain, 2 of neutral",
        "trajectories: artifacts/tiny/red/latents.safetensors",
        "train: esd of tiny: artifacts/a",
        "sample: artifacts/a/samples/mini: 1 of alone, 3 of concept, 0 of implied, 2 of neutral, 5 of retain",
    ):
        assert line in said


def test_an_oracle_is_trained_without_the_backbone_that_it_stands_beside(project, backbone, monkeypatch):
    """By the real entry; what it trains from scratch is stood in for by a tiny backbone."""
    about = yaml.safe_load(Path("params/backbones/tiny.yaml").read_text()) | {"world": "shapes"}
    write("backbones", "tiny", about)
    write("methods", "oracle", {"class": "stages.methods.oracle.Oracle"})
    shutil.rmtree("artifacts/backbones/tiny")
    asked = []
    monkeypatch.setattr(
        "stages.backbones.from_scratch.pretrain", lambda *a, **k: asked.append(k["exclude"]) or backbone
    )
    assert train.main([*RUN, "--method", "oracle", "--out", "artifacts/o"]) == 0
    assert asked == ["red"]
    assert set(load(Path("artifacts/o")).tensors()) > {name for name, _ in backbone.net.named_parameters()}


def test_prompts_to_pictures_twice_gives_the_same_bits(project):
    run_all("artifacts/a")
    run_all("artifacts/b")
    assert digest(Path("artifacts/a")) == digest(Path("artifacts/b"))
    lines = [
        json.loads(line) for line in Path("artifacts/a/samples/mini/concept/metadata.jsonl").read_text().splitlines()
    ]
    assert [line["file"] for line in lines] == ["0000.png", "0001.png", "0002.png"]
    assert all(line["colour"] == "red" and "red" in line["prompt"] for line in lines)
    assert len({line["seed"] for line in lines}) == 3 and all(
        line["seed"] // seeds.GIVEN == seeds.Purpose.PICTURE for line in lines
    )
    retain = Path("artifacts/a/samples/mini/retain")
    assert len(list(retain.glob("*.png"))) == 5 and "red" not in (retain / "metadata.jsonl").read_text()
    record = json.loads(Path("artifacts/a/record-train.json").read_text())
    assert record["params"]["steps"] == 2 and record["seed"] == 1 and len(record["curves"]["esd"]["loss"]) == 2
    assert record["versions"]["torch"] and record["seconds"] > 0 and record["peak_memory_mb"] > 0
    assert len(record["inputs"]["artifacts/tiny/red/latents.safetensors"]) == 64


def test_an_edited_backbone_makes_other_pictures_from_the_same_seeds(project):
    run_all("artifacts/a")
    run_all("artifacts/n", "none")
    names = ("concept/metadata.jsonl", "concept/0000.png")
    a, n = ([Path(f"artifacts/{run}/samples/mini/{name}").read_bytes() for name in names] for run in "an")
    assert a[0] == n[0] and a[1] != n[1]


def test_every_training_seed_is_measured_on_the_same_noise(project):
    """A row's own seed is kept, too."""
    lines = ["id,set,prompt,colour,without_colour,seed"]
    lines += [f"{i},full,a red shape {i},red,a shape {i},{41 + i}" for i in range(3)]
    Path("data/shapes_colors.csv").write_text("\n".join(lines))
    prompts, metadata = "artifacts/prompts/mini/red.json", "concept/metadata.jsonl"
    write("studies", "mini", {"prompts": {"concept": 4}})
    assert prepare.main(["--study", "mini", "--concept", "red", "--out", prompts]) == 0
    rows = {}
    for seed in ("0", "1", "300"):
        run = ["--backbone", "tiny", "--concept", "red", "--method", "none", "--seed", seed]
        assert sample.main([*run, "--prompts", prompts, "--out", f"artifacts/n{seed}"]) == 0
        rows[seed] = Path(f"artifacts/n{seed}", metadata).read_text()
    assert rows["0"] == rows["1"] == rows["300"]
    assert json.loads(rows["300"].splitlines()[0])["seed"] == 41


def test_what_is_fitted_where_it_is_sampled_is_kept_beside_the_pictures(project):
    write("methods", "uce", {"class": "stages.methods.uce.UCE"})
    run_all("artifacts/a", "uce")
    prompts, here = "artifacts/prompts/mini/red.json", Path("artifacts/b/samples/mini")
    assert sample.main([*RUN, "--method", "uce", "--prompts", prompts, "--out", str(here)]) == 0
    for name in ("intervention.safetensors", "intervention.json"):
        assert (here / name).read_bytes() == Path("artifacts/a", name).read_bytes()
    for prompts in ("concept", "retain"):
        assert digest(here / prompts) == digest(Path("artifacts/a/samples/mini", prompts))
    record = json.loads((here / "record-sample.json").read_text())
    assert record["params"]["class"] == "stages.methods.uce.UCE" and record["notes"]["fit_seconds"] > 0
    weights = load(here).tensors().values()
    assert record["notes"]["parameters"] == sum(value.numel() for value in weights) > 0


def test_an_attack_searches_in_the_edited_backbone_and_draws_what_it_found(project):
    small = {"population": 8, "generations": 2, "length": 3, "readable": True}
    write("attacks", "bell", {"class": "stages.attacks.ring_a_bell.RingABell"} | small)
    run_all("artifacts/a")
    lines = {}
    for name, where in {"a": ["--run", "artifacts/a"], "n": []}.items():
        method, out = ("esd" if where else "none"), f"artifacts/{name}/samples/mini/bell"
        assert attack.main([*RUN, "--study", "mini", "--attack", "bell", "--method", method, *where, "--out", out]) == 0
        lines[name] = [json.loads(line) for line in Path(out, "metadata.jsonl").read_text().splitlines()]
    record = json.loads(Path("artifacts/a/samples/mini/record-attack-bell.json").read_text())
    assert {line["prompt"] for line in lines["a"]} == set(record["notes"]["found"]) and len(lines["a"]) == 3
    assert lines["a"] == lines["n"] and len({line["seed"] for line in lines["a"]}) == 3  # ESD leaves the text encoder
    pictures = [Path(f"artifacts/{name}/samples/mini/bell/0000.png").read_bytes() for name in "an"]
    assert pictures[0] != pictures[1]


def test_neutral_twins_and_prompts_that_mean_the_concept_otherwise_are_measured_unless_left_out(project):
    write("metrics", "rates", {"class": "stages.metrics.rates.Rates", "draws": 100})
    counts, found = {"concept": 3, "retain": 5}, []
    for prompts in (counts | {"neutral": 0, "alone": 0, "synonym": 0, "implied": 0}, counts):
        write("studies", "mini", {"prompts": prompts, "metrics": ["rates"]})
        run = "artifacts/runs/tiny/red/none/1"
        shutil.rmtree(run, ignore_errors=True)
        run_all(run, "none")
        where = ["--method", "none", "--study", "mini", "--out", f"{run}/metrics/mini"]
        with read_from_files(Told()):
            assert evaluate.main([*RUN, *where]) == 0
        found.append(json.loads(Path(f"{run}/metrics/mini/rates.json").read_text())["rows"])
    plain, more = found
    assert [row for row in more if row["prompts"] in counts] == plain
    assert {row["prompts"] for row in more} == {*counts, "neutral", "alone", "synonym"}
    twins = [json.loads(line) for line in Path(run, "samples/mini/neutral/metadata.jsonl").read_text().splitlines()]
    assert len(twins) == 2 and all("red" not in twin["prompt"] and not twin["colour"] for twin in twins)
    names = {row["metric"] for row in more if row["prompts"] == "neutral"}
    assert {"broken_rate", "coherent_rate", "joint_rate"} <= names


def test_an_attacks_rate_is_how_often_the_concept_is_seen():
    row = {"prompts": "bell", "value": 0.5, "ci_low": 0.1, "ci_high": 0.9, "n": 2}
    found = {"rows": [], "samples": {"concept": {"target": [0]}}}
    rows = [row | {"metric": "target_rate"}, row | {"metric": "broken_rate"}]
    outcomes = {"bell": {"target": [0, 1], "broken": [0, 1]}}
    add_attacks(found, {"rows": rows, "samples": outcomes, "seen": "target"})
    assert found["rows"] == [row | {"metric": "attack_rate"}]
    assert found["samples"] == {"concept": {"target": [0]}, "bell": {"attack": [0, 1]}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("methods", "esd", {"class": "stages.methods.esd.ESD", "step": 2}), "unknown key 'step'; did you mean steps?"),
        (("methods", "esd", {"class": "stages.methods.esd.ESD", "steps": -1}), "steps: Input should be greater than 0"),
        (("concepts", "red", {"prompt": "x"}), "unknown key 'prompt'; did you mean prompts?"),
        (("backbones", "tiny", {"class": "stages.backbones.unet.UNet", "family": "unet"}), "path: Field required"),
    ],
)
def test_a_wrong_file_stops_training_with_one_line(project, capsys, change, message):
    write(*change)
    assert train.main([*RUN, "--method", "esd", "--out", "artifacts/x"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.splitlines()[-1].startswith("error: ")
    assert not list(Path("artifacts").rglob("intervention*"))


@pytest.mark.parametrize("method", ["esdd", "../esd", "no such"])
def test_a_wrong_method_stops_training_before_it_starts(project, capsys, method):
    assert train.main([*RUN, "--method", method, "--out", "artifacts/x"]) == 2
    assert method in capsys.readouterr().err and not Path("artifacts/x").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,set,colour,without_colour,seed\n0,full,red,,0\n", "column 'prompt' is missing"),
        ("id,set,prompt,colour,without_colour,seed\n", "no prompts in it"),
    ],
)
def test_a_wrong_dataset_stops_preparation(project, capsys, text, message):
    Path("data/shapes_colors.csv").write_text(text)
    assert prepare.main(["--study", "mini", "--concept", "red", "--out", "artifacts/p.json"]) == 2
    assert message in capsys.readouterr().err and not Path("artifacts/p.json").exists()


def test_damaged_weights_stop_sampling_and_leave_nothing(project, capsys):
    run_all("artifacts/a")
    file = Path("artifacts/a/intervention.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    where = ["--run", "artifacts/a", "--prompts", "artifacts/prompts/mini/red.json", "--out", "artifacts/c"]
    assert sample.main([*RUN, "--method", "esd", *where]) == 2
    assert "not a whole safetensors file" in capsys.readouterr().err and not Path("artifacts/c").exists()
