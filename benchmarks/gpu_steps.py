"""The steps of `benchmarks/gpu.sh`, one at a time: each writes OUT/STEP.json, and `collect` puts them into OUT/gpu.json.

python benchmarks/gpu_steps.py local --out gpu --device cuda --images mnist10k.npz
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from numerics.store import atomic


def wait(device: str) -> None:
    """Everything that was asked of the device is done."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def timed(call, device: str, repeats: int = 3) -> float:
    """Least seconds of `repeats` calls, after one that is not counted."""
    call()
    seconds = []
    for _ in range(repeats):
        wait(device)
        start = time.perf_counter()
        call()
        wait(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def images_of(path: str | None) -> torch.Tensor:
    """(P, C, H, W) in [-1, 1]."""
    from validation.training import points

    X = points({"data": path or "digits", "seed": 0}).X.float()
    return (X - X.min()) / (X.max() - X.min()) * 2 - 1


def engine(options) -> dict[str, Any]:
    """Time of weights, log Z and denoiser over that of the two bare products, by noise level."""
    import bench_empirical_score as bench

    call = ["bench", "--device", options.device, "--no-peers", "--out", str(options.out)]
    call += ["--quick", "--rounds", "1", "--only", "64"] if options.quick else ["--rounds", "3"]
    kept, sys.argv = sys.argv, call
    try:
        bench.main()
    finally:
        sys.argv = kept
    with (options.out / "empirical_score.csv").open() as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return {"rows": rows}


def training(options) -> dict[str, Any]:
    """Model-steps a second of a stack, and of one network."""
    from bench_training import rate

    width, batch, members = (64, 32, 2) if options.quick else (512, 512, 16)
    seconds = 0.5 if options.quick else 3.0
    stack, one = (rate(M, width, batch, options.device, seconds) for M in (members, 1))
    return {"width": width, "batch": batch, "members": members, "stack": stack, "one": one, "speed_up": stack / one}


def local(options) -> dict[str, Any]:
    """LS of a batch of queries and ELS of one, patches of 7 x 7."""
    from validation.score.local import LocalScore

    X = images_of(options.images)
    X = X[:200] if options.quick else X
    count = 8 if options.quick else 256
    found: dict[str, Any] = {"images": list(X.shape), "queries": count}
    for t in (0.01, 1.0):
        noise = torch.from_numpy(np.random.default_rng(0).standard_normal((count, *X.shape[1:]))).float()
        x = (X[torch.arange(count) % len(X)] + t**0.5 * noise).to(options.device)
        for kind, queries in (("LS", x), ("ELS", x[:1])):
            score = LocalScore(X, 7, kind == "ELS", device=options.device)
            found[f"{kind}, t = {t}"] = timed(
                lambda s=score, q=queries, level=t: s.denoise(q, level), options.device, 1
            )
    return found


def spectrum(options) -> dict[str, Any]:
    """Effective dimension and spectral density of a UNet of diffusers with random weights, 32 x 32 x 3, without matrices."""
    import diffusers
    from bench_products import images, unet

    from validation.networks import DiffusersScore
    from validation.spectra import effective_dimension, spectral_density

    size, steps, probes = (8, 4, 2) if options.quick else (32, 16, 4)
    score = DiffusersScore(unet(size, 3).to(options.device), diffusers.DDPMScheduler())
    x = torch.from_numpy(images(4, size, 3).reshape(4, -1)).double().to(options.device)
    found: dict[str, Any] = {"numbers": x.shape[1]}
    for t in (0.01, 0.1, 1.0):
        start = time.perf_counter()
        dimension = effective_dimension(score, x, t, probes=probes)
        wait(options.device)
        middle = time.perf_counter()
        spectral_density(score, x, t, probes=probes, steps=steps)
        wait(options.device)
        found[f"t = {t}"] = {
            "dimension": np.asarray(dimension["dimension"]).round(3).tolist(),
            "seconds": {"dimension": middle - start, "density": time.perf_counter() - middle},
        }
    return found


def headline(options) -> dict[str, Any]:
    """Networks on two subspaces: `validation.experiments.trained_networks`, its preset for a GPU."""
    from validation.experiments import trained_networks as experiment

    preset = experiment.PRESETS["full" if options.device == "cpu" else "full on cuda"]
    if options.quick:
        small = replace(preset.training, steps=40, batch=32, warmup=5)
        network = preset.network | {"width": 16, "hidden": 32}
        preset = replace(
            experiment.PRESETS["quick"],
            name="tiny",
            sizes=(30, 60),
            replicas=2,
            network=network,
            training=small,
            snapshots=(20, 40),
        )
    result = experiment.run(preset, out=options.out / "headline", device=options.device)
    return {"preset": preset.name, "rows": rows_of(result)}


def pictures(options) -> dict[str, Any]:
    """U-Nets on images: `validation.experiments.trained_images`, its preset for a GPU."""
    from validation.experiments import trained_images as experiment

    preset = experiment.PRESETS["full" if options.device == "cpu" else "full on cuda"]
    sizes = None
    if options.quick:
        preset = replace(
            experiment.PRESETS["quick"],
            name="tiny",
            network=preset.network | {"width": 8, "levels": 1},
            training=replace(preset.training, steps=20, batch=8, warmup=2),
            samples=8,
            steps=4,
            levels=3,
            points=2,
            losses=16,
        )
        sizes = (20, 40)
    elif options.images is None:
        sizes = (100, 400, 1500)
    result = experiment.run(preset, out=options.out / "images", device=options.device, data=options.images, sizes=sizes)
    return {"preset": preset.name, "rows": rows_of(result)}


def rows_of(result) -> list[dict[str, Any]]:
    """The verdicts of an experiment."""
    return [
        {
            "quantity": row.quantity,
            "model": row.model,
            "theory": row.verdict.prediction.value,
            "measured": row.verdict.measured,
            "error": row.verdict.error,
            "verdict": row.verdict.outcome.value,
        }
        for row in result.rows
    ]


STEPS = {
    "engine": engine,
    "training": training,
    "local": local,
    "spectrum": spectrum,
    "headline": headline,
    "images": pictures,
}


def machine(device: str) -> dict[str, Any]:
    """What was measured on, and with."""
    import numba
    import scipy

    on_gpu = torch.device(device).type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine(),
        "cuda": torch.version.cuda if on_gpu else None,
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "numba": numba.__version__,
        },
    }


