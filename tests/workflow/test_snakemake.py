"""The graph of jobs: what runs, what runs again after a change, and what a wrong name is told."""

import json
import re
from collections import Counter

import pytest
import yaml

from stages.params import study as studies
from stages.params.tracker import installed
from tests.workflow.conftest import DEMO, ROOT, Project

DEMO_CELLS = yaml.safe_load(DEMO.read_text())
STUDY = studies.Study("demo", studies.expand(DEMO_CELLS, ROOT / "params"), DEMO_CELLS["prompts"], ("rates",))
UNTRAINED = ("none", "negative_prompt")


def runs_of(method: str) -> int:
    return sum(run.method == method for run in STUDY.runs)


def test_a_dry_run_lists_every_job_of_the_study(project: Project) -> None:
    trained = [run for run in STUDY.runs if run.method not in UNTRAINED]
    assert project.plan()[0] == {
        "prepare": len(STUDY.unique("concept")),
        "part": 2,
        "pretrain": len(STUDY.unique("backbone")),
        "precompute": len(STUDY.unique("backbone", "concept", "seed")),
        "fit_and_sample": len(STUDY.runs) - len(trained),
        "train": len(trained),
        "sample": len(trained),
        "evaluate": len(STUDY.runs),
        "report": 1,
        "all": 1,
    }


@pytest.mark.parametrize("name", ["smoke", "full", "steering_grid"])
def test_every_study_makes_a_graph(project: Project, name: str) -> None:
    study = studies.load_study(name, ROOT / "params")
    assert project.plan("--config", f"study={name}")[0]["evaluate"] == len(study.runs)


STUDY_OF_METHODS = """
name: states
description: Methods that read what the test says.
cells: [{{backbones: [flux-dev], concepts: [dog], methods: {methods}}}]
seeds: [0]
prompts: {{concept: 4, retain: 4}}
metrics: [clip_score]
"""


@pytest.mark.parametrize(
    ("methods", "trained", "states"),
    [
        ("[none, uce, casteer, activation_transport, esd_x]", 2, None),
        ("[none, esd_x, mace]", 2, "final"),
        ("[none, mace, minimalist]", 2, "ends"),
        ("[none, minimalist, circuit_breaker]", 2, "all"),
    ],
)
def test_no_more_trajectories_are_made_than_the_methods_read(
    project: Project, methods: str, trained: int, states: str | None
) -> None:
    (project.root / "params/studies/states.yaml").write_text(STUDY_OF_METHODS.format(methods=methods))
    jobs, shown = project.plan("--printshellcmds", "--config", "study=states")
    assert (jobs["train"], jobs.get("precompute", 0)) == (trained, int(states is not None))
    lines = shown.splitlines()
    if states is None:
        assert not any("stages.train" in line and "--latents" in line for line in lines)
    else:
        (line,) = [line for line in lines if "stages.precompute" in line]
        assert f"--states {states} " in line


def test_every_run_of_an_attacked_cell_is_attacked_and_measured_with_it(project: Project) -> None:
    study = studies.load_study("attacked", ROOT / "params")
    jobs, _ = project.plan("--config", "study=attacked")
    assert jobs["attack"] == jobs["evaluate"] == len(study.runs)
    shown = project.snakemake("-n", "--printshellcmds", "--quiet", "host", "--config", "study=attacked")
    lines = [line for line in shown.splitlines() if "stages.attack" in line]
    assert sum("--run artifacts/runs/sd-shapes/red/esd/" in line for line in lines) == 2
    fitted_there = "--run artifacts/runs/sd-shapes/red/none/0/samples/attacked"
    assert sum(fitted_there in line for line in lines if "--method none" in line) == 1
    assert all("--attacks ring_a_bell" in line for line in shown.splitlines() if "stages.evaluate" in line)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("esd_x", "esdd", "error: no method 'esdd'; did you mean esd? have: "),
        ("esd_x", "../../esd", "error: method name '../../esd' must be"),
        ("metrics:", "metric:", "error: params/studies/demo.yaml: unknown key 'metric'; did you mean metrics?"),
    ],
)
def test_a_wrong_study_is_refused_in_one_line_before_anything_runs(
    project: Project, old: str, new: str, says: str
) -> None:
    project.edit("params/studies/demo.yaml", old, new)
    done = project.run("snakemake", "--cores", "1")
    assert done.returncode == 2
    (line,) = [line for line in done.stdout.splitlines() if "error" in line]
    assert line.startswith(says)
    assert not (project.root / "artifacts").exists()


