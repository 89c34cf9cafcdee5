"""Quadrature: Gaussian rules, adaptive panels, infinite sums, contours of inverse Laplace transforms, meshes inside kernels."""

from numerics.quadrature.adaptive import integrate_panels
from numerics.quadrature.contour import Inversion
from numerics.quadrature.meshes import GL_NODES, GL_WEIGHTS, HALF_LOG_2PI, REACH, graded_mesh, uniform_mesh
from numerics.quadrature.rules import chi_squared, double_exponential, from_jacobi
from numerics.quadrature.series import series_rule

__all__ = [
    "GL_NODES",
    "GL_WEIGHTS",
    "HALF_LOG_2PI",
    "REACH",
    "Inversion",
    "chi_squared",
    "double_exponential",
    "from_jacobi",
    "graded_mesh",
    "integrate_panels",
    "series_rule",
    "uniform_mesh",
]
