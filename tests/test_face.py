"""The face of the package: four functions, imported when they are asked for."""

import subprocess
import sys

import pytest

import stages
from stages.backbones import load_backbone
from stages.interventions import load
from stages.methods import load_method
from stages.params.concept import load_concept


def test_the_face_is_the_rooms_own_functions() -> None:
    assert (stages.load_backbone, stages.load_concept) == (load_backbone, load_concept)
    assert (stages.load_method, stages.load_run) == (load_method, load)
    assert {"load_backbone", "load_concept", "load_method", "load_run"} <= set(dir(stages))


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(AttributeError, match="no attribute 'load_bakbone'; have: load_backbone"):
        _ = stages.load_bakbone


def test_importing_the_package_imports_no_torch() -> None:
    asked = "import sys, stages; stages.load_concept; print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", asked], text=True, capture_output=True, check=True).stdout
    assert said.strip() == "False"
