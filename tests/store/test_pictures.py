"""Pictures as people have them are read as a viewer shows them; what cannot be read is told in one line."""

import io
import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, features

from stages.store.opening import open_picture
from stages.store.pictures import read_folder, read_metadata, read_picture, write_sample

RED, BLUE = (200, 30, 40), (20, 40, 220)


def two_tone(mode="RGB"):
    """4 x 2 pixels, the left half red and the right half blue."""
    image = Image.new("RGB", (4, 2), RED)
    image.paste(BLUE, (2, 0, 4, 2))
    return image.convert(mode)


def near(picture, colour, most=3):
    return (255 * picture - torch.tensor(colour)[:, None, None]).abs().max() <= most


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tiff", "a.gif", "a.webp", "A.PNG", "a.ppm", "a.tga", "noname"])
def test_any_format_is_read(tmp_path, name):
    kind = "PNG" if "." not in name else None
    two_tone().save(tmp_path / name, kind, **({"lossless": True} if name.endswith("webp") else {}))
    (picture,) = read_folder(tmp_path)
    assert picture.shape == (3, 2, 4) and near(picture[:, :, :2], RED) and near(picture[:, :, 2:], BLUE)


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "JPG", "jp2", "avif"])
def test_lossy_formats_are_read(tmp_path, suffix):
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    Image.new("RGB", (16, 16), RED).save(tmp_path / f"a.{suffix}")
    assert near(read_folder(tmp_path)[0], RED, 6)


@pytest.mark.parametrize(("turn", "left"), [(1, RED), (2, BLUE), (3, BLUE), (4, RED)])
def test_a_photograph_is_upright(tmp_path, turn, left):
    exif = Image.Exif()
    exif[0x0112] = turn
    two_tone().save(tmp_path / "a.png", exif=exif)
    assert near(read_folder(tmp_path)[0][:, :, :2], left)
    exif[0x0112] = 6
    two_tone().save(tmp_path / "a.png", exif=exif)
    assert read_folder(tmp_path).shape == (1, 3, 4, 2)


def test_what_is_transparent_lies_over_white(tmp_path):
    image = Image.new("RGBA", (2, 1), (*RED, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    image.save(tmp_path / "a.png")
    image.getchannel("A").save(tmp_path / "mask.png")
    half = Image.new("LA", (2, 1), (0, 128))
    half.save(tmp_path / "b.png")
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 0, *RED])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "c.png", transparency=0)
    Image.new("RGB", (2, 1), RED).save(tmp_path / "d.png", transparency=RED)
    a, b, c, d, mask = read_folder(tmp_path)
    assert near(a[:, :, :1], RED, 0) and near(a[:, :, 1:], (255,) * 3, 0)
    assert near(b, (127,) * 3, 1)
    assert near(c[:, :, :1], (255,) * 3, 0) and near(c[:, :, 1:], RED, 0)
    assert near(d, (255,) * 3, 0) and mask[:, 0].tolist() == [[1.0, 0.0]] * 3


