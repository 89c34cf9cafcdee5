"""`geomem audit --model`: of networks, of others' or ours, and of the checkpoints of one run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numerics.domain import DomainError
from validation.cli.options import ALONE, only_with_a_model, option_of
from validation.cli.terminal import console, folder_of, progress_bar, say, stages

__all__ = ["audit_networks", "audit_run", "is_run", "say_patches"]


def say_patches(found: Any) -> None:
    from validation.locality import locality_lines, locality_table

    console.print(locality_table(found).shown(compact=True), markup=False, highlight=False)
    for line in locality_lines(found):
        say(line)


def audit_networks(
    model: Path,
    data: Path | None,
    out: Path | None,
    probes: int,
    device: str,
    seed: int,
    network: dict[str, Any],
    options: dict[str, Any],
    patch: str | list[int] | None,
) -> None:
    from numerics.store import save_dataset
    from validation.audit import audit_model, audit_pipeline, model_ladders, report_lines
    from validation.ladder import write_ladder
    from validation.networks import is_foreign

    pipeline = is_foreign(model)
    if not pipeline:
        only_with_a_model(network, ALONE)
    if data is not None and not pipeline:
        raise DomainError("DATA", str(data), "left out with --model", "The checkpoint knows the data it was trained on")
    folder = folder_of(out) if out else None
    with stages("audit") as tell:
        if pipeline:
            common = {"points": probes, "seed": seed, "device": device, "network": network}
            found = [audit_pipeline(model, data, **common, **options)]
        else:
            found = []
            for P, losses in audit_model(model, points=probes, device=device):
                found.append((P, losses))
                tell(f"losses of the network of {P:,} points")
        ladders = []
        if folder:
            tell("ladder of noise")
            about = {"network": network, **options} if pipeline else {}
            ladders = list(model_ladders(model, data, seed=seed, device=device, **about))
        seen = []
        if patch is not None:
            about = {"network": network, **options} if pipeline else {}
            seen = list(_patches_seen(model, data, patch, seed, device, about, tell))
    files = [save_dataset(losses, folder / f"model-P{P}.csv") for P, losses in found] if folder else []
    for P, ladder in ladders if folder else []:
        files += write_ladder(ladder, folder, name=f"ladder-P{P}")
    for P, losses in found:
        for line in report_lines(P, losses):
            say(line)
    if seen:
        from validation.locality import field_lines, write_field

        for P, patches, field in seen:
            say(f"Network of {P:,} points:")
            say_patches(patches)
            for line in field_lines(field, patches):
                say(line)
            files += write_field(field, folder, f"receptive-field-P{P}") if folder else []
    if files:
        say("wrote " + ", ".join(map(str, files)))


def _patches_seen(
    model: Path, data: Path | None, patch: str | list[int], seed: int, device: str, about: dict[str, Any], tell: Any
) -> Iterator[tuple[int, Any, Any]]:
    """(P, collapse of its training set's patches, its receptive field) of each network of images."""
    from validation.audit import image_networks
    from validation.data import Dataset
    from validation.locality import audit_patches, patch_widths, receptive_field

    count = 0
    for one in image_networks(model, data, seed=seed, device=device, **about):
        count += 1
        dataset = Dataset(one.X, f"training set of {one.P:,}", one.shape, "data units", str(model))
        widths = patch_widths(dataset, patch)
        tell(f"patches of the network of {one.P:,} points")
        patches = audit_patches(dataset, widths, seed=seed, device=device)
        tell(f"receptive field of the network of {one.P:,} points")
        field = receptive_field(
            one.score,
            one.X.reshape(-1, *one.shape),
            one.fresh.reshape(-1, *one.shape),
            patches.levels(one.t_range),
            widths,
            seed=seed,
            device=device,
        )
        yield one.P, patches, field
    if not count:
        raise DomainError("--patch", patch, "left out for networks of vectors", "Patches are those of images")


def is_run(path: Path) -> bool:
    """Whether a folder holds a checkpoint of ours rather than what diffusers saved."""
    if not path.is_dir() or (path / "config.json").exists():
        return False
    from validation.training import read

    for file in sorted(path.glob("*.safetensors")):
        try:
            read(file)
        except DomainError:
            continue
        return True
    return False


def audit_run(
    models: list[Path], out: Path | None, probes: int, device: str, seed: int, others: dict[str, Any]
) -> None:
    from validation.window import checkpoint_curves, report_lines, training_times, write_run

    for name, value in others.items():
        if value is not None:
            argument = "DATA" if name == "data" else option_of(name)
            raise DomainError(argument, str(value), "left out with checkpoints of a run, which know their data")
    folder = folder_of(out) if out else None
    with progress_bar("checkpoints") as progress:
        curves = checkpoint_curves(models, points_asked=probes, seed=seed, device=device, progress=progress)
    times = training_times(curves)
    files = write_run(curves, times, folder) if folder else []
    for line in report_lines(times, int(curves["step"][-1])):
        say(line)
    if files:
        say("wrote " + ", ".join(map(str, files)))
