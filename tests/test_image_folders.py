"""Folders of images as people have them: splits, classes, hidden copies, links, shards, odd suffixes and depths.

Every folder holds images of known pixels, so that what was read, from where and in which order is compared exactly.
"""

import json
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from validation.data import load
from validation.data.stored.raw import DataError

SHAPE = (4, 5)


def pixels(k):
    """Image number k, unlike all others."""
    return np.random.default_rng(k).integers(0, 256, SHAPE, dtype=np.uint8)


def lay(folder, **places):
    """Images into subfolders: `lay(tmp, **{"train/cat": [0, 1]})`; image k is called k.png, with leading zeros."""
    for place, numbers in places.items():
        (folder / place).mkdir(parents=True, exist_ok=True)
        for k in numbers:
            Image.fromarray(pixels(k)).save(folder / place / f"{k:03d}.png")


def numbers(X):
    """Which images the rows are."""
    table = {pixels(k).tobytes(): k for k in range(100)}
    stored = np.rint((np.asarray(X, np.float64) + 1) * 127.5).astype(np.uint8)
    return [table[row.tobytes()] for row in stored]


# --- splits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "held"),
    [
        ("train", "val"), ("train", "test"), ("training", "testing"), ("Train", "Valid"), ("train", "validation"),
        ("train2017", "val2017"), ("train_images", "test_images"), ("trn", "tst"), ("TRAIN", "TEST"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("classes", [("cat", "dog"), ("",)])
def test_splits_are_splits_and_not_classes(tmp_path, train, held, classes):
    lay(tmp_path, **{f"{train}/{c}": [10 * i, 10 * i + 1, 10 * i + 2] for i, c in enumerate(classes)})
    lay(tmp_path, **{f"{held}/{c}": [50 + i] for i, c in enumerate(classes)})
    data = load(tmp_path)
    assert numbers(data.X) == [10 * i + k for i in range(len(classes)) for k in range(3)]
    assert numbers(data.held_out) == [50 + i for i in range(len(classes))]
    assert data.dropped == (f"held-out samples are {held}/",)
    if len(classes) == 2:
        assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    else:
        assert data.labels is None


def test_the_test_split_goes_before_the_validation_split_and_the_rest_is_counted(tmp_path):
    lay(tmp_path, train=[0, 1, 2], val=[3, 4], test=[5], unlabeled=[6, 7])
    Image.fromarray(pixels(9)).save(tmp_path / "preview.png")
    data = load(tmp_path)
    assert numbers(data.X) == [0, 1, 2]
    assert numbers(data.held_out) == [5]
    assert data.dropped == (
        "held-out samples are test/",
        "images outside the training and held-out folders were left out: 1 beside them, 2 in unlabeled/, 2 in val/",
    )


def test_splits_inside_each_class(tmp_path):
    lay(tmp_path, **{"cup/train/good": [0, 1], "cup/test/broken": [2], "nut/train/good": [3, 4], "nut/test/good": [5]})
    data = load(tmp_path)
    assert numbers(data.X) == [0, 1, 3, 4]
    assert numbers(data.held_out) == [2, 5]
    assert data.labels.tolist() == [0, 0, 1, 1]


def test_a_class_called_train_is_a_class(tmp_path):
    lay(tmp_path, bus=[0, 1], train=[2, 3], trains=[4])
    data = load(tmp_path)
    assert numbers(data.X) == [0, 1, 2, 3, 4]
    assert data.labels.tolist() == [0, 0, 1, 1, 2]
    assert data.held_out is None


def test_train_alone_has_its_classes(tmp_path):
    lay(tmp_path, **{"train/cat": [0, 1], "train/dog": [2]})
    assert load(tmp_path).labels.tolist() == [0, 0, 1]
    assert load(tmp_path / "train").labels.tolist() == [0, 0, 1]


def test_held_out_folders_without_training_images_are_refused(tmp_path):
    lay(tmp_path, test=[0, 1], val=[2, 3])
    with pytest.raises(DataError, match=r"it holds test/, val/ and no training images; expected train/ beside them"):
        load(tmp_path)
    assert numbers(load(tmp_path / "test").X) == [0, 1]


def test_limit_draws_from_each_split_and_labels_keep_their_meaning(tmp_path):
    lay(tmp_path, **{"train/a": [0], "train/b": range(1, 9), "val/b": range(20, 40)})
    data = load(tmp_path, limit=3, seed=1)
    chosen = np.sort(np.random.default_rng(1).choice(9, 3, replace=False))
    assert numbers(data.X) == chosen.tolist()
    assert data.labels.tolist() == [int(k > 0) for k in chosen]
    assert len(data.held_out) == 3
    assert "3 of 20 held-out samples were drawn, as many as limit allows" in data.dropped


def test_held_out_images_have_the_size_and_colours_of_the_training_images(tmp_path):
    lay(tmp_path, train=[0, 1], test=[2])
    colour = np.random.default_rng(99).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    Image.fromarray(colour).save(tmp_path / "test" / "x.png")
    data = load(tmp_path)
    assert data.shape == (3, *SHAPE)
    assert data.held_out.shape == (2, 60)
    Image.fromarray(colour[:3]).save(tmp_path / "test" / "y.png")
    with pytest.raises(DataError, match=r"ragged: 000.png is 5x4, y.png is 5x3"):
        load(tmp_path)


# --- hidden folders, links ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [".ipynb_checkpoints", ".thumbnails", ".git", "__MACOSX", "@eaDir", "$RECYCLE.BIN"])
@pytest.mark.parametrize("inside", ["", "cat/"])
def test_hidden_copies_are_left_out_and_counted(tmp_path, name, inside):
    lay(tmp_path, cat=[0, 1], dog=[2])
    lay(tmp_path, **{f"{inside}{name}": [0, 1]})
    data = load(tmp_path)
    assert numbers(data.X) == [0, 1, 2]
    assert data.labels.tolist() == [0, 0, 1]
    assert data.dropped == (f"2 hidden images were left out ({name}/)",)


def test_what_is_no_image_is_counted(tmp_path):
    lay(tmp_path, cat=[0, 1])
    for name in ("labels.csv", "cat/a.txt", "cat/b.txt", "cat/c.heic", "README", ".DS_Store", "cat/._000.png"):
        (tmp_path / name).write_bytes(b"x")
    data = load(tmp_path)
    assert numbers(data.X) == [0, 1]
    assert data.dropped == (
        "1 hidden images were left out (hidden files)",
        "5 files are no images by their suffix and were left out (1 .csv, 1 .heic, 2 .txt, 1 no suffix)",
    )


def test_linked_class_folders_are_read(tmp_path):
    lay(tmp_path, **{"elsewhere/dogs": [2, 3], "data/cat": [0, 1]})
    (tmp_path / "data" / "dog").symlink_to(tmp_path / "elsewhere" / "dogs")
    data = load(tmp_path / "data")
    assert numbers(data.X) == [0, 1, 2, 3]
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert data.dropped == ()


def test_a_folder_reached_twice_is_read_once_under_its_own_name(tmp_path):
    lay(tmp_path, zebra=[0, 1], cat=[2])
    (tmp_path / "alias").symlink_to(tmp_path / "zebra")
    data = load(tmp_path)
    assert numbers(data.X) == [2, 0, 1]
    assert data.labels.tolist() == [0, 1, 1]
    assert data.dropped == (
        "1 folders hold no images and are no classes (alias)",
        "1 linked folders lead to folders read already and were left out (alias)",
    )


def test_loops_of_links_end(tmp_path):
    lay(tmp_path, cat=[0, 1], dog=[2])
    (tmp_path / "cat" / "up").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    (tmp_path / "ping").symlink_to("pong")
    (tmp_path / "pong").symlink_to("ping")
    data = load(tmp_path)
    assert numbers(data.X) == [0, 1, 2]
    assert data.labels.tolist() == [0, 0, 1]
    assert data.dropped == (
        "1 linked folders lead to folders read already and were left out (cat/up)",
        "4 links lead nowhere or in a circle and were left out (gone, ping, pong, ...)",
    )


@pytest.mark.parametrize("target", [".", "up", "../inner"])
def test_a_folder_of_nothing_but_a_loop_is_an_error(tmp_path, target):
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "up").symlink_to(target)
    with pytest.raises(DataError, match=r"inner: nothing readable in it \(it holds up\)"):
        load(inner)


def test_unreadable_folders_are_an_error_and_not_dropped(tmp_path):
    lay(tmp_path, cat=[0, 1], dog=[2])
    (tmp_path / "dog").chmod(0)
    try:
        if os.access(tmp_path / "dog", os.R_OK):
            pytest.skip("this user reads everything")
        with pytest.raises(DataError, match=r"dog: cannot be listed \(Permission denied\)"):
            load(tmp_path)
    finally:
        (tmp_path / "dog").chmod(0o755)


# --- classes ------------------------------------------------------------------------------------------------------------


def test_classes_that_are_numbers_are_in_the_order_of_numbers(tmp_path):
    lay(tmp_path, **{str(c): [c] for c in (10, 9, 2, 1)})
    data = load(tmp_path)
    assert numbers(data.X) == [1, 10, 2, 9]  # files stay in the order of their names
    assert data.labels.tolist() == [0, 3, 1, 2]


@pytest.mark.parametrize("labels", [True, False])
def test_shards_of_edm_are_no_classes(tmp_path, labels):
    lay(tmp_path, **{"00000": [0, 1], "00001": [2]})
    listed = [["00000/000.png", 6], ["00001/002.png", 6], ["00000/001.png", 3]] if labels else None
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": listed}))
    data = load(tmp_path)
    assert numbers(data.X) == [0, 1, 2]
    assert (data.labels is None) if not labels else (data.labels.tolist() == [6, 3, 6])


# --- formats and depths ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "JFIF"])
def test_jpegs_by_other_names(tmp_path, suffix):
    for k in range(3):
        Image.fromarray(pixels(k)).save(tmp_path / f"{k}.jpg", quality=95)
    expected = load(tmp_path).X
    (tmp_path / "1.jpg").rename(tmp_path / f"1.{suffix}")
    np.testing.assert_array_equal(load(tmp_path).X, expected)


def deep_png(path, image):
    """A colour PNG of 16 bits a channel, written by hand: Pillow reads but does not write them."""
    height, width, channels = image.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in image)

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6, 2: 4}[channels], 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_sixteen_bits_in_colour_are_refused_and_not_cut_to_eight(tmp_path, channels):
    for k in range(3):
        deep_png(tmp_path / f"{k}.png", np.random.default_rng(k).integers(0, 4096, (*SHAPE, channels)))
    with pytest.raises(DataError, match=r"0.png: its pixels are not 8-bit .*save the numbers as .npy"):
        load(tmp_path)


