"""Every format `load` reads comes back bit for bit, and every broken file gets an error that names it."""

import gzip
import io
import os
import pickle
import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from numerics.domain import DomainError
from validation.data.dataset import DataError, load

RNG = np.random.default_rng(20250210)
PIXELS = RNG.integers(0, 256, (12, 5, 4), dtype=np.uint8)
PIXELS[0, 0, :2] = 0, 255
LABELS = np.arange(12) % 3
FLOATS = RNG.standard_normal((9, 6)).astype(np.float32)


def mapped(pixels):
    return (pixels.reshape(len(pixels), -1).astype(np.float32) / np.float32(127.5) - np.float32(1)).astype(np.float32)


def same(X, expected):
    """Bitwise equality, dtype and shape included."""
    assert X.dtype == expected.dtype
    assert X.shape == expected.shape
    assert X.tobytes() == np.ascontiguousarray(expected).tobytes()


# --- NumPy files ---------------------------------------------------------------------------------------------------


def test_digits_by_name(tmp_path, monkeypatch):
    assert load("digits", limit=5).X.tolist() == load(limit=5).X.tolist()
    monkeypatch.chdir(tmp_path)
    np.save("digits.npy", np.eye(4))
    (tmp_path / "digits.npy").rename("digits")
    with pytest.raises(DataError):  # a file of that name goes first, and this one is of no known kind
        load("digits")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_float_npy_stays_memory_mapped_and_as_it_is(tmp_path, dtype):
    stored = FLOATS.astype(dtype)
    np.save(tmp_path / "x.npy", stored)
    data = load(tmp_path / "x.npy")
    same(data.X, stored)
    base = data.X
    while base.base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    assert (data.name, data.shape, data.P, data.N) == ("x", (6,), 9, 6)
    assert data.scale.startswith("values as stored")
    data.X[0, 0] += 1  # writable for torch's sake, yet the file never changes
    same(np.load(tmp_path / "x.npy"), stored)


def test_a_file_too_large_to_map_copy_on_write_is_mapped_read_only(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", FLOATS)
    original = np.load

    def refuse(path, mmap_mode, **options):
        if mmap_mode == "c":
            raise OSError("Cannot allocate memory")
        return original(path, mmap_mode=mmap_mode, **options)

    monkeypatch.setattr(np, "load", refuse)
    data = load(tmp_path / "x.npy")
    same(data.X, FLOATS)
    assert not data.X.flags.writeable


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (FLOATS.astype(np.float16), FLOATS.astype(np.float16).astype(np.float32)),
        (FLOATS.astype(">f4"), FLOATS),
        (np.asfortranarray(FLOATS), FLOATS),
        (FLOATS > 0, (FLOATS > 0).astype(np.float32)),
        (np.arange(12).reshape(3, 4), np.arange(12, dtype=np.float32).reshape(3, 4)),
        (np.arange(12).reshape(3, 4) + 2**40, np.arange(12, dtype=np.float64).reshape(3, 4) + 2.0**40),
    ],
    ids=["float16", "big-endian", "Fortran", "bool", "int64", "large int64"],
)
def test_other_number_types_keep_their_values(tmp_path, stored, expected):
    np.save(tmp_path / "x.npy", stored)
    same(load(tmp_path / "x.npy").X, expected)


def test_uint8_is_mapped_as_edm_does(tmp_path):
    np.save(tmp_path / "x.npy", PIXELS)
    data = load(tmp_path / "x.npy")
    same(data.X, mapped(PIXELS))
    assert (data.X.min(), data.X.max()) == (-1, 1)
    assert data.scale == "pixels mapped from [0, 255] to [-1, 1]"
    same(load(tmp_path / "x.npy", scaling="none").X, PIXELS.reshape(12, 20).astype(np.float32))
    same(load(tmp_path / "x.npy", scaling="unit").X, PIXELS.reshape(12, 20) / np.float32(255))


