"""Collapse of patches against the exact theory of Gaussian fields, and the width that a local network is found to see."""

import math

import numpy as np
import pytest
import torch

from numerics.domain import DomainError
from theory import StationaryField
from validation.data import Dataset
from validation.locality import (
    audit_patches,
    field_lines,
    locality_lines,
    locality_table,
    patch_widths,
    receptive_field,
    write_field,
    write_locality,
)
from validation.score.local import LocalScore

RNG = np.random.default_rng(5)
SIDE = 8


def _field(P):
    """Gaussian images, stationary on a torus of 16 x 16, of which a corner is taken."""
    power = StationaryField.power_law(2 * SIDE, exponent=2.0).power
    white = np.fft.fft2(RNG.normal(size=(P, 2 * SIDE, 2 * SIDE)))
    return np.fft.ifft2(white * np.sqrt(power)).real[:, :SIDE, :SIDE]


def _data(images, name="field"):
    return Dataset(images.reshape(len(images), -1).astype(np.float32), name, images.shape[1:], "data units", name)


FIELD = _data(_field(600))


@pytest.fixture(scope="module")
def found():
    return audit_patches(FIELD, [3, 5], probes=240, seed=1)


def test_local_collapse_is_that_of_the_exact_theory(found):
    for row in found.of(False):
        error = math.hypot(row.measured.error, row.finite.error)
        assert abs(row.measured.value - row.finite.value) < 4 * error
        assert error < 0.15 * row.finite.value
        assert row.copies == 0
    narrow, wide = found.of(False)
    assert abs(wide.measured.value - narrow.finite.value) > 8 * narrow.measured.error  # a wrong width is seen


def test_a_bag_of_all_places_collapses_later(found):
    """Patches that overlap are no independent draws, which moves the time by some per cent here, not by the factor of the bag."""
    for local, bag in zip(found.of(False), found.of(True), strict=True):
        assert bag.patches == SIDE**2 * local.patches
        assert bag.measured.value < 0.7 * local.measured.value
        assert bag.measured.value == pytest.approx(bag.finite.value, rel=0.35)


def test_a_bag_in_pieces_is_one_bag(found, monkeypatch):
    monkeypatch.setattr("validation.locality.collapse.HELD", 64 * SIDE**2 * 9)
    pieces = audit_patches(FIELD, 3, probes=240, seed=1, finite_size=False).of(True)[0]
    assert pieces.measured.value == pytest.approx(found.of(True)[0].measured.value, rel=1e-4)


def test_a_bag_that_is_too_large_takes_fewer_images(found, monkeypatch):
    monkeypatch.setattr("validation.locality.collapse.WORK", 2 * (9 + 28) * 64 * 64 * 100.0)
    few = audit_patches(FIELD, 3, probes=64, finite_size=False)
    row = few.of(True)[0]
    assert (row.images, row.patches) == (100, 6400)
    assert few.full_bag(row) < row.theory
    assert any("600" in line for line in locality_lines(few))


def test_flat_patches_are_counted_and_left_out():
    images = _field(200)
    images[:, :, : SIDE // 2 + 2] = 0.0
    flat = audit_patches(_data(images), 3, probes=64, finite_size=False)
    local, bag = flat.rows
    assert local.copies == local.probes
    assert math.isnan(local.measured.value)
    assert "exact copy" in local.measured.reason
    assert 0 < bag.copies < bag.probes
    assert bag.measured.value > 0


def test_largest_patch_not_memorised(found):
    narrow, wide = (row.measured.value for row in found.of(False))
    assert found.largest([narrow / 2, (narrow + wide) / 2, 2 * wide], equivariant=False).tolist() == [0, 3, 5]


def test_tables_lines_and_files(found, tmp_path):
    assert len(locality_table(found).rows) == 4
    assert len(list(locality_lines(found))) == 2
    files = write_locality(found, tmp_path)
    assert [path.name for path in files] == ["locality.csv", "locality.png"]
    assert files[0].read_text().splitlines()[2].startswith("3 x 3")


@pytest.mark.parametrize(("kind", "width"), [("ELS", 3), ("LS", 5)])
def test_a_local_score_is_found_to_see_its_own_patch(found, tmp_path, kind, width):
    images = FIELD.X[:120].reshape(-1, SIDE, SIDE)
    L = LocalScore(images, patch=width, equivariant=kind == "ELS", dtype="float64")
    fresh = _field(6)
    field = receptive_field(L, images, fresh, 0.4, [1, 3, 5], points=4, bag=120 * SIDE**2)
    assert field["best"].sel(kind=kind).values.tolist() == [width]
    assert (field["r2"].sel(kind=kind, width=width) > 1 - 1e-8).all()
    lines = list(field_lines(field, found))
    assert len(lines) == 4
    assert f"{width} (1.00)" in lines[0 if kind == "LS" else 1]
    assert [path.name for path in write_field(field, tmp_path, "net")] == ["net.csv", "net.png"]


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: patch_widths(FIELD, 4), "patch = 4"),
        (lambda: patch_widths(FIELD, 17), "patch = 17"),
        (lambda: patch_widths(FIELD, "wide"), "patch = wide"),
        (lambda: patch_widths(Dataset(FIELD.X, "v", (64,), "", "")), "data"),
        (lambda: audit_patches(FIELD, 3, probes=2), "probes = 2"),
        (lambda: receptive_field(lambda x, t: -x, torch.zeros(3, 4, 4), torch.zeros(3, 5, 5), 1.0), "held_out"),
        (lambda: receptive_field(lambda x, t: -x, torch.zeros(3, 4, 4), torch.zeros(3, 4, 4), -1.0), "t = -1"),
        (
            lambda: receptive_field(lambda x, t: -x, torch.zeros(3, 4, 4), torch.zeros(3, 4, 4), 1.0, kinds=("CNN",)),
            "kinds = CNN",
        ),
    ],
)
def test_bad_input_is_named(call, match):
    with pytest.raises(DomainError, match=match):
        call()


def test_command(geomem, tmp_path):
    np.save(tmp_path / "field.npy", FIELD.X[:120].reshape(-1, SIDE, SIDE))
    run = geomem(
        "audit",
        "field.npy",
        "--patch",
        "3",
        "--no-twin",
        "--no-finite-size",
        "--no-points",
        "--probes",
        32,
        "--out",
        "out",
    )
    assert run.returncode == 0, run.stderr
    assert "memorises patches below sigma" in run.stdout.replace("\n", " ")
    assert (tmp_path / "out/locality.png").exists()
    wrong = geomem("audit", "field.npy", "--patch", "4")
    assert wrong.returncode == 2
    assert "patch = 4" in wrong.stderr.replace("\n", " ")