@pytest.mark.parametrize("setting", ["study=demos", "study=../demo", "studdy=demo", "gpus=0"])
def test_a_wrong_setting_is_refused(project: Project, setting: str) -> None:
    done = project.run("snakemake", "-n", "--config", setting)
    assert done.returncode == 2
    assert "error: " in done.stdout


def test_the_cluster_profile_parses_and_sends_every_gpu_job_to_its_partition(project: Project) -> None:
    assert project.plan("--workflow-profile", "slurm")[0]["train"] > 0
    profile = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text())
    on_gpu = {name for name, _, _, resources in rules(project) if "gpu" in resources}
    assert set(profile["set-resources"]) == on_gpu > {"train", "sample"}


def test_the_linter_asks_for_nothing_but_an_environment(project: Project) -> None:
    shown = project.run("snakemake", "--lint").stdout
    complaints = Counter(line.strip() for line in shown.splitlines() if line.startswith("    * "))
    assert set(complaints) == {"* Specify a conda environment or container for each rule.:"}


def test_every_rule_logs_is_timed_and_bounded(project: Project) -> None:
    found = rules(project)
    assert len(found) >= 10
    for name, log, benchmark, resources in found:
        assert log, name
        assert benchmark, name
        assert {"mem_mb", "runtime"} <= set(resources), name


def rules(project: Project) -> list[tuple[str, list[str], str | None, list[str]]]:
    """Each rule that runs something: its name, logs, benchmark and resources."""
    (project.root / "show.smk").write_text(
        'include: "Snakefile"\n'
        "import json\n"
        "for rule in workflow.rules:\n"
        "    if not rule.norun:\n"
        "        print(json.dumps([rule.name, list(rule.log), rule.benchmark, list(rule.resources)]))\n"
    )
    shown = project.snakemake("-n", "--snakefile", "show.smk", "--quiet")
    return [json.loads(line) for line in shown.splitlines() if line.startswith('["')]


def test_a_finished_study_has_nothing_to_do(made: Project) -> None:
    assert made.plan()[0] == {}


def test_another_tracker_runs_nothing_and_a_missing_one_is_refused(made: Project) -> None:
    assert made.plan("--config", "tracker=csv", "tracker_pictures=10")[0] == {}
    made.edit("params/pipeline.yaml", "tracker: none", "tracker: csv")
    try:
        assert made.plan()[0] == {}
    finally:
        made.edit("params/pipeline.yaml", "tracker: csv", "tracker: none")
    if not installed("wandb"):
        done = made.run("snakemake", "-n", "--config", "tracker=wandb")
        assert done.returncode == 2 and "pip install 'palimpsest[wandb]'" in done.stdout


def test_a_comment_and_an_order_of_keys_run_nothing(made: Project) -> None:
    for kind in ("methods", "tuned", "adapted", "backbones", "concepts", "studies", "metrics"):
        for path in (made.root / "params" / kind).glob("*.yaml"):
            path.write_text(f"# another comment\n{path.read_text()}")
    module = made.root / "stages/methods/esd.py"
    module.write_text(f"{module.read_text()}\n# a thought\n")
    assert made.plan()[0] == {}


@pytest.mark.parametrize(
    ("path", "old", "new", "method"),
    [
        ("params/tuned/esd_x.yaml", "lr: 8.0e-4", "lr: 9.0e-4", "esd_x"),
        ("params/tuned/negative_prompt.yaml", "strength: 6.0", "strength: 0.5", "negative_prompt"),
    ],
)
def test_a_changed_method_runs_its_own_jobs_and_the_tables(
    made: Project, path: str, old: str, new: str, method: str
) -> None:
    before = (made.root / path).read_text()
    made.edit(path, old, new)
    try:
        jobs, shown = made.plan()
    finally:
        (made.root / path).write_text(before)
    own = runs_of(method)
    made_by = {"fit_and_sample": own} if method in UNTRAINED else {"train": own, "sample": own}
    assert jobs == made_by | {"evaluate": own, "report": 1, "all": 1}
    assert set(re.findall(r"Job \d+: (?:samples of )?(\w+) on", shown)) == {method}


def test_a_sign_in_an_equation_runs_the_methods_that_rest_on_it_and_no_others(made: Project) -> None:
    path = "stages/objectives/guidance.py"
    before = (made.root / path).read_text()
    made.edit(path, "return uncond - scale", "return uncond + scale")
    try:
        jobs, shown = made.plan()
    finally:
        (made.root / path).write_text(before)
    own = [run for run in STUDY.runs if run.method in ("esd", "esd_x", "esd_u")]
    assert jobs == {"train": len(own), "sample": len(own), "evaluate": len(own), "report": 1, "all": 1}
    assert set(re.findall(r"Job \d+: (?:samples of )?(\w+) on", shown)) == {"esd", "esd_x", "esd_u"}


