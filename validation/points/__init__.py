"""At what noise each single training point is memorised: its own collapse, for all points of a data set."""

from validation.points.collapse import point_collapse_times
from validation.points.groups import duplicate_groups
from validation.points.pictures import exposed_figure, law_figure
from validation.points.report import CHEAP, PointsReport, audit_points, cost, points_lines, write_points

__all__ = [
    "CHEAP",
    "PointsReport",
    "audit_points",
    "cost",
    "duplicate_groups",
    "exposed_figure",
    "law_figure",
    "point_collapse_times",
    "points_lines",
    "write_points",
]
