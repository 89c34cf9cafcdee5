"""Bad input, argument by argument and file kind by file kind, as a careless or hostile user would give it.

Each ends in one line that names the argument (or file), the value and the allowed domain; in Python a `DomainError`, at the
command line status 2; nothing is left behind, no code of the input runs, and memory stays bounded.
"""

import gzip
import io
import math
import os
import pickle
import socket
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from numerics.domain import DomainError
from numerics.store import atomic
from theory import (
    HiddenManifold,
    Isotropic,
    LinearManifold,
    Spectrum,
    Subspaces,
    basin_radius,
    collapse_time,
    critical_alpha,
    critical_dataset_size,
    expected_log_partition,
    free_energy,
    subspace_collapse_times,
)
from validation import EmpiricalScore
from validation.audit import audit
from validation.cli import app
from validation.data import (
    Dataset,
    data_dimension,
    find_duplicates,
    load,
    memorised_fraction,
    nearest_neighbours,
    split,
)
from validation.data.stored.raw import DataError
from validation.simulation import Sampler

LONGEST = 1500  # characters of an error
RNG = np.random.default_rng(0)
X = RNG.standard_normal((20, 3))
NAN, INF = math.nan, math.inf


def one_line(text, *words):
    """Whether an error is one printable line of bounded length that holds the words."""
    assert text.isprintable(), text
    assert len(text) < LONGEST
    for word in words:
        assert word in text, text


# --- Python: arguments ------------------------------------------------------------------------------------------------

NO_NUMBER = {
    "text": "a",
    "number as text": "0.5",
    "bytes": b"1",
    "nan": NAN,
    "inf": INF,
    "complex": 1j,
    "object": object(),
    "dict": {},
    "object array": np.array([None]),
    "structured": np.zeros(2, [("a", float)]),
    "ragged": [[1], [1, 2]],
    "a nan cell": np.array([0.1, NAN]),
    "masked": np.ma.masked_array([0.1, 0.2], [False, True]),
    "an int of 400 digits": 10**400,
    "an int of 5000 digits": 10**5000,
    "dates": np.zeros(2, "M8[s]"),
}
LINEAR = LinearManifold(0.5)
BLOCKS = Subspaces([0.5], [1.0])
NUMBERS = {  # argument: a call that takes it
    "alpha": lambda v: collapse_time(LINEAR, v),
    "alpha_D": lambda v: LinearManifold(v),
    "variances": lambda v: LinearManifold(0.5, v),
    "fractions": lambda v: LinearManifold(0.5, [1.0, 2.0], v),
    "variance": lambda v: Isotropic(v),
    "fractions of Subspaces": lambda v: Subspaces(v, [1.0]),
    "variances of Subspaces": lambda v: Subspaces([0.5], v),
    "eigenvalues": lambda v: Spectrum(v),
    "N": lambda v: collapse_time(LINEAR, P=100, N=v),
    "t of basins": lambda v: basin_radius(LINEAR, 0.2, v),
    "t of free energies": lambda v: free_energy(LINEAR, 0.2, v),
    "delta": lambda v: free_energy(LINEAR, 0.2, 1.0, delta=v),
    "t": lambda v: critical_alpha(LINEAR, v),
    "N of sizes": lambda v: critical_dataset_size(LINEAR, 1.0, v),
    "t at finite size": lambda v: expected_log_partition(LINEAR, 100, 20, v),
    "N at finite size": lambda v: expected_log_partition(LINEAR, 100, v, 1.0),
    "log_P": lambda v: expected_log_partition(LINEAR, None, 20, 1.0, log_P=v),
    "x at finite size": lambda v: expected_log_partition(BLOCKS, 100, 20, 1.0, x=v),
    "N of levels": lambda v: subspace_collapse_times(BLOCKS, 100, v),
    "t of the score": lambda v: EmpiricalScore(X).score(X[:2], v),
    "x of the score": lambda v: EmpiricalScore(X).score(v, 1.0),
    "X of the score": lambda v: EmpiricalScore(v).score(X[:2], 1.0),
    "t grid": lambda v: EmpiricalScore(X).clean_profile(X[:2], v),
    "X of duplicates": find_duplicates,
    "X of neighbours": nearest_neighbours,
    "X of dimensions": data_dimension,
    "X of samples": Spectrum.from_samples,
    "X of memorised": lambda v: memorised_fraction(v, X),
    "X of splits": lambda v: split(v, None, seed=0),
    "limit": lambda v: load(limit=v),
    "image_size": lambda v: load(image_size=v),
    "path": load,
    "device": lambda v: EmpiricalScore(X, device=v),
    "dtype": lambda v: EmpiricalScore(X, dtype=v),
    "scaling": lambda v: load(scaling=v),
    "data of audit": audit,
    "sigmas": lambda v: audit(Dataset(X, "x", (3,), "", "x"), sigmas=v),
    "probes": lambda v: audit(Dataset(X, "x", (3,), "", "x"), probes=v if not isinstance(v, int) else -v),
    "seed": lambda v: audit(Dataset(X, "x", (3,), "", "x"), seed=v),
    "samples": lambda v: expected_log_partition(LINEAR, 100, 20, 1.0, samples=v),
    "activation": lambda v: HiddenManifold(0.5, v),
    "model": lambda v: collapse_time(v, 0.2),
    "kind": lambda v: critical_alpha(LINEAR, 1.0, kind=v),
    "level": lambda v: subspace_collapse_times(BLOCKS, 100, 20, level=v),
}
ALLOWED = {("limit", "an int of 400 digits"), ("limit", "an int of 5000 digits")}  # all samples are fewer


