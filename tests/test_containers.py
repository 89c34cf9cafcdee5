"""Containers of samples give what a folder of the same images gives; broken and hostile ones an error in words."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from numerics.domain import DomainError
from validation.data import load
from validation.data.stored import arrow_tables
from validation.data.stored.raw import DataError

pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402

zarr = pytest.importorskip("zarr")
ROOT = Path(__file__).parents[1]
IMAGES = np.random.default_rng(0).integers(0, 256, (150, 5, 5, 3), dtype=np.uint8)
LABELS = np.arange(150) % 3
NAMES = [f"{i:04d}" for i in range(150)]


def png(image):
    with io.BytesIO() as file:
        Image.fromarray(image).save(file, "PNG")
        return file.getvalue()


PNGS = [png(image) for image in IMAGES]
FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["a", "b", "c"], "_type": "ClassLabel"}}


def table(indices=slice(None), **columns):
    """As `datasets` has it: structs of bytes and path, and the features in the schema."""
    chosen = PNGS[indices]
    image = pa.StructArray.from_arrays(
        [pa.array(chosen, pa.binary()), pa.array(["/etc/passwd"] * len(chosen))], names=["bytes", "path"]
    )
    columns = {"text": ["a word"] * len(chosen), "image": image, "label": pa.array(LABELS[indices])} | columns
    metadata = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    return pa.table(columns).replace_schema_metadata(metadata)


def save_to_disk(folder, parts, features=FEATURES):
    """The files that `datasets.Dataset.save_to_disk` writes; its own folder was read too, see docs/data.md."""
    folder.mkdir(parents=True)
    names = [f"data-{k:05d}-of-{len(parts):05d}.arrow" for k in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, part.schema) as stream:
            stream.write_table(part, max_chunksize=70)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": n} for n in names], "_split": "train"}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    return folder


def tar(path, members):
    """members : (name, content) pairs, or ready headers."""
    with tarfile.open(path, "w") as file:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                file.addfile(member)
            else:
                header = tarfile.TarInfo(member[0])
                header.size = len(member[1])
                file.addfile(header, io.BytesIO(member[1]))
    return path


def shard(indices=range(150), suffix="png", contents=PNGS):
    for i in indices:
        yield f"{NAMES[i]}.cls", str(LABELS[i]).encode()
        yield f"{NAMES[i]}.{suffix}", contents[i]


def npy(array):
    with io.BytesIO() as file:
        np.save(file, array)
        return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same images as files, in a folder a class."""
    path = tmp_path_factory.mktemp("pngs")
    for name, content, label in zip(NAMES, PNGS, LABELS, strict=True):
        (path / str(label)).mkdir(exist_ok=True)
        (path / str(label) / f"{name}.png").write_bytes(content)
    return path


def flat(dataset, order=None):
    order = slice(None) if order is None else order
    return dataset.X[order].tobytes()


def written(kind, path):
    if kind == "datasets":
        return save_to_disk(path / "d", [table(slice(0, 90)), table(slice(90, 150))])
    if kind == "parquet file":
        pq.write_table(table(), path / "x.parquet", row_group_size=40)
        return path / "x.parquet"
    if kind == "parquet folder":
        (path / "x" / "data").mkdir(parents=True)
        for k, part in enumerate((slice(0, 100), slice(100, 150))):
            pq.write_table(table(part), path / "x" / "data" / f"train-{k:05d}-of-00002.parquet")
        return path / "x"
    if kind == "bytes":
        pq.write_table(pa.table({"img": pa.array(PNGS), "label": pa.array(LABELS)}), path / "x.parquet")
        return path / "x.parquet"
    if kind == "tar":
        return tar(path / "x.tar", shard())
    if kind == "tars":
        (path / "s").mkdir()
        for k, part in enumerate((range(100), range(100, 150))):
            tar(path / "s" / f"shard-{k:06d}.tar", shard(part))
        return path / "s"
    if kind == "zarr 3":
        zarr.create_array(store=str(path / "x.zarr"), data=IMAGES, chunks=(40, 5, 5, 3))
        return path / "x.zarr"
    assert kind == "zarr group 2"
    group = zarr.open_group(str(path / "g.zarr"), mode="w", zarr_format=2)
    for name, array in (("images", IMAGES), ("labels", LABELS)):
        group.create_array(name, data=array, chunks=(40, *array.shape[1:]))
    return path / "g.zarr"


KINDS = ["datasets", "parquet file", "parquet folder", "bytes", "tar", "tars", "zarr 3", "zarr group 2"]


