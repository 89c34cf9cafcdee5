"""`geomem report`: one page that answers for a data set and a model, with theory, simulation and an audit behind it."""

from validation.report.command import write_report

__all__ = ["write_report"]