def test_sixteen_bits_and_grey_become_eight(tmp_path):
    values = np.array([[0, 257 * 100, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(values).save(tmp_path / "b.tiff")
    Image.fromarray(values.astype(np.int32)).save(tmp_path / "c.tiff")
    Image.fromarray(np.array([[0, 100 / 255, 1]], dtype=np.float32)).save(tmp_path / "d.tiff")
    Image.fromarray(np.array([[0, 100, 255]], dtype=np.uint8)).save(tmp_path / "e.png")
    for picture in read_folder(tmp_path):
        assert (255 * picture).round().int().tolist() == [[[0, 100, 255]]] * 3
    Image.fromarray(np.array([[True, False, True]])).save(tmp_path / "f.png")
    assert read_folder(tmp_path)[-1][0, 0].tolist() == [1, 0, 1]
    Image.fromarray(np.array([[0.0, 300.0, np.nan]], dtype=np.float32)).save(tmp_path / "g.tiff")
    with pytest.raises(ValueError, match=r"g\.tiff: a picture of mode F needs values from 0 to 1"):
        read_folder(tmp_path)


def test_cmyk_is_read_as_colours(tmp_path):
    Image.new("RGB", (16, 16), RED).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    two_tone("CMYK").save(tmp_path / "b.tiff")
    assert near(open_picture_tensor(tmp_path / "a.jpg"), RED, 6) and near(
        open_picture_tensor(tmp_path / "b.tiff")[:, :, :2], RED
    )


def open_picture_tensor(path):
    return torch.from_numpy(np.asarray(open_picture(path)).copy()).movedim(-1, 0).float() / 255


def test_an_embedded_profile_is_applied_and_a_broken_one_passed_over(tmp_path):
    swapped = swapped_profile()
    two_tone().save(tmp_path / "a.png", icc_profile=swapped)
    image = Image.new("RGBA", (4, 2), (*RED, 0))
    image.save(tmp_path / "b.png", icc_profile=swapped)
    two_tone().save(tmp_path / "c.png", icc_profile=b"no profile")
    two_tone().save(tmp_path / "d.png", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    a, b, c, d = read_folder(tmp_path)
    assert (a - c).abs().max() > 0.2  # other colours than the bare numbers
    assert near(b, (255,) * 3, 0) and near(c[:, :, :2], RED, 0) and torch.equal(c, d)


def swapped_profile():
    """The sRGB profile with the primaries of red and green exchanged."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {bytes(data[i : i + 4]): i for i in range(132, 132 + 12 * int.from_bytes(data[128:132], "big"), 12)}
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    data[red + 4 : red + 12], data[green + 4 : green + 12] = data[green + 4 : green + 12], data[red + 4 : red + 12]
    return bytes(data).replace("sRGB".encode("utf-16-be"), "RGBs".encode("utf-16-be"))


def test_the_first_frame_of_an_animation_counts(tmp_path):
    frames = [Image.new("RGB", (4, 2), colour) for colour in (RED, BLUE)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "b.webp", save_all=True, append_images=frames[1:], lossless=True)
    frames[0].save(tmp_path / "c.tiff", save_all=True, append_images=frames[1:])
    assert all(near(picture, RED) for picture in read_folder(tmp_path))


def test_hidden_files_are_left_out_and_what_is_no_picture_is_told(tmp_path, caplog):
    two_tone().save(tmp_path / "a.png")
    for name in (".DS_Store", "._a.png", "metadata.jsonl", "captions.txt", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"nothing")
    (tmp_path / "more").mkdir()
    two_tone().save(tmp_path / "more" / "b.png")
    with caplog.at_level(logging.WARNING):
        assert len(read_folder(tmp_path)) == 1
    told = [record.getMessage() for record in caplog.records]
    assert any("3 files that are no pictures are left out: Thumbs.db, captions.txt, metadata.jsonl" in t for t in told)
    assert any("1 subfolders are left out: more" in t for t in told) and len(told) == 2


def test_a_folder_without_pictures_says_what_it_has(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "train").mkdir()
    for folder in (tmp_path, tmp_path / "train", tmp_path / "nowhere", ""):
        with pytest.raises(FileNotFoundError, match="no PNG or JPEG pictures"):
            read_folder(folder)
    with pytest.raises(FileNotFoundError, match="have: notes.txt, train/"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.heic", b"\0\0\0\x18ftypheic", "Pillow reads no .heic here; save it as PNG"),
        ("a.svg", b"<svg/>", "Pillow reads no .svg here"),
        ("a.png", b"<html>not found</html>", "not a whole picture"),
        ("a.jpg", b"", "not a whole picture"),
        ("a.png", b"version https://git-lfs.github.com/spec/v1\n", "not a whole picture"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message) as error:
        read_folder(tmp_path)
    assert name in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "tiff", "bmp"])
def test_a_truncated_picture_is_refused(tmp_path, suffix):
    buffer, noise = io.BytesIO(), np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, {"jpg": "JPEG"}.get(suffix, suffix.upper()))
    (tmp_path / f"a.{suffix}").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(ValueError, match=rf"a\.{suffix}: not a whole picture"):
        read_folder(tmp_path)


def test_a_picture_too_large_to_open_is_refused(tmp_path, monkeypatch):
    two_tone().save(tmp_path / "a.png")
    two_tone().save(tmp_path / "b", "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3)
    with pytest.raises(ValueError, match=r"a\.png: too large a picture to open"):
        read_folder(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6)  # within twice that Pillow only warns
    assert len(read_folder(tmp_path)) == 2


def test_pictures_are_fitted_to_the_size_asked_for(tmp_path):
    Image.new("RGB", (1, 1), RED).save(tmp_path / "a.png")
    Image.new("RGB", (30, 10), BLUE).save(tmp_path / "b.jpg", quality=95)
    assert read_folder(tmp_path, (8, 6)).shape == (2, 3, 8, 6)
    with pytest.raises(ValueError, match="pictures differ in size"):
        read_folder(tmp_path)


def test_metadata_of_any_script_is_read_and_a_wrong_line_is_named(tmp_path):
    prompt = "ein\nHund \u0085 \u2028 كلب 🐕 e\u0301"
    line = write_sample(tmp_path, {"index": 0, "prompt": prompt, "seed": 1}, torch.rand(3, 2, 2))
    (tmp_path / "metadata.jsonl").write_text(json.dumps(line, ensure_ascii=False) + "\n\n", encoding="utf-8")
    (read,) = read_metadata(tmp_path)
    assert read["prompt"] == prompt and read_picture(tmp_path, read).shape == (3, 2, 2)
    for text, message in (("{}", "line 1: expected an object with file, prompt, seed"), ("[", "line 1: not JSON")):
        (tmp_path / "metadata.jsonl").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_metadata(tmp_path)
