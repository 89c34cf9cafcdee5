"""Elementary functions for kernels: without cancellation or overflow, vectorised by the compiler, or tabulated."""

from numerics.elementary.fast_exp import exp_block, log_block
from numerics.elementary.tabulated import Table, table_values, table_values_and_slopes, tabulate

__all__ = ["Table", "exp_block", "log_block", "table_values", "table_values_and_slopes", "tabulate"]