@pytest.mark.parametrize("argument", NUMBERS)
def test_no_argument_takes_what_is_no_number(argument):
    for kind, value in NO_NUMBER.items():
        if (argument, kind) in ALLOWED:
            continue
        with pytest.raises(DomainError) as caught:
            NUMBERS[argument](value)
        one_line(str(caught.value))


TABLE = [  # call, words of the error
    (lambda: collapse_time(LINEAR, 0), "alpha = 0.0"),
    (lambda: collapse_time(LINEAR, -1e-300), "alpha = -1e-300"),
    (lambda: collapse_time(LINEAR, P=1, N=10), "P = 1"),
    (lambda: collapse_time(LINEAR, P=True, N=10), "P = True"),
    (lambda: collapse_time(LINEAR, P=[100, 1], N=10), "P = 1.0"),
    (lambda: collapse_time(LINEAR, 0.2, P=3, N=2), "either alpha, or P together with N"),
    (lambda: collapse_time(LINEAR), "either alpha, or P together with N"),
    (lambda: LinearManifold(0.5, []), "fractions, variances"),
    (lambda: LinearManifold(0.5, [0.0]), "variances"),
    (lambda: LinearManifold(0.5, [[1.0]]), "fractions, variances"),
    (lambda: LinearManifold(0.5, [1.0, 2.0], [0.5, 0.6]), "a sum = 1"),
    (lambda: Subspaces([0.7, 0.7], [1.0, 1.0]), "a sum <= 1"),
    (lambda: Spectrum([]), "eigenvalues"),
    (lambda: Spectrum([0.0, 0.0]), "eigenvalues"),
    (lambda: Spectrum([[1.0, 2.0], [3.0, 4.0]]), "eigenvalues"),
    (lambda: Spectrum.from_samples(X[0]), "X = (3,)"),
    (lambda: Spectrum.from_samples(X[:1]), "X = (1, 3)"),
    (lambda: Spectrum.from_samples(np.ones((5, 3))), "equal rows"),
    (lambda: HiddenManifold(0.5, "cubic"), "activation = cubic"),
    (lambda: expected_log_partition(LINEAR, 100, 20, []), "t = "),
    (lambda: expected_log_partition(LINEAR, 100, 20, 1.0, samples=0), "samples = 0"),
    (lambda: expected_log_partition(LINEAR, 100, 20, 1.0, samples=10**9), "samples = 1000000000"),
    (lambda: expected_log_partition(LINEAR, 100, 0, 1.0), "N = 0"),
    (lambda: critical_dataset_size(LINEAR, 1.0, -3), "N = -3"),
    (lambda: EmpiricalScore(X[0]), "X = an array of shape (3,)"),
    (lambda: EmpiricalScore(X[:0]), "X = an array of shape (0, 3)"),
    (lambda: EmpiricalScore(X[:, :0]), "X = an array of shape (20, 0)"),
    (lambda: EmpiricalScore(X[None]), "X = an array of shape (1, 20, 3)"),
    (lambda: EmpiricalScore(X + 0j), "complex128"),
    (lambda: EmpiricalScore(X.astype(str)), "X = an array of shape (20, 3) and dtype <U"),
    (lambda: EmpiricalScore(X.astype(object)), "dtype object"),
    (lambda: EmpiricalScore(np.where(X > 1, NAN, X)), "NaN"),
    (lambda: EmpiricalScore(np.ma.masked_array(X, X > 1)), "masked entries"),
    (lambda: EmpiricalScore(torch.zeros(20, 3, device="meta")), "meta"),
    (lambda: EmpiricalScore(torch.zeros(20, 3).to_sparse()), "to_dense"),
    (lambda: EmpiricalScore(X, device="quantum"), "device = quantum"),
    (lambda: EmpiricalScore(X, device="meta"), "device = meta"),
    (lambda: EmpiricalScore(X, dtype="int8"), "dtype = int8"),
    (lambda: EmpiricalScore(X).score(X[:, :2], 1.0), "x = an array of shape (20, 2)"),
    (lambda: EmpiricalScore(X).score(X[:2], [1.0, 2.0, 3.0]), "t = an array of shape (3,)"),
    (lambda: EmpiricalScore(X).score(X[:2], 0.0), "t = 0.0"),
    (lambda: EmpiricalScore(X).score(torch.zeros(2, 3).to_sparse(), 1.0), "to_dense"),
    (lambda: EmpiricalScore(X).log_weight(X[:2], 1.0, 20), "index = 20"),
    (lambda: EmpiricalScore(X).log_weight(X[:2], 1.0, [[1], [1, 2]]), "index = [[1], [1, 2]]"),
    (lambda: EmpiricalScore(X).nearest(X[:2], [-1, 0]), "exclude = -1"),
    (lambda: find_duplicates(X[:1]), "X = an array of shape (1, 3)"),
    (lambda: nearest_neighbours(X, 20), "k = 20"),
    (lambda: nearest_neighbours(X, device="quantum"), "device = quantum"),
    (lambda: load(limit=1), "limit = 1"),
    (lambda: load(limit=2.5), "limit = 2.5"),
    (lambda: load(seed=-1), "seed = -1"),
    (lambda: load(seed=1 << 63), "seed = 9223372036854775808"),
    (lambda: load(image_size=0), "image_size = 0"),
    (lambda: load(image_size=8), "Only image files are resized"),
    (lambda: load(key="a"), "key = a"),
    (lambda: load(scaling="up"), "scaling = up"),
    (lambda: load(""), "path ="),
    (lambda: load("a\0b"), "a\\x00b: no such file"),
    (lambda: load("x" * 5000), "no such file"),
    (lambda: load("line\nbreak.npy"), "line\\nbreak.npy"),
    (lambda: load("\x1b[31mred.npy"), "\\x1b[31mred.npy"),
    (lambda: audit(X), "validation.data.load makes one"),
    (lambda: audit(Dataset(X, "x", (3,), "", "x"), sigmas=[]), "sigmas ="),
    (lambda: audit(Dataset(X, "x", (3,), "", "x"), sigmas=[[1.0]]), "sigmas ="),
    (lambda: audit(Dataset(X, "x", (3,), "", "x"), sigmas=[-1.0]), "sigmas = -1.0"),
    (lambda: audit(Dataset(X, "x", (3,), "", "x"), probes=1), "probes = 1"),
    (lambda: audit(Dataset(X, "x", (3,), "", "x"), seed=None), "seed = None"),
    (lambda: Sampler(LINEAR, 20, 0, device="quantum"), "device = quantum"),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[1])