def test_other_deep_formats_are_refused(tmp_path):
    (tmp_path / "p").mkdir()
    for k in range(2):
        body = np.random.default_rng(k).integers(0, 1024, (*SHAPE, 3)).astype(">u2").tobytes()
        (tmp_path / "p" / f"{k}.ppm").write_bytes(b"P6 5 4 1023\n" + body)
    with pytest.raises(DataError, match=r"0.ppm: its pixels are not 8-bit \(levels up to 1023\)"):
        load(tmp_path / "p")
    (tmp_path / "j").mkdir()
    deep = np.random.default_rng(0).integers(0, 4096, (32, 32)).astype(np.uint16)
    for k in range(2):
        Image.fromarray(deep + k).save(tmp_path / "j" / f"{k}.jp2", irreversible=False)
    with pytest.raises(DataError, match=r"0.jp2: its pixels are not 8-bit"):
        load(tmp_path / "j")


def test_an_eight_bit_jpeg2000_is_read_bit_for_bit(tmp_path):
    for k in range(3):
        Image.fromarray(pixels(k)).save(tmp_path / f"{k}.jp2", irreversible=False)
    assert numbers(load(tmp_path).X) == [0, 1, 2]


def test_a_format_that_runs_other_programs_is_never_opened(tmp_path):
    """A file called .png may hold PostScript, which Pillow hands to Ghostscript."""
    lay(tmp_path, cat=[0, 1])
    (tmp_path / "cat" / "9.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 4\n%%EndComments\nshowpage\n"
    )
    with pytest.raises(DataError, match=r"9.png: cannot be read \(UnidentifiedImageError"):
        load(tmp_path)


