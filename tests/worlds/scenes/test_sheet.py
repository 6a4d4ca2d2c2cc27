from PIL import Image

from stages.worlds.scenes.labels import LABELS
from stages.worlds.scenes.sheet import described, main, scenes


def test_the_sheet_shows_every_name_and_is_written(tmp_path):
    every = [scene for row in scenes() for scene in row]
    for kind in ("colour", "object", "texture", "style", "figure", "background"):
        shown = {scene.get(kind, names[0]) for names in [LABELS[kind]] for scene in every}
        assert shown == {*LABELS[kind]}
    assert main(["--out", str(tmp_path / "sheet.png")]) == 0
    assert Image.open(tmp_path / "sheet.png").size[1] > 1000
    pair = {"colour": "red", "object": "circle", "other_colour": "blue", "other_object": "star", "place": "left"}
    assert described(pair) == "a red circle left of a blue star"
