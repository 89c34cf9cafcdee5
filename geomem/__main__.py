"""The command `geomem`, also as `python -m geomem`."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line; `import geomem` has already refused packages that shadow its floors."""
    from validation.cli import main as run

    run()


if __name__ == "__main__":
    main()