def test_an_exif_orientation_is_said(tmp_path):
    for k in range(2):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(pixels(k)).save(tmp_path / f"{k}.png", exif=exif)
    data = load(tmp_path)
    assert numbers(data.X) == [0, 1]
    assert data.shape == SHAPE
    assert data.dropped == ("2 images have an EXIF orientation, which was not applied: pixels are as stored",)


# --- troubles told in public: of torchvision's, datasets' and Pillow's users ------------------------------------------------


@pytest.mark.parametrize("name", ["train.png", "a test.png", "val_01.png", "test.png"])
def test_names_of_files_are_no_splits(tmp_path, name):
    """datasets took the one file called train for the whole training split (huggingface/datasets 5021, 7201)."""
    lay(tmp_path, **{"": [0, 1]})
    Image.fromarray(pixels(2)).save(tmp_path / name)
    data = load(tmp_path)
    assert sorted(numbers(data.X)) == [0, 1, 2]
    assert data.held_out is None
    assert data.dropped == ()


def test_empty_classes_are_said(tmp_path):
    """torchvision refuses them or numbers them (pytorch/vision 4925, 8297)."""
    lay(tmp_path, cat=[0, 1], dog=[], emu=[2])
    data = load(tmp_path)
    assert data.labels.tolist() == [0, 0, 1]
    assert data.dropped == ("1 folders hold no images and are no classes (dog)",)