@pytest.mark.parametrize("kind", KINDS)
def test_each_gives_the_images_of_a_folder(kind, folder, tmp_path):
    expected = load(folder)  # by class, then by number
    order = np.argsort(LABELS, kind="stable")
    found = load(written(kind, tmp_path))
    assert (found.P, found.N, found.shape, found.scale) == (150, 75, (3, 5, 5), expected.scale)
    assert flat(found, order) == flat(expected)
    if kind != "zarr 3":
        assert found.labels.tolist() == LABELS.tolist()
    drawn = load(written(kind, tmp_path / "again") if not (tmp_path / "again").mkdir() else None, limit=20, seed=5)
    chosen = np.sort(np.random.default_rng(5).choice(150, 20, replace=False))
    assert flat(drawn) == flat(found, chosen)
    assert "limit=20 kept 20 of 150 samples" in " ".join(drawn.dropped)
    if kind != "zarr 3":
        assert drawn.labels.tolist() == LABELS[chosen].tolist()


def test_splits_are_held_out(tmp_path):
    """A dictionary of splits, parquet by split and tars by split: train is the data, test is held out."""
    whole = load(written("tar", tmp_path))
    for name, part in (("train", slice(0, 100)), ("validation", slice(100, 120)), ("test", slice(120, 150))):
        save_to_disk(tmp_path / "hf" / name, [table(part)])
        (tmp_path / "pq").mkdir(exist_ok=True)
        pq.write_table(table(part), tmp_path / "pq" / f"{name}-00000-of-00001.parquet")
        (tmp_path / "wds").mkdir(exist_ok=True)
        tar(tmp_path / "wds" / f"my-{name}-000000.tar", shard(range(150)[part]))
    (tmp_path / "hf" / "dataset_dict.json").write_text('{"splits": ["train", "validation", "test"]}')
    for name in ("hf", "pq", "wds"):
        found = load(tmp_path / name)
        assert flat(found) == flat(whole, slice(0, 100)), name
        assert found.held_out.tobytes() == flat(whole, slice(120, 150)), name
        assert any("held-out samples are test" in note for note in found.dropped)
    for name in ("hf", "pq", "wds"):
        for gone in (tmp_path / name).glob("*train*"):
            gone.rename(tmp_path / f"{name}-gone")
        with pytest.raises(DataError, match="no training samples"):
            load(tmp_path / name)


def test_arrays_in_tables_and_tars(tmp_path):
    """Lists, fixed lists and .npy members; floats stay as they are, 8-bit numbers are pixels."""
    numbers = np.random.default_rng(1).standard_normal((70, 2, 3)).astype(np.float32)
    nested = pa.array(numbers.tolist(), pa.list_(pa.list_(pa.float32())))
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), 6)
    pq.write_table(pa.table({"x": nested, "n": pa.array(range(70))}), tmp_path / "nested.parquet")
    pq.write_table(pa.table({"x": fixed}), tmp_path / "fixed.parquet")
    tar(tmp_path / "x.tar", [(f"{i}.npy", npy(row)) for i, row in enumerate(numbers)])
    save_to_disk(
        tmp_path / "hf", [pa.table({"x": nested})], {"x": {"shape": [2, 3], "dtype": "float32", "_type": "Array2D"}}
    )
    for name, shape in (("nested.parquet", (2, 3)), ("fixed.parquet", (6,)), ("x.tar", (2, 3)), ("hf", (2, 3))):
        found = load(tmp_path / name)
        assert (found.shape, found.labels, found.X.dtype) == (shape, None, np.float32)
        assert found.X.tobytes() == numbers.tobytes()
    pq.write_table(
        pa.table({"x": pa.array(IMAGES.reshape(150, 5, 15).tolist(), pa.list_(pa.list_(pa.uint8())))}),
        tmp_path / "u.parquet",
    )
    assert "to [-1, 1]" in load(tmp_path / "u.parquet").scale


def test_classes_after_images_and_missing_ones(tmp_path):
    """`key.cls` may follow its image; where a class is missing there are none."""
    path = tar(tmp_path / "x.tar", [pair for i in range(6) for pair in reversed(list(shard([i])))])
    assert load(path).labels.tolist() == LABELS[:6].tolist()
    assert load(tar(path, list(shard(range(6)))[1:])).labels is None
    whole = pa.table({"image": PNGS[:3], "label": pa.array([0, None, 1])})
    pq.write_table(whole, tmp_path / "x.parquet")
    assert load(tmp_path / "x.parquet").labels is None


