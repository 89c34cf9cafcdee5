"""At what noise each single training point is memorised: its own collapse, for all points of a data set."""

from validation.points.collapse import point_collapse_times

__all__ = ["point_collapse_times"]
