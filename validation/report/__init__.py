"""`geomem report`: one page of theory, simulation and an audit."""

from validation.report.command import write_report

__all__ = ["write_report"]
