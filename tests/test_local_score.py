"""The local score against brute force over patches, and its limits: one pixel, the whole image, one bag, borders, windows."""

import math

import numpy as np
import pytest
import torch

from numerics.domain import DomainError
from validation.score import EmpiricalScore
from validation.score.local import BORDERS, LocalScore
from validation.score.local.patches import border_types

RNG = np.random.default_rng(3)
IMAGES = RNG.normal(size=(20, 2, 5, 6)).cumsum(axis=3)
X = IMAGES[:3] + 0.3 * RNG.normal(size=(3, 2, 5, 6))


def _cut(image, row, column, width, border):
    """{(channel, offset): value} of the pixels that the patch holds, by plain indexing."""
    C, H, W = image.shape
    half, found = width // 2, {}
    for c in range(C):
        for i in range(-half, half + 1):
            for j in range(-half, half + 1):
                a, b = row + i, column + j
                if border == "circular":
                    found[c, i, j] = image[c, a % H, b % W]
                elif 0 <= a < H and 0 <= b < W:
                    found[c, i, j] = image[c, a, b]
                else:
                    found[c, i, j] = 0.0
    return found


def brute_force(images, x, t, width, equivariant, border, window=None):
    """D(x) pixel by pixel, in float64."""
    B, _, H, W = x.shape
    half = width // 2
    window = np.ones((width, width)) if window is None else window
    out = np.zeros_like(x)

    def kind(row, column):
        return (max(0, half - row), max(0, row + half - H + 1), max(0, half - column), max(0, column + half - W + 1))

    for b in range(B):
        for row in range(H):
            for column in range(W):
                query = _cut(x[b], row, column, width, border)
                places = [(row, column)]
                if equivariant:
                    places = [(i, j) for i in range(H) for j in range(W)]
                    if border == "apart":
                        places = [p for p in places if kind(*p) == kind(row, column)]
                energies, values = [], []
                for image in images:
                    for place in places:
                        key = _cut(image, *place, width, border)
                        energies.append(
                            sum(window[i + half, j + half] * (query[c, i, j] - key[c, i, j]) ** 2 for c, i, j in query)
                        )
                        values.append(image[:, place[0], place[1]])
                w = -np.array(energies) / (2 * t)
                w = np.exp(w - w.max())
                out[b, :, row, column] = w @ np.array(values) / w.sum()
    return out


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("equivariant", [False, True])
@pytest.mark.parametrize(
    ("t", "dtype", "accuracy"), [(1e-4, "float32", 1e-6), (0.3, "float32", 1e-5), (0.3, "float64", 1e-11)]
)
def test_denoiser_and_score_are_those_of_brute_force(border, equivariant, t, dtype, accuracy):
    L = LocalScore(IMAGES, patch=3, equivariant=equivariant, border=border, dtype=dtype)
    expected = brute_force(IMAGES, X, t, 3, equivariant, border)
    assert np.abs(L.denoise(X, t) - expected).max() < accuracy
    assert np.abs(L.score(X, t) * t - (expected - X)).max() < accuracy


def test_window_weighs_the_pixels_of_a_patch():
    window = np.array([[0.2, 0.5, 0.2], [0.5, 1.0, 0.5], [0.0, 0.5, 0.2]])
    L = LocalScore(IMAGES, patch=3, window=window, dtype="float64")
    assert np.abs(L.denoise(X, 0.3) - brute_force(IMAGES, X, 0.3, 3, True, "zero", window)).max() < 1e-11


