"""The spectrum of the exact score's Jacobian: densities, edges, gaps, and the phases that gaps tell apart."""

from theory.jacobian.spectrum import jacobian_cdf, jacobian_density, jacobian_edges, jacobian_law

__all__ = ["jacobian_cdf", "jacobian_density", "jacobian_edges", "jacobian_law"]