def test_extension_types_are_what_they_store(tmp_path):
    """`datasets` marks arrays by an extension type of its own, which is not needed to read them."""
    numbers = np.arange(24.0).reshape(4, 2, 3)
    storage = pa.array(numbers.tolist(), pa.list_(pa.list_(pa.float64())))
    field = pa.field("x", storage.type, metadata={
        "ARROW:extension:name": "datasets.features.features.Array2DExtensionType", "ARROW:extension:metadata": "[[2, 3], 1]",
    })  # fmt: skip
    save_to_disk(tmp_path / "hf", [pa.table([storage], schema=pa.schema([field]))], {"x": {"_type": "Array2D"}})
    assert load(tmp_path / "hf").X.tolist() == numbers.reshape(4, 6).tolist()


def test_memory_is_that_of_the_result(tmp_path, monkeypatch):
    """No more than a batch of rows is materialised at a time, and row groups without a drawn row are not read."""
    seen = []
    taken = arrow_tables._taken

    def watched(arrays, rows):
        def counted():
            for array in arrays:
                seen.append(len(array))
                yield array

        for array in taken(counted(), rows):
            assert len(array) <= arrow_tables.BATCH
            yield array

    monkeypatch.setattr(arrow_tables, "_taken", watched)
    path = written("parquet file", tmp_path)
    load(path)
    assert max(seen) <= 40
    assert sum(seen) == 3 * 150  # headers, pixels, labels
    load(written("datasets", tmp_path))  # its batches of 70 rows come in two
    seen.clear()
    pq.write_table(table(), path, row_group_size=10)
    drawn = np.sort(np.random.default_rng(0).choice(150, 3, replace=False))
    load(path, limit=3)
    assert sum(seen) == 3 * 10 * len(set(drawn // 10))


PEAK = """
import resource, sys
from validation.data import load
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = load(sys.argv[1], limit=4)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, found.P)
"""


@pytest.mark.slow  # 400 MB are written
@pytest.mark.skipif(sys.platform == "win32", reason="resource is of POSIX")
@pytest.mark.parametrize("kind", ["parquet", "tar", "zarr"])
def test_peak_memory_of_a_large_container(kind, tmp_path):
    """400 MB of which four samples are drawn cost less than 100 MB."""
    rng = np.random.default_rng(0)
    big = [npy(rng.integers(0, 256, (1 << 20,), dtype=np.uint8)) for _ in range(8)]
    if kind == "tar":
        tar(tmp_path / "x", [(f"{i}.npy", big[i % 8]) for i in range(400)]).rename(tmp_path / "x.tar")
        path = tmp_path / "x.tar"
    elif kind == "parquet":
        path = tmp_path / "x.parquet"
        values = pa.FixedSizeListArray.from_arrays(pa.array(rng.integers(0, 256, 10 << 20, dtype=np.uint8)), 1 << 20)
        with pq.ParquetWriter(path, pa.schema([("x", values.type)]), use_dictionary=False) as file:
            for _ in range(40):
                file.write_table(pa.table({"x": values}))
    else:
        path = tmp_path / "x.zarr"
        array = zarr.create_array(
            store=str(path), shape=(400, 1 << 20), chunks=(10, 1 << 20), dtype="u1", compressors=None
        )
        for i in range(0, 400, 10):
            array[i : i + 10] = rng.integers(0, 256, (10, 1 << 20), dtype=np.uint8)
    run = subprocess.run([sys.executable, "-c", PEAK, path], capture_output=True, text=True, check=True, cwd=ROOT)
    megabytes, count = run.stdout.split()
    assert int(count) == 4
    assert float(megabytes) < (160 if kind == "parquet" else 100)


# --- what is no set of samples -------------------------------------------------------------------------------------------


def small(size):
    return png(np.zeros((size, size, 3), np.uint8) + np.uint8(size))


BAD = {
    "no images in a tar": (lambda p: tar(p / "x.tar", [("a.txt", b"a"), ("b.json", b"{}")]), "no images and no arrays in it"),
    "an empty tar": (lambda p: tar(p / "x.tar", []), "it holds nothing"),
    "no tar": (lambda p: (p / "x.tar").write_bytes(b"a" * 2000), "cannot be read"),
    "a class in words": (lambda p: tar(p / "x.tar", [("a.cls", b"cat"), ("a.png", PNGS[0])]), "a class as an integer"),
    "two images a key": (lambda p: tar(p / "x.tar", [("a.left.png", b""), ("a.png", b""), ("a.jpg", b"")]), "second image"),
    "images and arrays": (lambda p: tar(p / "x.tar", [("a.png", PNGS[0]), ("b.npy", npy(IMAGES[0]))]), "one kind"),
    "sizes in a tar": (lambda p: tar(p / "x.tar", [("a.png", small(4)), ("b.png", small(5))]), "a.png] is 4x4"),
    "shapes in a tar": (lambda p: tar(p / "x.tar", [("a.npy", npy(np.ones(3))), ("b.npy", npy(np.ones(4)))]), "ragged"),
    "objects in a tar": (lambda p: tar(p / "x.tar", [("a.npy", OBJECTS), ("b.npy", OBJECTS)]), "Python objects"),
    "a broken image": (lambda p: tar(p / "x.tar", [("a.png", PNGS[0]), ("b.png", PNGS[1][:60])]), "b.png]: cannot be read"),
    "a bomb": (lambda p: tar(p / "x.tar", [("a.png", BOMB), ("b.png", BOMB)]), "DecompressionBomb"),
    "no parquet": (lambda p: (p / "x.parquet").write_bytes(b"PAR1" + b"a" * 90), "cannot be read"),
    "half a parquet": (lambda p: half(p), "cannot be read"),
    "no column": (lambda p: pq.write_table(pa.table({"a": [1, 2]}), p / "x.parquet"), "no column holds images or arrays; "),
    "two columns": (
        lambda p: pq.write_table(pa.table({"a": PNGS[:2], "b": PNGS[:2]}), p / "x.parquet"), "several columns could be the data"
    ),
    "images elsewhere": (
        lambda p: pq.write_table(pa.table({"image": [{"bytes": None, "path": "/etc/passwd"}] * 2},
            pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))])), p / "x.parquet"),
        "lies in another file",
    ),
    "sizes in a table": (lambda p: pq.write_table(pa.table({"img": [small(4), small(5)]}), p / "x.parquet"), "row 1 is 5x5"),
    "ragged lists": (lambda p: pq.write_table(pa.table({"x": [[1.0], [1.0, 2.0]]}), p / "x.parquet"), "ragged"),
    "missing numbers": (lambda p: pq.write_table(pa.table({"x": [[1.0, None], [1.0, 2.0]]}), p / "x.parquet"), "missing"),
    "half a data set": (lambda p: cut(save_to_disk(p / "x", [table()])), "cannot be read"),
    "offsets that lead outside": (lambda p: led_outside(save_to_disk(p / "x", [table()])), "cannot be read"),
    "a data file gone": (lambda p: gone(save_to_disk(p / "x", [table()])), "no such file"),
    "no data files": (lambda p: (save_to_disk(p / "x", [table()]) / "state.json").write_text("{}"), "names no data files"),
    "a state of nonsense": (lambda p: (save_to_disk(p / "x", [table()]) / "state.json").write_text("["), "cannot be read"),
    "a pickle codec": (lambda p: coded(p, [{"id": "pickle"}]), "coded with pickle"),
    "an unknown codec": (lambda p: coded(p, [{"id": "nonsense"}]), "coded with nonsense"),
    "a zarr of nonsense": (lambda p: described(p, "[" * 100_000), "nested too deeply|cannot be read"),
    "a zarr without a shape": (lambda p: described(p, '{"node_type": "array", "zarr_format": 3}'), "cannot be read"),
    "a zarr of text": (lambda p: zarr.create_array(store=str(p / "x"), shape=(4, 2), dtype="U3"), "its dtype is"),
    "a zarr of terabytes": (
        lambda p: zarr.create_array(store=str(p / "x"), shape=(1 << 40, 2), chunks=(1 << 40, 2), dtype="u1"), "of memory"
    ),
    "an empty group": (lambda p: zarr.open_group(str(p / "x"), mode="w"), "no array could be the data"),
}  # fmt: skip
with io.BytesIO() as file:
    Image.new("1", (20_000, 10_000)).save(file, "PNG")
    BOMB = file.getvalue()