def test_every_result_that_a_job_makes_outlives_a_refusal(project: Project) -> None:
    for path in (project.root / "workflow/rules").glob("*.smk"):
        outputs = re.findall(r"    output:\n((?:        .*\n)+)", path.read_text())
        assert path.stem == "report" or all("update(" in block for block in outputs), path.name


ASKED = """
include: "Snakefile"
from types import SimpleNamespace as Wildcards
for name in ("sd-shapes", "flux-dev"):
    print(name, [(memory()(Wildcards(backbone=name), n), minutes(0.5)(Wildcards(backbone=name), n)) for n in (1, 2)])
"""


def test_a_job_asks_for_what_its_backbone_says_and_for_more_with_each_attempt(project: Project) -> None:
    (project.root / "show.smk").write_text(ASKED)
    shown = project.snakemake("-n", "--snakefile", "show.smk", "--quiet")
    assert "sd-shapes [(8000, 120), (16000, 240)]" in shown
    assert "flux-dev [(64000, 720), (128000, 1440)]" in shown


def test_results_from_elsewhere_are_stamped_before_they_are_used(made: Project, project: Project) -> None:
    (project.root / "artifacts").mkdir()
    (project.root / "artifacts/some.safetensors").write_text("")
    done = project.run("snakemake", "--cores", "1")
    assert done.returncode != 0
    assert "make restore" in done.stdout


def test_what_jobs_keep_for_one_another_is_no_result_from_elsewhere(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALIMPSEST_FORK_SERVER", "")
    kept = project.root / "artifacts/cache/embeddings/1234/some.safetensors"
    kept.parent.mkdir(parents=True)
    kept.write_text("")
    prompts = "artifacts/prompts/demo/red.json"
    project.snakemake("--cores", "1", prompts)
    assert (project.root / prompts).is_file()


def test_binarized_masks_come_from_the_run_of_their_method(project: Project) -> None:
    methods = project.root / "params/methods"
    (methods / "soft.yaml").write_text("class: stages.methods.minimalist.Minimalist\nlike: minimalist\n")
    (methods / "hard.yaml").write_text("class: stages.methods.binarized.Binarized\nof: soft\n")  # not the default
    project.edit("params/studies/demo.yaml", "esd_x", "hard")
    shown = project.snakemake("-n", "--printshellcmds", "--quiet", "host")
    lines = [line for line in shown.splitlines() if "stages.binarize" in line]
    assert len(lines) == runs_of("esd_x")
    assert "--runs artifacts/runs/sd-shapes/red/soft/0 " in "".join(lines)


def test_a_training_asks_for_the_gpus_that_its_launcher_takes(project: Project) -> None:
    (project.root / "show.smk").write_text(
        'include: "Snakefile"\n'
        "for rule in workflow.rules:\n"
        '    if "gpu" in list(rule.resources):\n'
        '        print(rule.name, "takes", rule.resources["gpu"])\n'
    )
    shown = project.snakemake("-n", "--snakefile", "show.smk", "--quiet", "--config", "gpus=4")
    assert re.search(r"^train takes .*\b4\b", shown, re.M) and re.search(r"^sample takes .*\b1\b", shown, re.M)


def test_a_method_that_edits_its_pictures_trains_with_several_seeds(project: Project) -> None:
    study = "params/studies/demo.yaml"
    project.edit(study, "backbones: [sd-shapes]", "backbones: [flux-shapes]")
    project.edit(study, "[none, esd, esd_x, esd_u, negative_prompt]", "[minimalist_released]")
    shown = project.snakemake("-n", "--printshellcmds", "--quiet", "host")
    assert sum("--method minimalist_released" in line for line in shown.splitlines()) >= 2


def test_how_a_backbone_is_sampled_does_not_train_it_again(made: Project) -> None:
    path = made.root / "params/backbones/sd-shapes.yaml"
    before = path.read_text()
    made.edit("params/backbones/sd-shapes.yaml", "steps: 10\n", "steps: 5\nscheduler: DDIMScheduler\ncache: cache\n")
    try:
        jobs, _ = made.plan()
    finally:
        path.write_text(before)
    assert "precompute" in jobs and "pretrain" not in jobs


def test_a_broken_file_stops_only_the_studies_that_ask_for_it(project: Project) -> None:
    (project.root / "params/methods/broken.yaml").write_text("class: [stages\n")
    assert project.plan()[0]["all"] == 1
    done = project.run("snakemake", "-n", "--config", "study=full")
    assert done.returncode == 2
    assert "error: params/methods/broken.yaml: not valid YAML" in done.stdout