def test_binary_pixels_are_not_squeezed_into_a_corner(tmp_path):
    np.save(tmp_path / "x.npy", PIXELS // 128)
    data = load(tmp_path / "x.npy")
    assert set(np.unique(data.X)) == {-1, 1}
    assert "[0, 1]" in data.scale


def test_unit_scaling_of_floats_uses_their_own_range(tmp_path):
    np.save(tmp_path / "x.npy", FLOATS)
    X = load(tmp_path / "x.npy", scaling="unit").X
    assert (X.min(), X.max()) == (0, 1)
    np.testing.assert_allclose(X, (FLOATS - FLOATS.min()) / np.ptp(FLOATS), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_channels_come_first(tmp_path, dtype):
    colour = RNG.integers(0, 256, (4, 6, 5, 3)).astype(dtype)
    np.save(tmp_path / "x.npy", colour)
    data = load(tmp_path / "x.npy", scaling="none")
    assert data.shape == (3, 6, 5)
    same(data.X, np.ascontiguousarray(colour.transpose(0, 3, 1, 2)).reshape(4, -1).astype(np.float32))


@pytest.mark.parametrize("name", ["x", "X", "data", "images", "train", "x_train", "train_images"])
def test_npz_chooses_by_name_and_finds_labels_and_held_out(tmp_path, name):
    np.savez(tmp_path / "d.npz", **{name: PIXELS, "x_test": PIXELS[:5], "y_train": LABELS, "other": FLOATS})
    data = load(tmp_path / "d.npz")
    same(data.X, mapped(PIXELS))
    same(data.held_out, mapped(PIXELS[:5]))
    same(data.labels, LABELS)
    assert name in data.source


def test_npz_key_and_single_arrays(tmp_path):
    np.savez_compressed(tmp_path / "two.npz", a=FLOATS, b=FLOATS + 1)
    same(load(tmp_path / "two.npz", key="b").X, FLOATS + 1)
    with pytest.raises(
        DataError, match=r"two.npz: several .* a \(9, 6\) float32, b \(9, 6\) float32. Choose with key="
    ):
        load(tmp_path / "two.npz")
    with pytest.raises(DataError, match="no array 'c'"):
        load(tmp_path / "two.npz", key="c")
    np.savez(tmp_path / "one.npz", sigma=FLOATS, y=np.arange(9)[:, None])
    same(load(tmp_path / "one.npz").X, FLOATS)
    same(load(tmp_path / "one.npz").labels, np.arange(9))
    np.savez(tmp_path / "none.npz", y=np.arange(9), z=np.arange(3))
    with pytest.raises(DataError, match="no array could be the data"):
        load(tmp_path / "none.npz")


# --- IDX -----------------------------------------------------------------------------------------------------------


def idx_bytes(array, code=0x08):
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_with_its_companions(tmp_path, zipped):
    def write(name, content):
        (tmp_path / (name + ".gz" * zipped)).write_bytes(gzip.compress(content) if zipped else content)

    write("train-images-idx3-ubyte", idx_bytes(PIXELS))
    write("train-labels-idx1-ubyte", idx_bytes(LABELS.astype(np.uint8)))
    write("t10k-images-idx3-ubyte", idx_bytes(PIXELS[3:8]))
    for path in (tmp_path / ("train-images-idx3-ubyte" + ".gz" * zipped), tmp_path):  # a file, and a folder of them
        data = load(path)
        same(data.X, mapped(PIXELS))
        same(data.labels, LABELS.astype(np.uint8))
        same(data.held_out, mapped(PIXELS[3:8]))
        assert data.shape == (5, 4)
    assert load(tmp_path.parent / tmp_path.name / ".").P == 12


@pytest.mark.parametrize(("code", "stored"), [(0x0D, ">f4"), (0x0E, ">f8"), (0x0B, ">i2"), (0x0C, ">i4"), (0x09, "i1")])
def test_idx_number_types_are_big_endian(tmp_path, code, stored):
    array = (FLOATS * 10).astype(stored)
    (tmp_path / "numbers.idx2").write_bytes(idx_bytes(array, code))
    expected = np.float64 if stored == ">f8" else np.float32
    same(load(tmp_path / "numbers.idx2").X, array.astype(expected))


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda b: b[:-1], "truncated: 239 of 240"),
        (lambda b: b + b"\0", "follow its 240 data bytes"),
        (lambda b: b"\x01" + b[1:], "wrong magic number"),
        (lambda b: b[:2] + b"\x07" + b[3:], "wrong magic number"),
        (lambda b: b[:9], "inside its header"),
        (lambda b: b[:4] + b"\xff" * 12 + b[16:], "truncated"),
    ],
)
def test_broken_idx(tmp_path, zipped, spoil, message):
    path = tmp_path / ("train-images-idx3-ubyte" + ".gz" * zipped)
    content = spoil(idx_bytes(PIXELS))
    path.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(DataError, match=message) as error:
        load(path)
    assert str(path) in str(error.value)


