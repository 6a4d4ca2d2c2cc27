"""What params/zoo.yaml asks for, and which entry of the zoo a study takes."""

import shutil

import pytest
import yaml

from stages.params import load_params
from stages.params.zoo import (
    BACKBONE,
    Entry,
    changed,
    content_digest,
    digest_of,
    listed,
    read_manifest,
    recipe_of,
    set_aside,
    taken,
)
from tests import ROOT


@pytest.fixture
def params(tmp_path):
    return shutil.copytree(ROOT / "params", tmp_path / "params")


def write(params, **changes):
    content = yaml.safe_load((params / "zoo.yaml").read_text())
    (params / "zoo.yaml").write_text(yaml.safe_dump(content | changes))


def entry(recipe):
    return Entry(BACKBONE, "shapes", recipe, digest_of(recipe), 0, None, {}, 1, 1.0, {}, "float16", 0.0, (), (), {})


def test_parts_come_before_backbones_and_every_name_is_one_entry():
    found = listed(ROOT / "params")
    assert len({one.name for one in found}) == len(found)
    kinds = [one.kind == BACKBONE for one in found]
    assert kinds == sorted(kinds) and any(kinds)


def test_what_a_backbone_excludes_was_never_shown(params):
    write(params, worlds={"shapes": {"parts": ["autoencoder"], "never_shown": ["a hat"]}}, backbones=["sd-withheld"])
    (*_, one) = listed(params)
    assert one.never_shown == ("yellow cross", "a hat")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"backbones": ["sd-shape"]}, "no backbone 'sd-shape'; did you mean sd-shapes?"),
        ({"backbones": ["sd14"]}, "sd14 is trained on no world"),
        ({"worlds": {"shapes": {"parts": ["autoencoder"]}}}, "infinity-shapes needs the tokenizer of shapes"),
        ({"worlds": {"shapes": {"parts": ["oracle"]}}}, "is not one of"),
        ({"backbone": []}, "unknown key 'backbone'; did you mean backbones?"),
    ],
)
def test_a_wrong_list_is_one_line(params, changes, says):
    write(params, **changes)
    with pytest.raises(ValueError, match=r"zoo\.yaml") as caught:
        listed(params)
    assert says in str(caught.value)


def test_an_entry_is_taken_if_its_recipe_is_still_the_file_s():
    content = load_params("backbones", "sd-shapes", ROOT / "params")
    entries = {"sd-shapes": entry(recipe_of(content))}
    sampled = content | {"guidance": 3.0, "steps": 50, "memory": 1, "path": "elsewhere"}
    assert taken(entries, "sd-shapes", recipe_of(sampled)) is entries["sd-shapes"]
    other = content | {"pretrain": content["pretrain"] | {"seed": 1}}
    assert taken(entries, "sd-shapes", recipe_of(other)) is None
    assert changed(entries["sd-shapes"], recipe_of(other)) == ["pretrain.seed"]
    assert taken(entries, "sd-other", recipe_of(content)) is None
    assert taken({}, "sd-shapes", recipe_of(content)) is None


def test_a_recipe_that_is_no_longer_the_zoos_is_told_with_what_to_run(tmp_path):
    root = tmp_path / "params"
    shutil.copytree(ROOT / "params", root)
    names = ("sd-shapes", "flux-shapes", "dit-shapes")
    entries = {name: entry(recipe_of(load_params("backbones", name, root))) for name in names[:2]}
    assert set_aside(entries, names, root) == []
    content = load_params("backbones", "sd-shapes", root)
    content["pretrain"] |= {"seed": 1, "batch": 3}
    (root / "backbones/sd-shapes.yaml").write_text(yaml.safe_dump(content | {"guidance": 9.0}))
    (line,) = set_aside(entries, names, root)
    assert line.startswith(
        "sd-shapes is trained here: the zoo's was trained with another pretrain.batch, pretrain.seed;"
    )
    assert "git checkout -- params/backbones/sd-shapes.yaml" in line and line.endswith("stages.zoo add sd-shapes")
    assert set_aside({}, names, root) == []


def test_without_a_zoo_there_are_no_entries(tmp_path):
    assert read_manifest(tmp_path / "none") == {}
    assert len(content_digest(entry({}))) == 64
