"""Image classifiers as judges, on random weights of the real structures."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import ViTConfig, ViTForImageClassification, pipeline
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from stages.metrics.base import measure
from stages.metrics.classifiers import Classified, Ranked, to_pixels_of
from stages.metrics.loading.networks import load_classifier
from stages.metrics.samples import Samples

CLASSES = {"class": {"church": 3, "tench": 0, "dog": 5}}


def samples(asked, target="church", frames=0, seed=0):
    size = (len(asked), frames, 3, 40, 56) if frames else (len(asked), 3, 40, 56)
    images = torch.randint(256, size, generator=torch.Generator().manual_seed(seed)).byte()
    rows = [{"prompt": f"a {name}", "seed": i, "class": name, "file": f"{i}.png"} for i, name in enumerate(asked)]
    return Samples(images, rows, {"class": target})


def metric(folder, **fields):
    return Classified(**{"model": folder, "classes": CLASSES, "draws": 20} | fields)


def told(answers, given, tops=(1, 2)):
    """The verdicts on answers (N, F, C) of a network that has the twelve classes."""
    return metric(told.folder, tops=tops).verdicts(torch.tensor(answers), given)


@pytest.fixture(autouse=True)
def folder(classifier_folder):
    told.folder = classifier_folder
    return classifier_folder


def test_probabilities_are_those_of_transformers_own_pipeline(folder):
    given = samples(["church"] * 3)
    found = metric(folder).features(given)[:, 0]
    judge = pipeline("image-classification", model=folder, device="cpu")
    for picture, probabilities in zip(to_pixels_of(given.images), found, strict=True):
        theirs = {one["label"]: one["score"] for one in judge(Image.fromarray(picture), top_k=12)}
        wanted = torch.tensor([theirs[f"thing {i}"] for i in range(12)])
        torch.testing.assert_close(probabilities, wanted, rtol=1e-5, atol=1e-6)


def test_a_vit_of_129_styles_is_read_by_the_names_of_its_classes(tmp_path):
    names = {i: f"painter-{i}" for i in range(129)} | {7: "vincent-van-gogh"}
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=16,
        num_labels=129,
        id2label=names,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = ViTForImageClassification(config)
    network.save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    judge = Classified(model=str(tmp_path), classes={"style": {"van gogh": "vincent-van-gogh"}}, tops=(1, 3), draws=20)
    given = samples(["church"] * 4)
    given = Samples(given.images, [row | {"style": "van gogh"} for row in given.rows], {"style": "van gogh"})
    features = judge.features(given)
    first = features[:, 0].argsort(-1, descending=True)
    verdicts = judge.verdicts(features, given)
    assert verdicts["target"].tolist() == (first[:, 0] == 7).double().tolist()
    assert verdicts["target_top3"].tolist() == (first[:, :3] == 7).any(1).double().tolist()
    with pytest.raises(ValueError, match="no class 'vincent-van-gog'; did you mean vincent-van-gogh"):
        Classified(model=str(tmp_path), classes={"style": {"van gogh": "vincent-van-gog"}}).features(given)


def answer(*order, n=12):
    """Probabilities of which the named classes are the first, in that order."""
    shares = torch.full((n,), 0.01)
    for place, number in enumerate(order):
        shares[number] = 0.5 / 2**place
    return (shares / shares.sum()).tolist()


def test_the_concept_is_seen_first_or_among_the_first_and_successes_are_by_hand():
    given = samples(["church", "church", "tench", "dog", "tench"])
    answers = [[answer(3, 0)], [answer(0, 3)], [answer(0, 3)], [answer(3, 5)], [answer(7, 8)]]
    found = told(answers, given)
    assert found["target"].tolist() == [1, 0, 0, 1, 0]
    assert found["target_top2"].tolist() == [1, 1, 1, 1, 0]
    nan = pytest.approx(float("nan"), nan_ok=True)
    assert found["esr_1"].tolist() == [0, 1, nan, nan, nan] and found["esr_2"].tolist() == [0, 0, nan, nan, nan]
    assert found["psr_1"].tolist() == [nan, nan, 1, 0, 0] and found["psr_2"].tolist() == [nan, nan, 1, 1, 0]
    assert found["joint"].tolist() == [1, 0, 1, 0, 0]


def test_what_a_prompt_asks_for_beyond_the_classes_is_not_judged():
    found = told([[answer(0)], [answer(0)]], samples(["tench", "zebra"]))
    assert found["joint"].tolist() == [1, pytest.approx(float("nan"), nan_ok=True)]
    assert found["psr_1"].isnan().tolist() == [False, True]


def test_a_clip_shows_what_any_frame_does_and_is_right_by_the_mean_of_its_frames():
    given = samples(["church", "tench"], frames=3)
    frames = [[answer(3), answer(0), answer(0)], [answer(0), answer(0), answer(5)]]
    found = told(frames, given)
    assert found["target"].tolist() == [1, 0] and found["target_frame_share"].tolist() == [pytest.approx(1 / 3), 0]
    assert found["esr_1"][0] == 1 and found["psr_1"][1] == 1


def test_the_ten_likeliest_are_stored_once_and_give_any_other_rule(folder):
    given = samples(["church", "tench", "dog"])
    content = measure(metric(folder), "judge", {"concept": given}, None)
    stored = torch.tensor(content["evidence"]["concept"])
    assert stored.shape == (3, 1, 10, 2)
    features = metric(folder).features(given)
    for top in (1, 3, 10):
        again = (stored[:, 0, :top, 0] == 3).any(1)
        assert torch.equal(again, Ranked(features, {"class": {"church": 3}}, top).right({"class": "church"}))


def test_a_classifier_that_fails_is_an_error_and_never_a_concept_that_is_gone(folder, tmp_path):
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    weights = load_file(broken / "model.safetensors")
    save_file(
        weights | {"classifier.1.bias": torch.full((12,), torch.nan)}, broken / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(FloatingPointError, match=r"mine: concept: 0\.png: the classifier's answers are not finite"):
        measure(metric(str(broken)), "mine", {"concept": samples(["church"])}, None)
    headless = Path(shutil.copytree(folder, tmp_path / "headless"))
    save_file(
        {k: v for k, v in weights.items() if "classifier" not in k}, headless / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(ValueError, match="headless: not the weights of this classifier: it is without classifier.1"):
        measure(metric(str(headless)), "mine", {"concept": samples(["church"])}, None)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"classes": {}}, "classes must give"),
        ({"tops": (11,)}, "tops must be 1 to 10"),
        ({"classes": {"class": {"church": 12}}}, "has 12 classes, no number 12"),
        ({"classes": {"class": {"tench": 0}}}, "no class 'church', which the concept's target asks for"),
    ],
)
def test_what_cannot_be_judged_is_refused(folder, fields, says):
    with pytest.raises(ValueError, match=says):
        metric(folder, **fields).features(samples(["church"]))


class Block(nn.Module):
    """A bottleneck with torchvision's names and order of computation."""

    def __init__(self, wide, narrow, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(wide, narrow, 1, bias=False), nn.BatchNorm2d(narrow)
        self.conv2, self.bn2 = nn.Conv2d(narrow, narrow, 3, stride, 1, bias=False), nn.BatchNorm2d(narrow)
        self.conv3, self.bn3 = nn.Conv2d(narrow, 4 * narrow, 1, bias=False), nn.BatchNorm2d(4 * narrow)
        if stride > 1 or wide != 4 * narrow:
            self.downsample = nn.Sequential(
                nn.Conv2d(wide, 4 * narrow, 1, stride, bias=False), nn.BatchNorm2d(4 * narrow)
            )

    def forward(self, x):
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn3(self.conv3(self.bn2(self.conv2(y)).relu()))
        return (y + (self.downsample(x) if hasattr(self, "downsample") else x)).relu()


class ResNet50(nn.Module):
    """torchvision's ResNet-50, written anew from its description."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        wide = 64
        for number, (narrow, depth) in enumerate(zip((64, 128, 256, 512), (3, 4, 6, 3), strict=True), start=1):
            blocks = []
            for i in range(depth):
                blocks.append(Block(wide, narrow, 2 if number > 1 and i == 0 else 1))
                wide = 4 * narrow
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.fc = nn.Linear(2048, 1000)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
        return self.fc(x.mean((2, 3)))


def test_torchvisions_file_gives_torchvisions_answers(tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = ResNet50().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    path = tmp_path / "resnet50.pth"
    torch.save(network.state_dict(), path)
    given = samples(["church"] * 2)
    judge = load_classifier("", str(path))
    pixels = judge.prepare(to_pixels_of(given.images))
    assert pixels.shape == (2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(judge(to_pixels_of(given.images)), network(pixels), rtol=1e-4, atol=1e-4)
    small = dict(network.state_dict())
    del small["layer3.5.conv2.weight"]
    torch.save(small, path)
    load_classifier.cache_clear()
    with pytest.raises(ValueError, match="resnet50.pth: not the weights of torchvision's resnet50"):
        load_classifier("", str(path))
    with pytest.raises(FileNotFoundError, match="nowhere.pth is missing"):
        load_classifier("", "nowhere.pth")


def test_torchvisions_recipe_keeps_the_middle_of_the_shorter_side_s_square(folder):
    from stages.metrics.loading.networks import MEAN, STD, resized_pictures

    wide = torch.zeros(1, 3, 232, 464).byte()
    wide[..., 232 - 112 : 232 + 112] = 255
    pixels = resized_pictures(to_pixels_of(wide))[0]
    white = (1 - torch.tensor(MEAN)) / torch.tensor(STD)
    assert torch.allclose(pixels, white[:, None, None].expand_as(pixels))
