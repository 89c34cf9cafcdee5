r"""Losses at the end of training without a contour: at infinite training time only the resolvent at z = 0 is asked for.

With :math:`h=1/\lambda` the losses of `theory.training.learning_curves` are

.. math:: L_{train}=1-V^\top U^{-1}V,\qquad L_{test}=1-2V^\top U^{-1}V+V^\top U^{-1}\tilde UU^{-1}V,

one- and two-point functions at :math:`z_1=z_2=0`, below all eigenvalues where each draw of the noise has a variance of its own,
:math:`s^2>0`. Source: [ours: docs/derivations/training_time.md].
"""

from __future__ import annotations

import numpy as np

from theory.training.resolvent import Resolvent, kernel

__all__ = ["end_losses"]

_PER_DECADE = 12  # steps of the path along which the branch is followed to z = 0
_LOW = 0.1  # of the lowest eigenvalue possible, where the path ends before its last step


def end_losses(resolvent: Resolvent) -> tuple[float, float] | None:
    """(training, test) loss per dimension at the end of training.

    None where s^2 = 0, as U then has eigenvalues 0, or where the branch could not be followed.
    """
    psi_p, _, _, b2, _, s2 = resolvent.parameters
    if not s2 > 0:
        return None
    high, low = resolvent.bound, _LOW * s2
    steps = max(2, int(_PER_DECADE * np.log10(high / low)))
    g, x = resolvent.along(np.append(1j * np.geomspace(high, low, steps), 0))
    if not np.isfinite(g[-1]):
        return None
    Q, y = resolvent.q(g[-1:]), 1 / x[-1:]
    s_hat, r_hat = resolvent.conjugates(g[-1], x[-1])
    inverse = 1 / (s_hat + r_hat * resolvent.values)
    S = np.array([resolvent.weights @ inverse])
    h = [np.array([resolvent.weights * resolvent.values**k @ inverse**2]) for k in range(3)]
    by_s, by_r = np.empty(1, dtype=complex), np.empty(1, dtype=complex)
    kernel().two_point(Q, S, y, Q, S, y, *h, resolvent.parameters, by_s, by_r)
    first, second = b2 * psi_p * S[0].real, b2 * psi_p * (by_s * h[0] + by_r * h[1])[0].real
    return float(1 - first), float(1 - 2 * first + second)
