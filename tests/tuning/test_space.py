"""Search spaces: what a file may say, and that every value in it is one that the method takes."""

import pytest
import yaml

from stages.tuning.space import Dimension, load_space, searched

ESD = {
    "search": {"lr": {"log": [1e-3, 1.0]}, "steps": {"integer": [1, 4]}, "train": {"choice": ["x", "u"]}},
}


def write(project, kind, name, content):
    path = project / "params" / kind / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))


@pytest.mark.parametrize(
    ("dimension", "inside", "outside"),
    [
        ({"log": [1e-3, 1.0]}, [1e-3, 0.5, 1], [0, 2.0, "x", True]),
        ({"linear": [0, 4]}, [0.0, 4], [-1, 4.5]),
        ({"integer": [1, 4]}, [1, 4], [0, 2.5, True]),
        ({"choice": ["x", 1, True]}, ["x", 1, True], ["u", 1.5, False]),
    ],
)
def test_what_a_dimension_holds(dimension, inside, outside):
    made = Dimension.model_validate(dimension)
    assert all(map(made.holds, inside)) and not any(map(made.holds, outside))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"search": {"lr": {}}}, "a field is searched in one of log, linear, integer, choice; got none"),
        ({"search": {"lr": {"log": [1, 2], "linear": [1, 2]}}}, "got log, linear"),
        ({"search": {"lr": {"log": [0.1, 0.1]}}}, "the least value must be below the most"),
        ({"search": {"lr": {"log": [0, 0.1]}}}, "a logarithmic scale begins above 0"),
        ({"search": {"train": {"choice": ["x"]}}}, "a choice needs two values or more"),
        ({"search": {"lr": {"log": [1e-3, 1.0], "first": 2.0}}}, "first: 2.0 is none of its values, 0.001 to 1"),
        ({"search": {}}, "a file says what is searched, or under `nothing` why nothing is"),
        ({"nothing": "a reference"}, "a file says what is searched, or under `nothing` why nothing is"),
        ({"fixed": {"lr": 0.1}}, "fixed: lr is searched, too"),
        ({"architectures": {"unet": {"search": {"scale": {"linear": [0, 1]}}}}}, "scale is not searched on the others"),
        ({"architectures": {"unet": {"fixed": {"lr": 0.1}}}}, "architectures: unet: fixed: lr is searched"),
        ({"searchs": {}}, "unknown key 'searchs'; did you mean search?"),
        ({"trials": 20}, "unknown key 'trials'"),
        ({"search": {name: {"linear": [0, 1]} for name in "abcde"}}, "at most 4"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(project, change, says):
    write(project, "tuning", "esd", ESD | change)
    with pytest.raises(ValueError, match="params/tuning/esd.yaml: ") as error:
        load_space("esd")
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"search": {"lrr": {"log": [1e-3, 1.0]}}}, "unknown field 'lrr'; did you mean lr?"),
        ({"search": {"train": {"choice": ["x", "y"]}}}, "train: Input should be"),
        ({"search": {"steps": {"integer": [0, 4]}}}, "steps: Input should be greater than 0"),
        ({"search": {"lr": {"log": [0.1, 1.0]}}}, "lr: the method's own value, 0.01, is not among 0.1 to 1; widen"),
        ({"fixed": {"batchs": 1}}, "unknown key 'batchs'; did you mean batch?"),
        ({"search": {"empty": {"integer": [0, 4], "first": 2}}}, "empty has no effect with preserve: 0"),
        ({"architectures": {"unett": {"fixed": {"batch": 1}}}}, "no architecture 'unett'; did you mean unet?"),
    ],
)
def test_values_that_the_method_does_not_take_are_refused(project, change, says):
    write(project, "tuning", "esd", ESD | change)
    with pytest.raises(ValueError, match="params/tuning/esd.yaml: ") as error:
        searched("esd", "tiny")
    assert says in str(error.value)


def test_an_architecture_lays_its_own_over_the_rest(project):
    own = {"fixed": {"batch": 4}, "search": {"lr": {"log": [1e-3, 0.1], "first": 0.02}}}
    write(project, "tuning", "esd", ESD | {"fixed": {"batch": 3, "scale": 2.0}, "architectures": {"unet": own}})
    found = searched("esd", "tiny")
    assert found.space.fixed == {"batch": 4, "scale": 2.0} and found.space.search["lr"].log == (1e-3, 0.1)
    assert found.first == {"lr": 0.02, "steps": 2, "train": "x"}
    assert found.base["batch"] == 4 and found.base["class"] == "stages.methods.esd.ESD"


def test_what_was_tuned_before_is_no_start(project):
    """Trial 0 is the method as its own file has it, or a second search would begin where the first one ended."""
    write(project, "tuning", "esd", ESD)
    write(project, "tuned", "esd", {"shapes": {"unet": {"lr": 0.5}}})
    assert searched("esd", "tiny").first["lr"] == 0.01