def test_an_argument_outside_its_domain_is_named(row):
    call, words = row
    with pytest.raises(DomainError) as caught:
        call()
    one_line(str(caught.value), words)


# --- files --------------------------------------------------------------------------------------------------------------


class Trap:
    """A pickle that makes a file where it is loaded."""

    def __reduce__(self):
        return os.mkdir, ("sprung",)


def _npy(array, **options):
    body = io.BytesIO()
    np.save(body, array, **options)
    return body.getvalue()


def _npz(compressed=True, **members):
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return body.getvalue()


def _header(text, version=b"\x01\x00"):
    text = text.encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text


def _claims(shape):
    return _header(str({"descr": "<f8", "fortran_order": False, "shape": shape}))


def _idx(array):
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def _image(array, form="PNG", **options):
    body = io.BytesIO()
    Image.fromarray(array).save(body, form, **options)
    return body.getvalue()


def _chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _png_bomb(side):
    """A grey PNG of side x side zeros: side^2 bytes of pixels in about a thousandth of that."""
    packer, parts = zlib.compressobj(9), []
    row = b"\0" * (side + 1)
    parts = [packer.compress(row) for _ in range(side)] + [packer.flush()]
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + _chunk(b"IDAT", b"".join(parts)) + _chunk(b"IEND", b"")


ROWS = RNG.standard_normal((12, 4))
PIXELS = RNG.integers(0, 256, (12, 6, 5), dtype=np.uint8)
WHOLE = _npy(ROWS)
PNG, JPEG = _image(PIXELS[0]), _image(PIXELS[1], "JPEG")
GIANT = (1 << 40, 1 << 10)