def test_flat_held_out_images_beside_classes(tmp_path):
    """As ImageNet is unpacked: train/ has classes, val/ has none."""
    lay(tmp_path, **{"train/n01": [0, 1], "train/n02": [2], "val": [3, 4]})
    data = load(tmp_path)
    assert numbers(data.X) == [0, 1, 2]
    assert numbers(data.held_out) == [3, 4]
    assert data.labels.tolist() == [0, 0, 1]


def test_truncated_images_are_refused_though_pillow_was_told_to_fill_them(tmp_path, monkeypatch):
    """The advice given everywhere (pytorch/vision 138); the rest of the image is then grey, without a word."""
    from PIL import ImageFile

    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for k in range(2):
        Image.fromarray(np.kron(pixels(k), np.ones((8, 8), np.uint8))).save(tmp_path / f"{k}.jpg")
    whole = (tmp_path / "1.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(DataError, match=r"1.jpg: cannot be read .*[Tt]runcated"):
        load(tmp_path)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_images_of_one_bit_are_black_and_white(tmp_path):
    """Some programs get 0 and 1, or the negative (python-pillow/Pillow 7045)."""
    bits = pixels(0) > 127
    for k, image in enumerate((bits, ~bits)):
        Image.fromarray(image).save(tmp_path / f"{k}.png")
    stored = np.stack([bits, ~bits]).reshape(2, -1)
    np.testing.assert_array_equal(load(tmp_path).X, np.where(stored, 1, -1))


def test_contents_go_before_suffixes(tmp_path):
    """ImageNet has a PNG called .JPEG and JPEGs in CMYK; clean-fid overlooked the suffix JPEG (GaParmar/clean-fid 4)."""
    colour = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    Image.fromarray(colour).save(tmp_path / "a.JPEG", "PNG")
    Image.fromarray(np.full((*SHAPE, 4), 40, np.uint8), "CMYK").save(tmp_path / "b.JPEG", "JPEG")
    with Image.open(tmp_path / "b.JPEG") as image:
        assert image.mode == "CMYK"
        inks = np.asarray(image).astype(float)
    data = load(tmp_path, scaling="none")
    np.testing.assert_array_equal(data.X[0], colour.transpose(2, 0, 1).ravel())
    light = (255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255  # naive inks, no colour profile
    np.testing.assert_allclose(data.X[1], light.transpose(2, 0, 1).ravel(), atol=1.0)


def test_transparent_images_show_their_stored_colours(tmp_path):
    """What lies under transparent pixels is neither black nor white, and it is said (NVIDIA/DIGITS 85)."""
    for k in range(2):
        Image.fromarray(np.dstack([pixels(k), np.zeros(SHAPE, np.uint8)]), "LA").save(tmp_path / f"{k}.png")
    data = load(tmp_path)
    assert numbers(data.X) == [0, 1]
    assert data.dropped == ("2 images had an alpha channel, which was dropped",)