OBJECTS = npy(np.array([{}], object))


def half(path):
    pq.write_table(table(), path / "x.parquet")
    content = (path / "x.parquet").read_bytes()
    (path / "x.parquet").write_bytes(content[: len(content) // 2])


def cut(folder):
    file = next(folder.glob("*.arrow"))
    file.write_bytes(file.read_bytes()[:5000])


def led_outside(folder):
    """The second image of the stream ends two gigabytes behind it."""
    file = next(folder.glob("*.arrow"))
    ends = np.cumsum([0, *map(len, PNGS[:70])]).astype("<i4")
    content = file.read_bytes()
    assert ends[:3].tobytes() in content
    wrong = ends[:2].tobytes() + np.int32(2_000_000_000).tobytes()
    file.write_bytes(content.replace(ends[:3].tobytes(), wrong, 1))


def gone(folder):
    next(folder.glob("*.arrow")).unlink()


def coded(path, filters):
    zarr.create_array(store=str(path / "x"), data=np.ones((4, 2)), zarr_format=2)
    record = json.loads((path / "x" / ".zarray").read_text())
    (path / "x" / ".zarray").write_text(json.dumps(record | {"filters": filters}))


def described(path, text):
    (path / "x").mkdir()
    (path / "x" / "zarr.json").write_text(text)


@pytest.mark.filterwarnings("ignore:.*does not have a Zarr V3 specification")
@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_says_so(name, tmp_path):
    write, words = BAD[name]
    write(tmp_path)
    (path,) = tmp_path.iterdir()
    with pytest.raises(DataError, match=words.replace("[", r"\[")) as found:
        load(path)
    assert str(found.value).isprintable()
    assert len(str(found.value)) < 1500
    assert list(tmp_path.iterdir()) == [path]


def test_hostile_members_are_text(tmp_path):
    """Names that climb, links, devices and sparse members: nothing is made, nothing is followed, the rest is read."""
    link, device = tarfile.TarInfo("0000.jpg"), tarfile.TarInfo("dev.png")
    link.type, link.linkname, device.type = tarfile.SYMTYPE, "/etc/passwd", tarfile.CHRTYPE
    sparse = tarfile.TarInfo("sparse.png")
    sparse.type = tarfile.GNUTYPE_SPARSE
    (tmp_path / "here").mkdir()
    path = tar(
        tmp_path / "here" / "x.tar",
        [("../../../../tmp/geomem-escaped.png", PNGS[0]), ("/abs/\x1b[31mred.png", PNGS[1]), link, device, sparse],
    )
    before = sorted(tmp_path.rglob("*"))
    found = load(path)
    assert found.P == 2
    assert found.X.tobytes() == load(written("tar", tmp_path)).X[:2].tobytes()
    assert found.files == ("../../../../tmp/geomem-escaped.png", "/abs/\\x1b[31mred.png")
    assert "3 links, devices or sparse files" in found.dropped[0]
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "x.tar"])
    assert not os.path.exists("/tmp/geomem-escaped.png")


