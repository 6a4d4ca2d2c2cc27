"""What makes a run another kind of method than the one whose name it carries: derived from its fields."""

import ast
from types import SimpleNamespace

import pytest

from stages.params import load_params, method_params, names
from stages.params.effect import departures
from stages.params.source import class_fields, merged
from stages.reporting.evidence import departs

CLASSES = sorted({load_params("methods", name)["class"] for name in names("methods")})


@pytest.mark.parametrize(
    ("method", "backbone", "words"),
    [
        ("casteer", "flux-shapes", ["location: text"]),
        ("conditioned_transport", "infinity-shapes", ["location: text"]),
        ("receler", "cogvideox-shapes", ["states: frozen", "localise: 0.0", "preserve: 2.0"]),
        ("t2vunlearning", "cogvideox-shapes", ["localise: 0.0", "templates: []"]),
        ("esd_x", "sd-shapes", ["states: frozen", "preserve: 0.3"]),
        ("minimalist", "flux-shapes", ["through: state", "push: 2.0"]),
        ("uce", "flux-shapes", ["push: 1.0"]),
        ("rece", "cogvideox-shapes", ["push: 1.0"]),
        ("sld_max", "flux-shapes", ["agreement: 1.0"]),
        ("negative_prompt", "sd-shapes", ["strength: 6.0", "agreement: 4.0"]),
        ("sld_max", "cogvideox-shapes", []),  # its threshold alone is another
        ("esd_x", "sd14", []),
        ("esd_x@lr=0.1,steps=3", "sd14", []),
        ("esd_x@preserve=0.5", "sd14", ["preserve: 0.5"]),
        ("esd_x", "infinity-2b", ["states: frozen"]),
    ],
)
def test_what_differs_in_kind_is_told_and_what_differs_in_degree_is_not(method, backbone, words):
    assert departures(method_params(method, backbone), load_params("methods", method)) == words


@pytest.mark.parametrize("path", CLASSES)
def test_what_decides_the_kind_is_an_expression_of_fields(path):
    known = class_fields(path, path)
    for expression, words in merged(path, "DEPARTS").items():
        read = {node.id for node in ast.walk(ast.parse(expression)) if isinstance(node, ast.Name)}
        assert read <= set(known) and words.format(**dict.fromkeys(known))


@pytest.mark.parametrize("name", names("methods"))
def test_no_method_departs_from_itself(name):
    content = load_params("methods", name)
    assert departures(content, content) == []


def test_a_report_tells_it_of_the_fields_that_a_record_has():
    def run(**records):
        return SimpleNamespace(method="esd_x@steps=3", fit=records.pop("fit", {}), records=records)

    ran = method_params("esd_x", "sd-shapes")
    assert departs(run(fit={"params": ran})) == "states: frozen; preserve: 0.3"
    assert departs(run(sample={"params": {"method": "esd_x"} | ran})) == "states: frozen; preserve: 0.3"
    assert departs(run(sample={"params": {"method": "esd_x"}})) == departs(run()) == ""
