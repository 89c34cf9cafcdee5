"""The ground floor: numba solvers that know no physics and no sympy. They solve what they are handed."""
