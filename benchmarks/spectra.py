"""Entry `spectra`: effective dimension without matrices, beside `torch.func.jacrev` and frames of [AVSP24]."""

from __future__ import annotations

from benchmarks.harness import Row, Settings, ratios, skipped


def run(settings: Settings) -> list[Row]:
    """CPU seconds of one point of a UNet's score, and the distance of the dimension from the dense Jacobian's trace.

    Lanczos and frames of a score have eigenvalues or singular values, and their error is that of the directions kept.
    """
    try:
        from benchmarks.bench_effective_dimension import measured
    except ImportError as error:
        return [skipped("spectra", "UNet", "all", f"{error.name} is not installed")]
    rows = []
    for N in (64,) if settings.quick else (64, 784, 3072):
        found = {name: rest for _, name, *rest in measured(N)}
        first = "trace, 32 random vectors"
        listed = []
        for name in (first, *(other for other in found if other != first)):
            products, spent, _, error, _, kept_error, memory = found[name]
            note = f"{products} products, peak of the process {memory:.0f} MB"
            note += "" if kept_error != kept_error else f", directions kept off by {kept_error:.2g}"
            listed.append((("ours: " if name.startswith(("trace", "Lanczos")) else "") + name, spent, error, note))
        rows += ratios("spectra", f"UNet, N = {N}", "dimension", listed)
    return rows
