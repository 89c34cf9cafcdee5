"""Data sets: files of any supported format as checked rows; duplicates, neighbours, copies and dimension."""

from validation.data.copies import Copies, find_copies
from validation.data.dataset import Dataset, load
from validation.data.dimension import DataDimension, as_columns, available, data_dimension, dimension_variables
from validation.data.duplicates import Duplicates, find_duplicates
from validation.data.labels import read_labels
from validation.data.memorisation import THRESHOLD, Memorised, memorised_fraction
from validation.data.neighbours import nearest_neighbours
from validation.data.splits import Split, split

__all__ = [
    "THRESHOLD",
    "Copies",
    "DataDimension",
    "Dataset",
    "Duplicates",
    "Memorised",
    "Split",
    "as_columns",
    "available",
    "data_dimension",
    "dimension_variables",
    "find_copies",
    "find_duplicates",
    "load",
    "memorised_fraction",
    "nearest_neighbours",
    "read_labels",
    "split",
]