FILES = {  # name: (content, or contents by name for a folder; words of the error)
    "empty.npy": (b"", "empty (0 bytes)"),
    "empty.npz": (b"", "empty (0 bytes)"),
    "empty-idx3-ubyte": (b"", "empty (0 bytes)"),
    "magic.npy": (b"nonsense", "cannot be read"),
    "version.npy": (b"\x93NUMPY\x09\x00" + WHOLE[8:], "version"),
    "half.npy": (WHOLE[: len(WHOLE) // 2], "truncated"),
    "head.npy": (WHOLE[:20], "cannot be read"),
    "giant.npy": (_claims(GIANT) + b"\0" * 64, "truncated"),
    "negative.npy": (_claims((-5, 3)) + b"\0" * 64, "negative.npy"),
    "code.npy": (_header("{'descr': __import__('os').mkdir('sprung'), 'fortran_order': False, 'shape': (2, 2)}"), "code"),
    "nested.npy": (_header("(" * 5000), "nested.npy"),
    "0-d.npy": (_npy(np.array(1.0)), "its shape is ()"),
    "1-d.npy": (_npy(ROWS[0]), "reshape(-1, 1)"),
    "no-rows.npy": (_npy(ROWS[:0]), "no numbers"),
    "no-columns.npy": (_npy(ROWS[:, :0]), "no numbers"),
    "one.npy": (_npy(ROWS[:1]), "at least two samples"),
    "equal.npy": (_npy(np.ones((5, 3))), "are equal"),
    "nan.npy": (_npy(np.where(ROWS > 1.5, NAN, ROWS)), "not finite, the first is nan in sample"),
    "inf.npy": (_npy(np.where(ROWS > 1.5, INF, ROWS)), "not finite, the first is inf in sample"),
    "complex.npy": (_npy(ROWS + 0j), "dtype is complex128"),
    "text.npy": (_npy(ROWS.astype(str)), "dtype is <U"),
    "dates.npy": (_npy(np.zeros((3, 2), "M8[s]")), "dtype is datetime64"),
    "structured.npy": (_npy(np.zeros(5, [("a", float), ("b", float)])), "an array of real numbers"),
    "object.npy": (_npy(np.array([[1, None]] * 3, dtype=object), allow_pickle=True), "Python objects"),
    "trap.npy": (_npy(np.array([Trap(), Trap()], dtype=object), allow_pickle=True), "Python objects"),
    "no-zip.npz": (b"PK\x03\x04 nonsense", "cannot be read"),
    "half.npz": (_npz(x__npy=WHOLE)[:-40], "cannot be read"),
    "nothing.npz": (_npz(), "holds no arrays"),
    "other.npz": (_npz(readme__txt=b"x"), "holds no arrays"),
    "member.npz": (_npz(x__npy=WHOLE[:-8]), "member.npz[x]"),
    "more.npz": (_npz(x__npy=WHOLE + b"\0"), "bytes follow the array"),
    "trap.npz": (_npz(x__npy=_npy(np.array([[Trap()], [1]], dtype=object), allow_pickle=True)), "Python objects"),
    "giant.npz": (_npz(x__npy=_claims(GIANT)), "needs 8.39e+06 GiB of memory"),
    "header.npz": (_npz(x__npy=b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 31) + b" " * 99), "claims 2147483648 bytes"),
    "two.npz": (_npz(a__npy=WHOLE, b__npy=WHOLE), "Choose with key="),
    "x-images-idx3-ubyte": (_idx(PIXELS)[:-1], "truncated"),
    "y-images-idx3-ubyte": (_idx(PIXELS) + b"\0", "bytes follow"),
    "z-images-idx3-ubyte": (b"\1" + _idx(PIXELS), "wrong magic number"),
    "h-images-idx3-ubyte": (_idx(PIXELS)[:9], "truncated inside its header"),
    "l-labels-idx1-ubyte": (_idx(PIXELS[:, 0, 0]), "Give the images file"),
    "x-images-idx3-ubyte.gz": (gzip.compress(_idx(PIXELS))[:-20], "cannot be read"),
    "y-images-idx3-ubyte.gz": (_idx(PIXELS), "gzip's magic number"),
    "bomb-images-idx3-ubyte.gz": (gzip.compress(_idx(PIXELS) + b"\0" * (50 << 20)), "bytes follow"),
    "giant-idx3-ubyte.gz": (gzip.compress(bytes([0, 0, 8, 3]) + struct.pack(">3I", 1 << 31, 1 << 15, 1 << 15)), "truncated"),
    "data_batch_1": (pickle.dumps(Trap()), "asks for posix.mkdir" if os.name == "posix" else "asks for"),
    "data_batch_2": (pickle.dumps({b"data": PIXELS[0]})[:-9], "cannot be unpickled"),
    "data_batch_3": (pickle.dumps({"data": "x" * 40}), "no data array"),
    "cifar.bin": (b"\0" * 3072, "not a whole number of labelled images"),
    "net.safetensors": (b"\xff" * 64, "format is unknown"),
    "net.pt": (pickle.dumps(Trap()), "asks for"),
    "one.png": (PNG, "it is one image"),
    "x.zip": (_npz(a__npy=WHOLE), "Unpack it first"),
    "x.tar.gz": (gzip.compress(b"x"), "Unpack it first"),
    "table.csv": (b"1,2\n3,4\n", "format is unknown"),
    "<script>alert(1)<script>.npy": (b"x", "<script>"),
    "line\nbreak.npy": (b"x", "line\\nbreak.npy"),
    "no-images": ({}, "the folder is empty"),
    "words": ({"a.txt": b"x", "b.txt": b"y"}, "nothing readable in it (it holds a.txt, b.txt)"),
    "a-single-image": ({"a.png": PNG}, "at least two samples"),
    "truncated-jpeg": ({"a.jpg": JPEG, "b.jpg": JPEG[: len(JPEG) // 2]}, "b.jpg: cannot be read"),
    "truncated-png": ({"a.png": PNG, "b.png": PNG[: len(PNG) // 2]}, "b.png: cannot be read"),
    "empty-image": ({"a.png": PNG, "b.png": b""}, "b.png: the file is empty"),
    "text-image": ({"a.png": PNG, "b.png": b"hello"}, "b.png: cannot be read"),
    "newline-image": ({"a.png": PNG, "b\nc.png": b"hello"}, "b\\nc.png: cannot be read"),
    "mixed-sizes": ({"a.png": PNG, "b.png": _image(PIXELS[0, :4])}, "ragged"),
    "mixed-depths": ({"a.png": PNG, "b.png": _image(PIXELS[0].astype(np.uint16) * 200)}, "not 8-bit"),
    "float-image": ({"a.tif": _image(PIXELS[0].astype(np.float32), "TIFF"), "b.png": PNG}, "not 8-bit"),
    "pixel-bomb": ({"a.png": PNG, "b.png": PNG[:16] + struct.pack(">II", 60000, 60000) + PNG[24:]}, "b.png: cannot be read"),
    "two-idx": ({"a-images-idx3-ubyte": _idx(PIXELS), "b-images-idx3-ubyte": _idx(PIXELS)}, "several IDX image files"),
    "held-out-only": ({"test/a.png": PNG, "val/b.png": PNG}, "no training images"),
}  # fmt: skip


def _lay(folder, name):
    content, words = FILES[name]
    path = folder / name
    if isinstance(content, dict):
        path.mkdir()
        for inner, body in content.items():
            (path / inner).parent.mkdir(exist_ok=True)
            (path / inner).write_bytes(body)
    else:
        path.write_bytes(content)
    return path, words


def _tree(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*"))


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_used_is_named(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path, words = _lay(tmp_path, name)
    before = _tree(tmp_path)
    started = time.monotonic()
    with pytest.raises(DataError) as caught:
        load(path)
    one_line(str(caught.value), words)
    assert time.monotonic() - started < 20
    assert _tree(tmp_path) == before  # no pickle ran: there is no folder "sprung"


@pytest.mark.parametrize("kind", ["socket", "pipe", "device"])
@pytest.mark.skipif(os.name != "posix", reason="kinds of files of POSIX")
def test_what_is_no_file_is_never_opened(tmp_path, kind, monkeypatch):
    """A pipe would wait for a writer for ever, /dev/zero never ends."""
    path = tmp_path / "x.npy"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        monkeypatch.chdir(tmp_path)  # the name of a socket is short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    with pytest.raises(DataError, match="neither a regular file nor a folder"):
        load(path)


MEMORY = """
import resource, sys
from validation.data import load
from validation.data.stored.raw import DataError
load()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        load(path)
        print("read")
    except DataError as error:
        print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is measured by Linux's counters")
def test_bombs_stay_bounded_in_memory(tmp_path):
    """A few megabytes or less that would become hundreds; at most as much is held as the format itself declares."""
    npz, idx, images = tmp_path / "x.npz", tmp_path / "x-images-idx3-ubyte.gz", tmp_path / "images"
    with zipfile.ZipFile(npz, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        member.write(_npy(ROWS))  # a dozen rows are declared, and 256 MiB of zeros follow
        for _ in range(8):
            member.write(bytes(1 << 25))
    with gzip.open(idx, "wb", compresslevel=1) as file:
        file.write(_idx(PIXELS))
        for _ in range(8):
            file.write(bytes(1 << 25))
    images.mkdir()
    (images / "a.png").write_bytes(_png_bomb(20000))  # 400 million pixels, above Pillow's limit
    (images / "b.png").symlink_to(images / "a.png")
    run = subprocess.run([sys.executable, "-c", MEMORY, npz, idx, images], capture_output=True, text=True, check=True)
    *said, grown = run.stdout.splitlines()
    for line, words in zip(said, ("bytes follow the array", "bytes follow its", "DecompressionBombError"), strict=True):
        assert words in line
    assert float(grown) < 150  # MiB


# --- the command line -----------------------------------------------------------------------------------------------------

LONG = "x" * 300
DATA = {
    "x.npy": _npy(RNG.standard_normal((40, 3))),
    "file": b"x",
    "bad.safetensors": b"123",
    "pipe/model_index.json": b"{",
    "list/model_index.json": b"[1]",
    "net.py": b"import torch\n\ndef net():\n    return torch.nn.Linear(3, 3)\n",
    "broken.py": b"def net(:",
    "trap.pkl": pickle.dumps(Trap()),
    "trap.pt": pickle.dumps(Trap()),
    "file.pt2": b"x",
}


def _with(start, option, *values):
    return [[*start, option, value] for value in values]


TIMES = ["times", "--alpha-d", "0.5"]
DIAGRAM = ["phase-diagram", "--points", "3"]
TRAIN = ["train", "x.npy", "--steps", "2", "--out", "m.safetensors"]
WINDOW = ["window", "x.npy", "-P", "100", "--sizes", "5,9"]
SAMPLES = ["samples", "x.npy", "--train", "x.npy"]
VE = ["--convention", "ve", "--prediction", "x0"]
NOWHERE = [
    "",
    "a",
    "local:",
    "local:0",
    "local:a",
    "missing.json",
    "x.npy",
    "tcp://",
    "http://127.0.0.1:1",
    "tcp://127.0.0.1:9",
]
READERS = [["audit"], ["spectrum"], ["train"], ["report"]]
COMMANDS = [
    *_with(TIMES, "--alpha", "", "a", "nan", "inf", "-inf", "0", "-1", "1e400", "0x10", "1,2", "½"),
    *_with(["times", "--alpha", "0.2"], "--alpha-d", "nan", "0", "-1", "inf", "a", ""),
    *_with([*TIMES, "-N", "10"], "-P", "nan", "0", "1", "-1", "inf", "a", ""),
    *_with([*TIMES, "-P", "100"], "-N", "nan", "0", "-1", "inf", "a", ""),
    *_with(["noise"], "--sigma", "", "a", "-1", "nan", "inf", "1,,2"), *_with(["noise"], "--t", "-1", "nan", "inf", "a"),
    *_with(["noise"], "--alpha-bar", "0", "1.5", "nan", "a"), *_with(["noise"], "--ou", "-1", "nan", "a"),
    *_with(["noise"], "--flow", "1", "-1", "nan", "a"), *_with(["noise"], "--log-snr", "nan", "inf", "a"), ["noise"],
    *_with(["noise", "--sigma", "1"], "--unit", "0", "-1", "nan", "inf", "a"), ["noise", "--sigma", "1", "--t", "1"],
    TIMES, [*TIMES, "-P", "10"], [*TIMES, "--alpha", "1", "-P", "2", "-N", "3"], [*TIMES, "--alpha", "1", "extra"],
    *_with([*TIMES, "--alpha", "0.2"], "--variances", "", "1,,2", "nan", "0", "a"),
    *_with([*TIMES, "--alpha", "0.2"], "--fractions", "1,1", "0.5", "-1"),
    *_with(["times", "--model", "power-law", "-P", "1000", "-N", "20"], "--exponent", "-1", "nan", "inf", "a", ""),
    *_with([*TIMES, "--alpha", "0.2", "--model", "hidden"], "--activation", "", "nope", "__import__('os').mkdir('sprung')"),
    [*TIMES, "--alpha", "0.2", "--model", "isotropic", "--variances", "1,2"], [*TIMES, "--alpha", "0.2", "--frobnicate"],
    *_with(DIAGRAM, "--alpha", "", "a", "1", "1,1", "0,1", "-1,2", "nan,1", "1,inf", "1,2,3", "2,1"),
    *_with(DIAGRAM, "--alpha-d", "", "a", "1", "0,1", "nan,1", "1,inf", "2,1"),
    *_with(["phase-diagram"], "--points", "0", "1", "-5", "a", "1.5", "100000000", "9" * 30),
    *_with(DIAGRAM, "--out", "x", "x.jpg", "dir", "/dev/null", "/dev/full", "file/x.png", "/proc/x.png", LONG + ".png",
           "", "a\0b.png"),
    *_with(DIAGRAM, "--activation", "nope", "tanh,nope"), *_with(DIAGRAM, "--view", "sideways"),
    *[[*c, v] for c in READERS for v in (
        "missing.npy", "file", "bad.safetensors", "dir", "", "a\0b", "x" * 5000, "/dev/zero", "/dev/null", "-",
        "http://x/y.npz", "~/x.npy")],
    *[[*c, "x.npy", "--limit", v] for c in READERS for v in ("0", "3", "-1", "a", "1.5")],
    *[[*c, "x.npy", "--seed", v] for c in READERS for v in ("-1", "a", "9" * 30, "9" * 400)],
    *[[*c, "x.npy", "--device", v] for c in READERS for v in ("quantum", "cuda:99", "", "meta")],
    *[[*c, "x.npy", "--image-size", v] for c in READERS for v in ("0", "-1", "a", "8")],
    *[[*c, "x.npy", "--key", "a"] for c in READERS], *[[*c, "x.npy", "y.npy"] for c in READERS],
    *_with(["audit", "x.npy"], "--sigma", "", "a", "0", "-1", "nan", "inf", "1,,2"),
    *_with(["audit", "x.npy"], "--probes", "1", "0", "-1", "a", "9" * 30),
    *_with(["audit", "x.npy"], "--out", "file", "file/sub", "/proc/x", "/dev/null", LONG),
    *[[c, *d, "--model", v] for c in ("audit", "spectrum") for d in ([], ["x.npy"])
      for v in ("missing", "bad.safetensors", "dir", "file", "pipe", "list", "x.npy", "")],
    *_with(["spectrum", "x.npy"], "--sigma", "", "a", "1", "1,1", "2,1", "0,1", "nan,1", "1,inf", "1,2,3"),
    *_with(["spectrum", "x.npy"], "--points", "3", "0", "a", "9" * 30),
    *_with(["spectrum", "x.npy"], "--probes", "1", "a", "9" * 30),
    *_with(["spectrum", "x.npy"], "--out", "x", "x.jpg", "dir", "/dev/full", "file/x.png", LONG + ".png"),
    *_with(["spectrum"], "--subspaces", "", "a", "5", "5:", "5:1,", "5:a", "0:1", "-1:1", "5:-1", "5:nan", "5:0", "1e9:1",
           "9" * 30 + ":1", "5:1:2", "5.5:1"),
    *_with(["spectrum", "--subspaces", "2:1.0,3:0.1"], "-P", "0", "1", "-1", "a", "9" * 30),
    ["spectrum", "x.npy", "--subspaces", "2:1"], ["spectrum", "x.npy", "-P", "10"],
    ["spectrum", "--subspaces", "2:1", "--limit", "5"],
    *[[*TRAIN, o, v] for o in ("--steps", "--batch", "--width", "--blocks", "--hidden") for v in ("0", "-1", "a")],
    *_with(TRAIN, "--learning-rate", "0", "-1", "nan", "inf", "a"),
    *_with(TRAIN, "-P", "", "0", "1", "-1", "a", "1.5", "nan", "inf", "1000", "9" * 30, "5,,6"),
    *_with(TRAIN, "--sigma", "", "1", "2,1", "0,1", "nan,1", "a", "1,inf", "1,2,3"),
    *_with(TRAIN, "--network", "cnn", ""), *_with(TRAIN, "--activation", "relu", ""),
    *_with(TRAIN, "--optimizer", "lion"), *_with(TRAIN, "--precision", "float8", ""),
    *_with(["train", "x.npy", "--steps", "2"], "--out", "m", "dir", "/dev/null", "file/m.safetensors", "bad.safetensors",
           LONG + ".safetensors"),
    *_with(TRAIN, "--held-out", "missing.npy", "file", "dir", ""), *_with(TRAIN, "--snapshots", "file", "file/sub", LONG),
    *_with(TRAIN, "--false-alarms", "0", "1", "-1", "nan", "a"), [*TRAIN, "--no-watch", "--snapshots", "new"],
    *[[*WINDOW, o, v] for o in ("--steps", "--batch", "--width", "--blocks", "--hidden") for v in ("0", "-1", "a")],
    *[[*WINDOW, o, v] for o, v in (
        ("--replicas", "1"), ("--replicas", "a"), ("--exponent", "nan"), ("--exponent", "a"), ("--coverage", "0"),
        ("--coverage", "1"), ("--coverage", "nan"), ("--learning-rate", "0"), ("--learning-rate", "nan"),
        ("--sigma", "1"), ("--sigma", "2,1"), ("--network", "cnn"), ("--activation", "relu"), ("--optimizer", "lion"),
        ("--held-out", "missing.npy"), ("--out", "file"), ("--key", "a"), ("--limit", "0"), ("--image-size", "8"),
        ("--seed", "-1"), ("--device", "quantum"))],
    *_with(["window", "x.npy", "-P", "100", "--steps", "2"], "--sizes", "", "a", "5", "5,5", "5,100", "1,5", "5,9" * 30),
    *_with(["window", "x.npy", "--sizes", "5,9"], "-P", "0", "1", "-1", "a", "9"), ["window", "linear", "--limit", "9"],
    ["train", "linear", "--limit", "9"], ["train", "linear", "--image-size", "9"], ["train", "linear", "--key", "a"],
    *_with(DIAGRAM, "--variances", "", "a", "-1", "nan"), *_with(DIAGRAM, "--fractions", "1,1", "0.5", "a"),
    *_with(["audit", "x.npy"], "--labels", "missing.npy", "file", "dir", "x.npy"),
    *[[c, "x.npy", o, v] for c in ("audit", "spectrum")
      for o, v in (("--scheduler", "nope"), ("--variant", "fp16"), ("--centre", "a"), ("--unit", "0"))],
    *[[c, "x.npy", o, v] for c in ("audit", "spectrum", "report")
      for o, v in (("--class", "0"), ("--class", "a"), ("--embeddings", "missing.npy"), ("--prompt", "a dog"),
                   ("--guidance", "2"), ("--guidance", "nan"), ("--null-class", "0"), ("--null-class", "a"),
                   ("--convention", "edm"), ("--prediction", "x0"), ("--level", "t"), ("--sigma-data", "1"),
                   ("--sigma-data", "a"), ("--weights", "x.npy"))],
    *[[c, "x.npy", "--model", m, *more] for c in ("audit", "spectrum", "report") for m, more in (
        ("net.py", []), ("net.py:", []), ("net.py:none", []), ("no.py:net", []), ("net.py:net", []), ("broken.py:net", []),
        ("trap.pkl", []), ("trap.pt", []), ("file.pt2", []), ("net.py:net", [*VE, "--level", "a"]),
        ("net.py:net", ["--convention", "a", "--prediction", "x0"]), ("net.py:net", ["--convention", "ve", "--prediction", "a"]),
        ("net.py:net", [*VE, "--weights", "missing.pt"]), ("net.py:net", [*VE, "--weights", "trap.pt"]),
        ("net.py:net", [*VE, "--weights", "file"]), ("net.py:net", [*VE, "--sigma-data", "1"]),
        ("net.py:net", ["--convention", "edm", "--prediction", "edm", "--sigma-data", "0"]),
        ("net.py:net", ["--convention", "ddpm", "--prediction", "x0"]), ("net.py:net", [*VE, "--class", "1"]))],
    *[["report", "x.npy", o, v] for o, v in (
        ("--model", "missing"), ("--model", "file"), ("--model", "dir"), ("--samples", "missing.npy"), ("--samples", "file"),
        ("--scheduler", "nope"), ("--variant", "fp16"), ("--centre", "a"), ("--centre", "0"), ("--unit", "0"))],
    *_with(["spectrum", "x.npy"], "--samples", "missing.npy", "x.npy", "file", ""),
    *_with(["spectrum", "x.npy"], "--products", "bfloat16", "half", ""),
    *[["spectrum", "x.npy", "--model", "net.py:net", *VE, "--products", v] for v in ("half", "", "tf32", "bfloat16")],
    *_with(["audit", "x.npy"], "--latents", "missing", "dir", "file"), *_with(SAMPLES, "--latents", "missing", "dir", "file"),
    *_with(["audit", "x.npy"], "--patch", "", "a", "3", "auto", "4", "1.5", "0", "-1"),
    *[["samples", "x.npy", "--train", v] for v in ("missing.npy", "file", "dir", "", "a\0b", "/dev/zero")],
    *[["samples", v, "--train", "x.npy"] for v in ("missing.npy", "file", "dir", "", "a\0b", "/dev/zero")],
    *[[*SAMPLES, o, v] for o, v in (
        ("--test", "missing.npy"), ("--test", "file"), ("--features", "missing.npz"), ("--features", "x.npy"),
        ("--features", "file"), ("--rate", "0"), ("--rate", "1"), ("--rate", "-1"), ("--rate", "nan"), ("--rate", "a"),
        ("--threshold", "0"), ("--threshold", "-1"), ("--threshold", "nan"), ("--threshold", "a"), ("--key", "a"),
        ("--train-key", "a"), ("--limit", "1"), ("--limit", "a"), ("--image-size", "0"), ("--image-size", "8"),
        ("--seed", "-1"), ("--seed", "9" * 30), ("--device", "quantum"), ("--device", "meta"), ("--out", "file"),
        ("--out", "file/sub"), ("--out", LONG))],
    ["samples", "x.npy"], ["samples"], [*SAMPLES, "extra"],
    *_with(["validate"], "--only", "", "x"), ["validate", "--seed", "-1"],
    *_with(["validate", "--only", "linear_times"], "--scheduler", *NOWHERE), *_with(["phase-diagram"], "--scheduler", *NOWHERE),
    *_with(["spectrum", "x.npy"], "--dask-scheduler", *NOWHERE), *_with(["audit", "x.npy"], "--dask-scheduler", *NOWHERE),
    ["audit", "x.npy", "--no-points", "--dask-scheduler", "local:1"],
    ["audit", "--model", "m.pt", "--dask-scheduler", "local:1"],
    ["spectrum", "x.npy", "--model", "m.pt", "--samples", "x.npy", "--dask-scheduler", "local:1"],
    ["validate", "--only", "linear_times", "--out", "file"], ["validate", "--only", "linear_times", "--device", "quantum"],
    *_with(["report", "x.npy"], "--out", "x", "x.txt", "dir", "/dev/full", "file/x.html", LONG + ".html"),
    [""], ["--nope"], ["nonsense"], ["\x1b[31m"],
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """One folder for all commands, which must leave it as it is."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "dir").mkdir()
    for name, content in DATA.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def _called(arguments):
    return " ".join(a if len(a) < 40 else a[:9] + "..." for a in arguments).encode("unicode_escape").decode()


@pytest.mark.parametrize("arguments", COMMANDS, ids=_called)
def test_a_bad_command_is_one_line_and_status_2(geomem, place, arguments):
    before = _tree(place)
    run = geomem(*arguments, cwd=place)
    assert run.returncode == 2, run.stderr
    assert _tree(place) == before
    assert len(run.stderr) < LONGEST
    if run.stderr.startswith("error:"):  # ours; else typer's own frame, with the usage
        one_line(run.stderr.removesuffix("\n"))
    else:
        assert "Usage" in run.stderr


def test_the_tables_are_as_long_as_asked():
    """A hundred and more, and every option of every command appears."""
    assert len(TABLE) + len(FILES) + len(COMMANDS) + len(NUMBERS) * len(NO_NUMBER) > 1000
    for name, command in typer.main.get_command(app).commands.items():
        said = {word for arguments in COMMANDS if arguments[0] == name for word in arguments}
        options = [p.opts for p in command.params if p.param_type_name == "option" and not getattr(p, "is_flag", False)]
        assert [names for names in options if not set(names) & said] == [], name


# --- outputs ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("dir", "the name of a file, not of a folder"),
        ("pipe", "a regular file, not of a device or a pipe"),
        ("file/x.png", "a writable path"),
        ("dangling/x.png", "a writable path"),
        (LONG + ".png", "File name too long"),
        (f"new/{LONG}/x.png", "File name too long"),
        ("a\0b.png", "a null character"),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="kinds of files of POSIX")
def test_an_output_that_cannot_be_written(tmp_path, name, allowed):
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    before = _tree(tmp_path)
    with pytest.raises(DomainError) as caught, atomic(tmp_path / name) as path:
        path.write_text("never")
    one_line(str(caught.value), allowed)
    assert _tree(tmp_path) == before


def test_a_read_only_file_is_not_replaced(tmp_path):
    target = tmp_path / "x.png"
    target.write_text("old")
    target.chmod(0o444)
    if os.access(target, os.W_OK):
        pytest.skip("this user writes everywhere")
    with pytest.raises(DomainError, match="the file is read-only"), atomic(target):
        pass
    assert target.read_text() == "old"


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
sys.argv = ["geomem", *sys.argv[1:]]
from validation.cli import main
main()
"""


@pytest.mark.skipif(os.name != "posix", reason="limits on the size of files are of POSIX")
@pytest.mark.parametrize(
    "arguments",
    [
        ["phase-diagram", "--points", "3", "--out", "new/d.png"],
        ["train", "x.npy", "--steps", "2", "--width", "4", "--out", "new/m.safetensors"],
        pytest.param(
            [
                "spectrum",
                "--subspaces",
                "2:1.0,2:0.1",
                "-P",
                "8",
                "--points",
                "4",
                "--probes",
                "2",
                "--out",
                "new/s.png",
            ],
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda a: a[0],
)
def test_a_full_disk_leaves_nothing_half_written(tmp_path, arguments):
    """In a process that may write no file beyond 300 bytes; rows of an interrupted run that are whole may stay."""
    np.save(tmp_path / "x.npy", X)
    run = subprocess.run([sys.executable, "-c", FULL, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr
    lines = [line for line in run.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, run.stderr
    one_line(lines[0], "a path where the whole file can be written", os.strerror(27))
    left = {path for path in _tree(tmp_path) if path.suffix != ".partial" and path.parent.suffix != ".partial"}
    assert left <= {Path("x.npy"), Path("new")}
    assert not [path for path in _tree(tmp_path) if path.name.startswith(".")]


def test_names_are_text_in_html_and_in_figures(tmp_path):
    """A file called <script> or $x^ is shown as it is called, in the page, the figure and the tables."""
    from validation.audit import write_audit
    from validation.report.page import Answer, render
    from validation.report.sections import audit_section

    name = "<script>alert('x')<b>$x^{ [red]&.npy"
    np.save(tmp_path / name, RNG.standard_normal((60, 3)))
    data = load(tmp_path / name)
    result = audit(data, probes=8, twin=False, finite_size=False)
    files = write_audit(result, tmp_path / "out")
    assert all(path.stat().st_size for path in files)
    section = audit_section(result, "out", "geomem audit", None, None)
    page = render(Answer(f"Does {name} copy?", [], "amber", name), [section], [("data", data.source)])
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


KILLED = """
import os, signal, sys
from pathlib import Path
from numerics.store import atomic
with atomic(Path(sys.argv[1])) as path:
    path.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
def test_what_a_killed_process_left_is_swept_up_by_the_next(tmp_path):
    """And what a living one is writing stays."""
    target = tmp_path / "d[1]-map.png"
    run = subprocess.run([sys.executable, "-c", KILLED, target], check=False)
    assert run.returncode == -9
    assert len(_tree(tmp_path)) == 1
    with atomic(target) as mine:
        assert _tree(tmp_path) == [Path(mine.name)]
        with atomic(target) as second:
            second.write_text("second")
        assert mine.exists()
        mine.write_text("whole")
    assert _tree(tmp_path) == [Path(target.name)]
    assert target.read_text() == "whole"