def test_broken_gzip_and_companions(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    good = gzip.compress(idx_bytes(PIXELS))
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0xFF
    for content in (good[: len(good) // 2], bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz: .*Download it again|again"):
            load(path)
    path.write_bytes(idx_bytes(PIXELS))
    with pytest.raises(DataError, match="gzip's magic number"):
        load(path)
    path.write_bytes(good)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(LABELS[:-1].astype(np.uint8)))
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte: its shape is .11,."):
        load(path)
    with pytest.raises(DataError, match="Give the images file"):
        load(tmp_path / "train-labels-idx1-ubyte")


# --- CIFAR ---------------------------------------------------------------------------------------------------------

CIFAR = RNG.integers(0, 256, (6, 3072), dtype=np.uint8)


def python2_batch(data, labels, label_name=b"labels"):
    """The byte stream Python 2's cPickle wrote for CIFAR: protocol 2, old NumPy module names, str as BINSTRING."""

    def text(value):
        return b"T" + struct.pack("<I", len(value)) + value

    def number(value):
        return b"J" + struct.pack("<i", value)

    dtype = b"cnumpy\ndtype\n(" + text(b"u1") + number(0) + number(1) + b"tR"
    dtype += b"(" + number(3) + text(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(" + number(0) + b"t" + text(b"b") + b"tR"
    array += b"(" + number(1) + b"(" + number(data.shape[0]) + number(data.shape[1]) + b"t" + dtype + b"\x89"
    array += text(data.tobytes()) + b"tb"
    numbers = b"](" + b"".join(map(number, labels)) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(label_name) + numbers + b"u."


@pytest.mark.parametrize("writer", ["python2", 2, 5])
def test_cifar10_python_folder(tmp_path, writer):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    labels = [[1, 9], [0, 3], [5, 5]]
    for k, name in enumerate(["data_batch_1", "data_batch_2", "test_batch"]):
        rows = CIFAR[2 * k : 2 * k + 2]
        fields = {b"data": rows, b"labels": labels[k], b"batch_label": b"x"}
        content = python2_batch(rows, labels[k]) if writer == "python2" else pickle.dumps(fields, protocol=writer)
        (folder / name).write_bytes(content)
    for path in (folder, tmp_path):  # also from one level up
        data = load(path)
        same(data.X, mapped(CIFAR[:4]))
        same(data.held_out, mapped(CIFAR[4:]))
        assert data.labels.tolist() == [1, 9, 0, 3]
        assert (data.shape, data.name) == ((3, 32, 32), "cifar-10-batches-py")
        assert "2 of CIFAR-10's 5 training batches" in data.dropped[0]
    same(load(folder / "data_batch_2").X, mapped(CIFAR[2:4]))


def test_cifar100_python_folder_has_fine_labels(tmp_path):
    for name, rows in (("train", CIFAR[:4]), ("test", CIFAR[4:]), ("meta", None)):
        fields = {"data": rows, "fine_labels": list(range(70, 70 + len(rows))), "coarse_labels": [1] * len(rows)} if (
            rows is not None
        ) else {}  # fmt: skip
        (tmp_path / name).write_bytes(pickle.dumps(fields, protocol=2))
    data = load(tmp_path)
    same(data.X, mapped(CIFAR[:4]))
    same(data.held_out, mapped(CIFAR[4:]))
    assert data.labels.tolist() == [70, 71, 72, 73]


def test_cifar_binary_batches(tmp_path):
    ten, hundred = tmp_path / "ten", tmp_path / "hundred"
    for folder, names, prefix in (
        (ten, ("data_batch_1.bin", "test_batch.bin"), [[3], [9], [0]]),
        (hundred, ("train.bin", "test.bin"), [[3, 99], [19, 20], [0, 7]]),
    ):
        folder.mkdir()
        for name, start in zip(names, (0, 3), strict=True):
            records = np.hstack([np.array(prefix, np.uint8), CIFAR[start : start + 3]])
            (folder / name).write_bytes(records.tobytes())
        data = load(folder)
        same(data.X, mapped(CIFAR[:3]))
        same(data.held_out, mapped(CIFAR[3:]))
        assert data.labels.tolist() == [p[-1] for p in prefix]
        same(load(folder / names[0]).X, mapped(CIFAR[:3]))
    path = ten / "data_batch_1.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"data_batch_1.bin: 9218 bytes are not a whole number"):
        load(ten)
    path.write_bytes(b"\xff" * 3073 * 2)  # the size fits, the labels do not
    with pytest.raises(DataError, match="labels under 10"):
        load(path)


class Trap:
    """A pickle that would run code."""

    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("call", ["mkdir", "eval", "object dtype", "codec"])
def test_hostile_pickles_are_refused_unrun(tmp_path, call):
    mark = tmp_path / "executed"
    traps = {
        "mkdir": Trap((os.mkdir, (str(mark),))),
        "eval": Trap((eval, (f"__import__('os').mkdir({str(mark)!r})",))),
        "object dtype": np.array([1, "a"], dtype=object),
        "codec": Trap((__import__("_codecs").encode, ("a", "idna"))),
    }
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({b"data": traps[call], b"labels": [0, 1]}, protocol=2))
    with pytest.raises(DataError, match=r"data_batch_1: cannot be unpickled \(the pickle asks for"):
        load(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (python2_batch(CIFAR, range(6))[:-50], "unpickled"),
        (python2_batch(CIFAR[:, :100], range(6)), r"data of shape \(6, 100\)"),
        (python2_batch(CIFAR, range(5)), "5 labels for 6 images"),
        (pickle.dumps([1, 2]), "no data array"),
        (b"\x80\x02garbage.", "unpickled"),
    ],
    ids=["truncated", "wrong width", "few labels", "no dict", "garbage"],
)
def test_broken_cifar_batches(tmp_path, content, message):
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(path)


# --- folders of images ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "pgm", "PNG"])
def test_grey_images_bit_for_bit(tmp_path, suffix):
    for k in (3, 0, 1, 2):
        Image.fromarray(PIXELS[k]).save(tmp_path / f"im{k}.{suffix}")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "._im9.png").write_bytes(b"left by an archiver")
    data = load(tmp_path)
    same(data.X, mapped(PIXELS[:4]))
    assert data.shape == (5, 4)
    assert data.labels is None


def test_celeba_layout_recursion_and_jpeg(tmp_path):
    folder = tmp_path / "img_align_celeba"
    folder.mkdir()
    smooth = np.add.outer(np.arange(22), np.arange(18))
    stored = []
    for k in (2, 1, 3):
        image = Image.fromarray(np.stack([5 * smooth + k, 255 - 5 * smooth, 3 * smooth], 2).astype(np.uint8))
        image.save(folder / f"{k:06d}.jpg", quality=95)
    for k in (1, 2, 3):
        with Image.open(folder / f"{k:06d}.jpg") as image:
            stored.append(np.asarray(image).transpose(2, 0, 1))
    data = load(tmp_path)
    assert data.shape == (3, 22, 18)
    same(data.X, mapped(np.array(stored)))


def test_colour_modes_and_class_folders(tmp_path):
    colour = RNG.integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    for name, image in (
        ("b/one.png", Image.fromarray(colour[0])),
        ("a/alpha.png", Image.fromarray(np.dstack([colour[1], np.full((4, 4), 7, np.uint8)]))),
        ("a/grey.png", Image.fromarray(PIXELS[0, :4])),
        ("b/palette.png", Image.fromarray(colour[2]).quantize(16)),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        image.save(tmp_path / name)
    data = load(tmp_path)
    grey = np.repeat(PIXELS[0, :4][None], 3, axis=0)
    same(data.X[:3], mapped(np.array([colour[1].transpose(2, 0, 1), grey, colour[0].transpose(2, 0, 1)])))
    same(data.X[3:], mapped(colour[2].transpose(2, 0, 1)[None]))  # 16 pixels fit a palette of 16
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert data.dropped == (
        "1 images had an alpha channel, which was dropped",
        "1 grey images among 3 in colour were read as colour",
    )


def test_image_size_crops_the_central_square(tmp_path):
    wide = RNG.integers(0, 256, (4, 10), dtype=np.uint8)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray(np.full((8, 8), 9, np.uint8)).save(tmp_path / "big.png")
    with pytest.raises(DataError, match=r"ragged: big.png is 8x8, wide.png is 10x4.*image_size="):
        load(tmp_path)
    data = load(tmp_path, image_size=4)
    same(data.X, mapped(np.array([np.full((4, 4), 9, np.uint8), wide[:, 3:7]])))


def test_limit_draws_before_decoding(tmp_path):
    for k in range(8):
        Image.fromarray(PIXELS[k]).save(tmp_path / f"{k}.png")
    chosen = np.sort(np.random.default_rng(4).choice(8, 5, replace=False))
    for k in set(range(8)) - set(chosen.tolist()):
        (tmp_path / f"{k}.png").write_bytes(b"never opened")
    data = load(tmp_path, limit=5, seed=4)
    same(data.X, mapped(PIXELS[chosen]))
    assert data.dropped == ("limit=5 kept 5 of 8 samples, drawn with seed 4",)


@pytest.mark.parametrize("spoil", [lambda b: b[: len(b) // 2], lambda b: b"nothing", lambda b: b[:30] + b"\0" * 50])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_broken_images(tmp_path, spoil, suffix):
    for k in range(3):
        Image.fromarray(RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / f"{k}.{suffix}")
    path = tmp_path / f"1.{suffix}"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=rf"1.{suffix}: cannot be read .*Remove the file"):
        load(tmp_path)


def test_sixteen_bit_images_are_not_clipped_silently(tmp_path):
    for k in range(2):
        Image.fromarray(PIXELS[k].astype(np.uint16) * 200).save(tmp_path / f"{k}.png")
    with pytest.raises(DataError, match=r"0.png: its pixels are not 8-bit"):
        load(tmp_path)


# --- everything else that can be wrong -----------------------------------------------------------------------------


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


OBJECTS = np.array([[1, 2], [None, "a"]], dtype=object)
WRONG = {
    "empty.npy": (b"", "the file is empty"),
    "truncated.npy": (npy(FLOATS)[:-4], "truncated: 212 of 216 data bytes"),
    "header.npy": (npy(FLOATS)[:30], "cannot be read"),
    "magic.npy": (b"\0" * 200, "cannot be read"),
    "objects.npy": (npy(OBJECTS, allow_pickle=True), "Python objects"),
    "text.npy": (npy(np.array([["a", "b"]] * 2)), "its dtype is <U1"),
    "complex.npy": (npy(FLOATS + 1j), "its dtype is complex"),
    "vector.npy": (npy(np.arange(5.0)), r"its shape is \(5,\).*reshape"),
    "one.npy": (npy(FLOATS[:1]), "it holds 1 sample; expected at least two"),
    "none.npy": (npy(FLOATS[:0]), "no numbers"),
    "width.npy": (npy(FLOATS[:, :0]), "no numbers"),
    "constant.npy": (npy(np.tile(FLOATS[:1], (7, 1))), "all 7 samples are equal"),
    "zip.npz": (b"PK\x03\x04 broken", "cannot be read"),
    "nonzip.npz": (npy(FLOATS), "cannot be read"),
    "data.csv": (b"1,2\n3,4\n", "format is unknown .*'.csv'.*numpy.save"),
    "data.tar.gz": (b"\x1f\x8b", "Unpack it first"),
    "photo.jpg": (b"\xff\xd8", "Give the folder"),
    "nothing": (b"ab", "format is unknown"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files(tmp_path, name):
    content, message = WRONG[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        load(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)
    assert isinstance(error.value, DomainError)
    assert error.value.allowed


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_non_finite_values_are_counted_and_located(tmp_path, value, dtype, monkeypatch):
    monkeypatch.setattr("validation.data.dataset.TILE_BYTES", 100)  # several tiles
    bad = FLOATS.astype(dtype)
    bad[4, 2] = bad[4, 5] = bad[8, 0] = value
    np.save(tmp_path / "x.npy", bad)
    with pytest.raises(
        DataError, match=rf"3 of 54 values are not finite, the first is {value} in sample 4, coordinate 2"
    ):
        load(tmp_path / "x.npy")
    np.savez(tmp_path / "x.npz", x=FLOATS.astype(dtype), x_test=bad)
    with pytest.raises(DataError, match=r"held-out samples.: 3 of 54"):
        load(tmp_path / "x.npz")


def test_corrupt_npz_members(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=FLOATS)
    content = bytearray(path.read_bytes())
    content[content.index(FLOATS.tobytes()) + 40] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x.npz.x.: cannot be read .*CRC"):
        load(path)
    np.savez(path, x=OBJECTS)
    with pytest.raises(DataError, match=r"x.npz.x.: .*Python objects"):
        load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", npy(FLOATS) + b"more")
    with pytest.raises(DataError, match="bytes follow the array"):
        load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no arrays")
    with pytest.raises(DataError, match="holds no arrays"):
        load(path)


def test_an_array_larger_than_memory_is_refused_before_it_is_read(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 50, 2)})
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue())
    with pytest.raises(DataError, match="GiB"):
        load(tmp_path / "x.npz")


def test_paths_that_lead_nowhere(tmp_path):
    with pytest.raises(DataError, match=r"absent.npy: no such file or folder"):
        load(tmp_path / "absent.npy")
    with pytest.raises(DataError, match="no such file"):
        load("a\0b.npy")
    with pytest.raises(DataError, match="the folder is empty"):
        load(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(DataError, match="it holds a"):
        load(tmp_path)
    Image.fromarray(PIXELS[0]).save(tmp_path / "only.png")
    with pytest.raises(DataError, match="it holds 1 image"):
        load(tmp_path)
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(DataError, match="neither a regular file"):
        load(tmp_path / "pipe.npy")
    for path in ("", 5, b""):
        with pytest.raises(DomainError, match="path"):
            load(path)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX users")
def test_unreadable_files_and_folders():
    uid = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "shut").mkdir()
        Image.fromarray(PIXELS[0]).save(folder / "shut" / "0.png")
        np.save(folder / "x.npy", FLOATS)
        np.savez(folder / "x.npz", FLOATS)
        (folder / "data_batch_1").write_bytes(b"\x80")
        (folder / "train-images-idx3-ubyte").write_bytes(idx_bytes(PIXELS))
        for path in folder.iterdir():
            path.chmod(0)
        if uid == 0:
            os.seteuid(65534)  # root can read anything
        try:
            for path in ("x.npy", "x.npz", "data_batch_1", "train-images-idx3-ubyte", "shut", "shut/0.npy"):
                with pytest.raises(DataError, match=r"[Pp]ermission denied") as error:
                    load(folder / path)
                assert str(folder / path) in str(error.value)
        finally:
            os.seteuid(uid)
            (folder / "shut").chmod(0o755)


@pytest.mark.parametrize(
    "options",
    [{"limit": 1}, {"limit": 2.5}, {"seed": -1}, {"scaling": "z"}, {"key": "x"}, {"image_size": 8}, {"image_size": 0}],
)
def test_options_outside_their_domain(tmp_path, options):
    np.save(tmp_path / "x.npy", FLOATS)
    (name,) = options
    for path in (None, tmp_path / "x.npy"):
        with pytest.raises(DomainError, match=name):
            load(path, **options)


def test_limit_keeps_order_labels_and_seed(tmp_path):
    np.savez(tmp_path / "x.npz", x=PIXELS, y=LABELS)
    data = load(tmp_path / "x.npz", limit=7, seed=3)
    chosen = np.sort(np.random.default_rng(3).choice(12, 7, replace=False))
    same(data.X, mapped(PIXELS[chosen]))
    same(data.labels, LABELS[chosen])
    same(load(tmp_path / "x.npz", limit=12).X, mapped(PIXELS))


def test_digits_without_a_path():
    data = load()
    assert (data.P, data.N, data.shape, data.X.dtype) == (1797, 64, (8, 8), np.float32)
    assert (data.X.min(), data.X.max()) == (-1, 1)
    assert data.labels.shape == (1797,)
    assert load(scaling="none").X.max() == 16
    assert load(scaling="unit").X.max() == 1


SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not here")
@pytest.mark.parametrize(("name", "shape", "held"), [("mnist10k", (28, 28), 0), ("cifar10_10k", (3, 32, 32), 1000)])
def test_real_archives_load_without_a_key(name, shape, held):
    path = SHARED / f"{name}.npz"
    data = load(path, limit=50, seed=1)
    chosen = np.sort(np.random.default_rng(1).choice(10_000, 50, replace=False))
    with np.load(path) as archive:
        stored, labels = archive["images"][chosen], archive["labels"][chosen]
    same(data.X, mapped(stored if stored.ndim == 3 else np.ascontiguousarray(stored.transpose(0, 3, 1, 2))))
    same(data.labels, labels)
    assert data.shape == shape
    assert (0 if data.held_out is None else len(data.held_out)) == held
