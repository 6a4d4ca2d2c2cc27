"""The report names the machines that its numbers are from, and a table of several says so."""

import json

import pytest

from stages.reporting.machines import machine, machines, mixture

AMD = {"name": "AMD EPYC (family 25 model 1)", "instructions": ["avx", "avx2"], "held": {}, "kernels": "AVX2"}
INTEL = {"name": "Intel Xeon", "instructions": ["avx", "avx2", "avx512f", "avx512_bf16"], "held": {}}


def set_processor(tree, method, seed, processor):
    for path in (tree.artifacts / f"runs/sd-shapes/red/{method}/{seed}").rglob("record-*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"processor": processor}))


@pytest.fixture
def tree(make):
    tree = make(("none", "esd", "esd_u"), (0,))
    for method in ("esd", "esd_u"):
        set_processor(tree, method, 0, AMD)
    return tree


def test_one_machine_is_named_once_and_nothing_else_is_said(tree):
    study = tree.collect()
    assert machines(study) == ["AMD EPYC (family 25 model 1), up to avx2, torch's kernels AVX2"]
    assert mixture(study, tree.cell) == ""
    assert tree.report() == 0
    foot = tree.text("report/index.html").rpartition("<footer>")[2]
    assert "AMD EPYC (family 25 model 1), up to avx2" in foot
    assert "mixes machines" not in tree.text("tables/tiny-sd-shapes-red.md")


def test_a_table_of_two_machines_says_so_on_the_page_and_in_markdown(tree):
    set_processor(tree, "esd_u", 0, INTEL)
    assert tree.report() == 0
    said = "1 run on Intel Xeon, up to avx512_bf16"
    for path in ("report/index.html", "tables/tiny-sd-shapes-red.md"):
        assert "mixes machines" in tree.text(path) and said in tree.text(path)


def test_a_processor_that_was_held_back_is_another_machine(tree):
    set_processor(tree, "esd_u", 0, AMD | {"held": {"ATEN_CPU_CAPABILITY": "default"}})
    assert "held to ATEN_CPU_CAPABILITY=default" in mixture(tree.collect(), tree.cell)


def test_a_gpu_counts_and_not_the_processor_beside_it():
    assert machine({"device": "NVIDIA H200", "processor": INTEL}) == "NVIDIA H200"
    assert machine({"device": "cpu (x86_64)"}) == "cpu (x86_64)"
    assert machine({}) == "no device recorded"
