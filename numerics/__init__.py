"""The ground floor: numba solvers that know no physics and no sympy. They solve what they are handed."""

import os as _os

# numba counts hyperthreads; where a number of threads is asked for, it is numba's too
if _os.environ.get("OMP_NUM_THREADS", "").isdecimal() and int(_os.environ["OMP_NUM_THREADS"]) > 0:
    _os.environ.setdefault("NUMBA_NUM_THREADS", _os.environ["OMP_NUM_THREADS"])