def test_a_patch_larger_than_the_image_is_the_empirical_score():
    L = LocalScore(IMAGES, patch=11, equivariant=False, dtype="float64")
    E = EmpiricalScore(IMAGES.reshape(20, -1), dtype="float64")
    flat = X.reshape(3, -1)
    np.testing.assert_allclose(L.score(flat, 0.2), E.score(flat, 0.2), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(L.jacobian(flat, 0.2), E.jacobian(flat, 0.2), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("border", ["zero", "circular"])
@pytest.mark.parametrize("equivariant", [False, True])
def test_jacobian_is_the_derivative(border, equivariant):
    L = LocalScore(IMAGES, patch=3, equivariant=equivariant, border=border, dtype="float64")
    x, v, h = X.reshape(3, -1), RNG.normal(size=(3, 60)), 1e-5
    J = L.jacobian(x, 0.4)
    slope = (L.score(x + h * v, 0.4) - L.score(x - h * v, 0.4)) / (2 * h)
    np.testing.assert_allclose(np.einsum("bij,bj->bi", J, v), slope, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(L.jvp(x, 0.4, v), slope, rtol=1e-6, atol=1e-6)
    assert np.abs(J - J.transpose(0, 2, 1)).max() > 1e-3  # a local score is no gradient


CASES = [(width, channels, True, border) for width, channels in ((1, 1), (7, 3), (15, 1)) for border in BORDERS]
CASES += [(3, 2, True, "zero"), (9, 1, True, "circular"), (11, 2, True, "apart")]


@pytest.mark.parametrize(
    ("width", "channels", "equivariant", "border"), [*CASES, (5, 1, False, "zero"), (7, 2, False, "circular")]
)
def test_box_sums_are_the_products_of_patches(width, channels, equivariant, border):
    """Every number of terms of a width (15 = 8 + 4 + 2 + 1), more images than lanes, one query or several, one or two threads."""
    if border == "circular" and width > 9:
        width = 9
    rng = np.random.default_rng(width)
    images = rng.normal(size=(70, channels, 9, 11)).astype(np.float32).astype(float)
    x = images[[0, 69, 3]] + rng.normal(size=(3, channels, 9, 11)) * 0.6
    options = {"equivariant": equivariant, "border": border, "dtype": "float64"}
    referee = LocalScore(images, width, method="products", **options)
    threads = torch.get_num_threads()
    for queries, count in ((x, 1), (x[:1], 2)):
        torch.set_num_threads(count)
        try:
            boxes = LocalScore(images, width, method="boxes", **options)
            for t in (0.3, 40.0):
                np.testing.assert_allclose(boxes.score(queries, t), referee.score(queries, t), rtol=1e-9, atol=1e-9)
                np.testing.assert_allclose(
                    boxes.participation(queries, t), referee.participation(queries, t), rtol=1e-9
                )
            single = LocalScore(images, width, method="boxes", **options | {"dtype": "float32"})
            error = np.abs(single.score(queries, 0.3) - referee.score(queries, 0.3)).max()
            assert error * math.sqrt(0.3) < 1e-4
        finally:
            torch.set_num_threads(threads)


def test_a_patch_much_nearer_than_the_first_ones_takes_over():
    """Its weight is more than 2^60 times that of all images before it; and far from all images float32 is not enough."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(200, 1, 8, 8))
    x = images[150:151] + 0.01 * rng.normal(size=(1, 1, 8, 8))
    options = {"patch": 5, "dtype": "float32"}
    boxes, products = (LocalScore(images, method=method, **options) for method in ("boxes", "products"))
    exact = LocalScore(images, patch=5, dtype="float64", method="products")
    assert np.abs(boxes.denoise(x, 1e-4) - images[150]).max() < 1e-6
    assert np.abs(boxes.participation(x, 1e-4) - 1).max() < 1e-6
    far = rng.normal(size=(1, 1, 8, 8))
    for t in (1e-3, 1e-2):
        expected = exact.denoise(far, t)
        assert np.abs(boxes.denoise(far, t) - expected).max() < 1e-5
        assert np.abs(products.denoise(far, t) - expected).max() < 1e-5


def test_a_query_far_from_all_patches_is_computed_in_float64():
    """Twenty images that differ by 1e-3, seen from afar: energies of 1e4 that differ by 1, which float32 knows to 1e-3."""
    rng = np.random.default_rng(1)
    images = (rng.normal(size=(1, 8, 8)) + 1e-3 * rng.normal(size=(20, 8, 8))).astype(np.float32)
    x = images[:2] + 3 * rng.normal(size=(2, 8, 8))
    options = {"patch": 5, "equivariant": False}
    boxes = LocalScore(images, dtype="float32", method="boxes", **options)
    exact = LocalScore(images.astype(float), dtype="float64", method="products", **options)
    np.testing.assert_allclose(boxes.participation(x, 0.01), exact.participation(x, 0.01), rtol=1e-6)


def test_a_method_that_cannot_be_had_is_named():
    with pytest.raises(DomainError, match=r"method.*'products' or None.*no bag"):
        LocalScore(IMAGES, patch=3, bag=50, method="boxes")
    with pytest.raises(DomainError, match="method"):
        LocalScore(IMAGES, patch=3, method="fft")


def test_jacobian_with_a_window_is_the_derivative():
    window = np.array([[0.2, 0.5, 0.2], [0.5, 1.0, 0.3], [0.1, 0.4, 0.6]])
    L = LocalScore(IMAGES, patch=3, window=window, dtype="float64")
    x, v, h = X.reshape(3, -1), RNG.normal(size=(3, 60)), 1e-5
    slope = (L.score(x + h * v, 0.4) - L.score(x - h * v, 0.4)) / (2 * h)
    np.testing.assert_allclose(np.einsum("bij,bj->bi", L.jacobian(x, 0.4), v), slope, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(L.jvp(x, 0.4, v), slope, rtol=1e-6, atol=1e-6)


def test_kinds_and_shapes_come_back():
    grey = IMAGES[:, 0].astype(np.float32)
    L = LocalScore(grey, patch=lambda t: 1 if t < 0.1 else 3)
    assert L.denoise(grey[:2], 0.2).shape == (2, 5, 6)
    assert L.denoise(grey[0], 0.2).dtype == np.float32
    assert L.score(torch.from_numpy(grey[:2].reshape(2, 30)), torch.tensor(0.05)).shape == (2, 30)
    assert L.participation(grey[:2], 0.2).shape == (2, 5, 6)
    assert L.participation(grey[0], 0.2).shape == (5, 6)
    each = L.denoise(grey[:2], 0.05)
    np.testing.assert_allclose(each[0], LocalScore(grey, patch=1).denoise(grey[0], 0.05), rtol=1e-6)


def test_noise_levels_of_a_batch():
    L = LocalScore(IMAGES, patch=3, dtype="float64")
    together = L.denoise(X, [0.1, 0.5, 2.0])
    for b, t in enumerate([0.1, 0.5, 2.0]):
        np.testing.assert_allclose(together[b], L.denoise(X[b], t), rtol=1e-10)


def test_a_bag_of_all_patches_is_the_whole_bag_and_a_part_is_near():
    x, whole = X[:1], LocalScore(IMAGES, patch=1, dtype="float64", method="products")
    assert np.array_equal(whole.denoise(x, 1.0), LocalScore(IMAGES, patch=1, dtype="float64", bag=600).denoise(x, 1.0))
    part = LocalScore(IMAGES, patch=1, dtype="float64", bag=300).denoise(x, 10.0)
    assert 0 < np.abs(part - whole.denoise(x, 10.0)).max() < 0.5 * IMAGES.std()


def test_border_types_hold_every_place_once():
    places = torch.cat(border_types(7, 9, 2))
    assert sorted(places.tolist()) == list(range(63))
    assert len(border_types(7, 9, 2)[0]) == 3 * 5  # interior first


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"patch": 4}, "patch = 4"),
        ({"patch": 13}, "patch = 13"),
        ({"border": "circular", "patch": 7}, "patch = 7"),
        ({"border": "mirror"}, "border = mirror"),
        ({"window": np.ones((2, 2)), "patch": 3}, "window"),
        ({"equivariant": False, "bag": 10}, "bag"),
        ({"images": IMAGES[0, 0]}, "images"),
        ({"images": np.full((3, 4, 4), np.nan)}, "images"),
    ],
)
def test_bad_input_is_named(change, match):
    options = {"images": IMAGES, "patch": 3} | change
    with pytest.raises(DomainError, match=match):
        LocalScore(options.pop("images"), **options)


def test_bad_queries_are_named():
    L = LocalScore(IMAGES, patch=3)
    with pytest.raises(DomainError, match="x"):
        L.denoise(X[:, :1], 0.1)
    with pytest.raises(DomainError, match="t"):
        L.denoise(X, -1.0)