def test_names_of_files_do_not_climb(tmp_path):
    """A state.json may name what it likes: only files beside it are read."""
    secret = save_to_disk(tmp_path / "secret", [table()])
    folder = save_to_disk(tmp_path / "x", [table(slice(0, 3))])
    name = next(secret.glob("*.arrow")).rename(secret / "other.arrow").name
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": f"../secret/{name}"}]}))
    with pytest.raises(DataError, match="no such file"):
        load(folder)


def test_options_of_containers(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": PNGS[:5], "b": PNGS[5:10], "c": [[1.0, 2.0]] * 4 + [[2.0, 1.0]]}), path)
    assert load(path, key="b").X.tobytes() == load(written("tar", tmp_path)).X[5:10].tobytes()
    assert load(path, key="c").shape == (2,)
    with pytest.raises(DataError, match="it has no column 'd'"):
        load(path, key="d")
    assert load(path, key="a", image_size=3).shape == (3, 3, 3)
    with pytest.raises(DomainError, match="Only image files are resized"):
        load(path, key="c", image_size=3)
    group = written("zarr group 2", tmp_path)
    assert load(group, key="images").labels is not None
    with pytest.raises(DataError, match=r"one of its arrays: images, labels.*--key"):
        load(group, key="x")
    with pytest.raises(DomainError, match="hold several arrays"):
        load(tmp_path / "x.tar.gz", key="a")


def test_images_beside_a_table_are_a_folder_of_images(tmp_path):
    """A table of captions beside images does not take their place."""
    pq.write_table(table(slice(0, 4)), tmp_path / "metadata.parquet")
    for name, content in zip(NAMES[:6], PNGS[:6], strict=True):
        (tmp_path / f"{name}.png").write_bytes(content)
    assert load(tmp_path).P == 6


def test_without_the_packages_the_remedy_is_told(tmp_path, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("pyarrow", "zarr") else real(name))
    for kind in ("parquet file", "datasets", "zarr 3"):
        (tmp_path / kind).mkdir()
        with pytest.raises(DataError, match=r"is not installed.*pip install pyarrow zarr"):
            load(written(kind, tmp_path / kind))
    (tmp_path / "tar").mkdir()
    assert load(written("tar", tmp_path / "tar")).P == 150


@pytest.mark.slow  # a whole spectrum
def test_a_command_takes_a_container(geomem, tmp_path):
    save_to_disk(tmp_path / "hf", [table(slice(0, 40))])
    run = geomem("spectrum", "hf", "--points", 4, "--probes", 2, "--out", "s.png")
    assert run.returncode == 0, run.stderr
    assert "wrote s.png" in run.stdout