def written(path: Path, content: dict[str, Any]) -> None:
    """JSON, whole or not at all."""
    with atomic(path) as temporary:
        Path(temporary).write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    """Runs a step, or collects them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=(*STEPS, "collect"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--images", help="of one's own, for `local` and `images`")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if torch.device(options.device).type == "cuda" and not torch.cuda.is_available():
        parser.error(f"--device {options.device}: torch sees no GPU here; --device cpu runs the same steps")
    options.out.mkdir(parents=True, exist_ok=True)
    if options.step == "collect":
        found = {step: options.out / f"{step}.json" for step in STEPS}
        steps = {
            step: json.loads(path.read_text()) if path.exists() else "not finished" for step, path in found.items()
        }
        written(options.out / "gpu.json", machine(options.device) | {"steps": steps})
        told = [f"{k} " + (v if isinstance(v, str) else f"{v['seconds']:.0f} s") for k, v in steps.items()]
        print(f"wrote {options.out / 'gpu.json'}: {', '.join(told)}")
        return
    if torch.device(options.device).type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    result = STEPS[options.step](options)
    seconds = time.perf_counter() - start
    on_gpu = torch.device(options.device).type == "cuda"
    memory = torch.cuda.max_memory_allocated() if on_gpu else None
    command = f"python benchmarks/gpu_steps.py {options.step} --device {options.device}" + (
        " --quick" if options.quick else ""
    )
    written(
        options.out / f"{options.step}.json",
        {"command": command, "seconds": round(seconds, 2), "peak_bytes": memory, "result": result},
    )


if __name__ == "__main__":
    main()
