"""Conditional networks with a repeated class: the set, the areas where the answer is known, and the study at toy size."""

import numpy as np
import pytest
import torch
import xarray as xr

from numerics.domain import DomainError
from validation.experiments import copied_images
from validation.experiments.copied_images.conditional_networks import class_score, conditional_snapshots, repeated_class
from validation.experiments.copied_images.duplicated_class import COMPETITORS, SIGNS, area_table

pytest.importorskip("diffusers")

TOY = copied_images.ConditionalPreset(
    "toy",
    (3,),
    few=4,
    copies=3,
    others=12,
    network={
        "layers_per_block": 1,
        "block_out_channels": (4,),
        "down_block_types": ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",),
        "norm_num_groups": 2,
        "add_attention": False,
    },
    steps=(3,),
    batch=8,
    samples=12,
    other=4,
    flow=4,
    sigmas=(0.3,),
    draws=2,
    probes=2,
)


def images(count=60, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, 1, 8, 8))), np.arange(count) % 3


def test_one_class_is_repeated_and_the_others_are_distinct():
    X, labels = images()
    found = repeated_class(X, labels, 1, few=4, copies=5, others=15, seed=2)
    rows, of = found.rows
    assert torch.bincount(of).tolist() == [15, 20, 15]
    assert len(torch.unique(rows[of == 1].flatten(1), dim=0)) == 4
    assert len(torch.unique(rows.flatten(1), dim=0)) == 34
    for k in range(3):  # of their own class, and none of the fresh ones is a row
        own = X[labels == k].float()
        both = torch.cat([found.distinct[k], found.fresh[k]])
        assert sorted(both.sum(dim=(1, 2, 3)).tolist()) == sorted(own.sum(dim=(1, 2, 3)).tolist())
    other = repeated_class(X, labels, 1, few=4, copies=5, others=15, seed=3)
    assert not torch.equal(other.distinct[0], found.distinct[0])


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"repeated": 7}, "repeated"),
        ({"few": 19}, "few"),
        ({"others": 19}, "others"),
        ({"few": 0}, "few"),
        ({"copies": 0}, "copies"),
    ],
)
def test_repeated_class_refuses(options, name):
    given = {"repeated": 1, "few": 4, "copies": 5, "others": 15} | options
    with pytest.raises(DomainError) as error:
        repeated_class(*images(), **given)
    assert error.value.argument == name


def test_snapshots_are_those_of_the_seed_and_know_their_class():
    X, labels = images()
    data = repeated_class(X, labels, 1, few=4, copies=5, others=15)
    first, last = conditional_snapshots(data, TOY.network, (2, 4), batch=4, seed=1)
    again = dict(conditional_snapshots(data, TOY.network, (2, 4), batch=4, seed=1))
    other = dict(conditional_snapshots(data, TOY.network, (2, 4), batch=4, seed=2))
    x = torch.randn(2, 64, dtype=torch.float64)
    for step, net in (first, last):
        torch.testing.assert_close(class_score(net, 1).score(x, 1.0), class_score(again[step], 1).score(x, 1.0))
    assert not torch.allclose(class_score(last[1], 1).score(x, 1.0), class_score(other[4], 1).score(x, 1.0))
    assert not torch.allclose(class_score(last[1], 1).score(x, 1.0), class_score(first[1], 1).score(x, 1.0))
    assert not torch.allclose(class_score(last[1], 1).score(x, 1.0), class_score(last[1], 2).score(x, 1.0))


def made_up(seed=0, members=3, own=400, others=400):
    """Half of the samples of class 1 are copies. `dimension` is low for copies, `flipd` for the class, the rest is noise."""
    rng = np.random.default_rng(seed)
    label = np.concatenate([np.ones(own, int), np.zeros(others, int)])
    copy = (label == 1) & (np.arange(len(label)) % 2 == 0)
    names = [*SIGNS, *COMPETITORS]
    signal = rng.standard_normal((members, len(names), 1, len(label)))
    signal[:, names.index("dimension")] -= 2.0 * copy
    signal[:, names.index("flipd")] -= 2.0 * label
    return xr.Dataset(
        {
            "signal": (("member", "probe", "sigma", "judged"), signal),
            "judged_copy": (("member", "judged"), np.tile(copy, (members, 1))),
            "judged_label": (("member", "judged"), np.tile(label, (members, 1))),
            "repeated": ("member", np.ones(members, int)),
        },
        {"probe": names, "sigma": [0.3]},
    )


def test_a_signal_of_copies_is_told_from_one_of_classes():
    """Bounds are five standard errors 1/sqrt(12 n) of the mean over three networks, n the smaller kind: false alarm 1e-5."""
    found = area_table(made_up())["auc"].mean("member").isel(sigma=0)
    bound = 5 / (12 * 3 * 200) ** 0.5

    def area(way, name):
        return float(found.sel(way=way, probe=name))

    expected = 0.921  # Phi(2/sqrt(2)) of two normal laws 2 apart
    for way, name in (("within", "dimension"), ("pooled", "dimension"), ("classes", "flipd")):
        assert area(way, name) == pytest.approx(expected, abs=bound)
    for way, name in (("within", "flipd"), ("classes", "dimension")):  # each says nothing of the other
        assert abs(area(way, name) - 0.5) < bound
    for way in ("within", "pooled", "classes"):
        assert abs(area(way, "shuffled") - 0.5) < bound
        assert abs(area(way, "spread") - 0.5) < bound
    assert area("pooled", "flipd") > 0.7  # the trap: pooled, a signal of classes looks like one of copies
    assert area("pooled", "label") == pytest.approx((1 + 1 - 200 / 600) / 2)
    assert area("within", "label") == 0.5


def test_few_copies_have_no_area():
    curves = made_up(own=8, others=40)
    found = area_table(curves)["auc"]
    assert found.sel(way=["within", "pooled", "classes"]).isnull().all()  # four copies


def test_the_study_runs(tmp_path):
    seen = []
    found = copied_images.run_conditional(TOY, out=tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1]
    curves = found.curves
    assert curves["copies"].dims == ("member", "step", "label")
    assert float(curves["copies"].max()) < 0.3  # four steps memorise nothing
    assert curves["signal"].sizes["judged"] == 12 + 9 * 4
    assert np.isfinite(curves["signal"].values).all()
    assert set(np.unique(curves["judged_label"].values)) == set(range(10))
    assert ((curves["judged_label"] == curves["repeated"]).sum("judged") == 12).all()
    for name in (".png", ".csv", ".nc", "_auc.csv"):
        assert (tmp_path / f"copied_images_conditional{name}").stat().st_size > 500
    quantities = {row.quantity for row in found.rows}
    assert {"share of samples that are no copies, in the repeated class", "AUC of flipd", "AUC of label"} <= quantities
    with pytest.raises(DomainError, match="preset"):
        copied_images.run_conditional("slow")
