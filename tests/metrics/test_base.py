"""What metrics read: one set of samples at a time, its pictures as bytes until they are looked at."""

import pytest
import torch

from stages.metrics.samples import SampleFolders, Samples, floats, read_samples
from stages.store.pictures import write_sample

TARGET = {"colour": "red"}


def drawn(n: int, seed: int = 0, frames: int = 0) -> Samples:
    """Samples whose pictures are dark bytes."""
    size = (n, frames, 3, 32, 32) if frames else (n, 3, 32, 32)
    images = torch.randint(128, size, generator=torch.Generator().manual_seed(seed)).byte()
    rows = [{"prompt": f"a red {i}", "seed": i, "colour": "red", "index": i} for i in range(n)]
    return Samples(images, rows, TARGET)


def written(folder, given: Samples) -> None:
    folder.mkdir(parents=True)
    lines = [write_sample(folder, row, image) for row, image in zip(given.rows, floats(given.images), strict=True)]
    (folder / "metadata.jsonl").write_text("".join(f"{line}\n".replace("'", '"') for line in lines))


@pytest.mark.parametrize("frames", [0, 3])
def test_files_are_read_as_bytes_and_only_when_asked_for(tmp_path, frames):
    given = drawn(3, frames=frames)
    written(tmp_path / "concept", given)
    folders = SampleFolders(tmp_path, ("concept", "absent"), TARGET)
    assert list(folders) == ["concept", "absent"]
    read = folders["concept"]
    assert read.images.dtype == torch.uint8 and torch.equal(read.images, given.images)
    assert read.prompts == given.prompts and read_samples(tmp_path / "concept", TARGET).target == TARGET
    with pytest.raises(FileNotFoundError, match="absent"):
        folders["absent"]


@pytest.mark.parametrize(("frames", "sizes"), [(0, [256, 44]), (100, [2] * 3), (300, [1] * 6)])
def test_parts_are_whole_samples_in_order(frames, sizes):
    n = sum(sizes)
    size = (n, frames, 3, 1, 1) if frames else (n, 3, 1, 1)
    images = torch.randint(256, size, generator=torch.Generator().manual_seed(0)).byte()
    given = Samples(images, [{"prompt": str(i), "seed": i} for i in range(n)], {})
    parts = list(given.parts())
    assert [len(part.rows) for part in parts] == sizes
    assert torch.equal(torch.cat([part.images for part in parts]), images.float() / 255)
    assert [prompt for part in parts for prompt in part.prompts] == given.prompts
