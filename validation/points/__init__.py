"""At what noise each single training point is memorised: its own collapse, for all points of a data set."""

from validation.points.collapse import point_collapse_times
from validation.points.groups import duplicate_groups

__all__ = ["duplicate_groups", "point_collapse_times"]
