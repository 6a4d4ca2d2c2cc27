import pytest
import torch
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

from stages.metrics import references
from tests.metrics.told import Told, read_from_files


@pytest.fixture(autouse=True)
def told():
    with read_from_files(Told()) as judge:
        yield judge


@pytest.fixture(autouse=True)
def references_of_its_own(monkeypatch, tmp_path_factory):
    """No test reads what another one kept."""
    monkeypatch.setattr(references, "FOLDER", tmp_path_factory.mktemp("references"))


@pytest.fixture(scope="session")
def classifier_folder(tmp_path_factory) -> str:
    """A small ResNet of 12 classes with random weights, and the processor of microsoft/resnet-50 at another size."""
    path = tmp_path_factory.mktemp("classifier")
    config = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        num_labels=12,
        id2label={i: f"thing {i}" for i in range(12)},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ResNetForImageClassification(config).save_pretrained(path)
    ConvNextImageProcessorPil(size={"shortest_edge": 28}, crop_pct=0.875).save_pretrained(path)
    return str(path)


class Net(nn.Module):
    """A network of the interface that clean-fid's has: `layers` take (B, 3, 299, 299) to features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        convolution = nn.Sequential(nn.Conv2d(3, 8, 9, 4), nn.ReLU(), nn.Conv2d(8, width, 5, 4), nn.ReLU())
        self.layers = nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.fixture(scope="session")
def inception_file(tmp_path_factory) -> str:
    """A TorchScript file of random weights, 24 features."""
    path = tmp_path_factory.mktemp("inception") / "inception.pt"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.jit.script(Net(24)).save(str(path))
    return str(path)
