"""Shared settings of the test suite."""

import os

import matplotlib

matplotlib.use("Agg")
os.environ.setdefault("KMP_DUPLICATE_LIB_OK", "TRUE")
