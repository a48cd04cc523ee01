"""numpy, without the threads of its linear algebra: nothing here multiplies matrices, and each of
them spins for a tenth of a second when it has begun.
"""

from __future__ import annotations

import os

_THREADS = "OPENBLAS_NUM_THREADS"


def _alone() -> None:
    """The environment is as it was afterwards: it is the commands' too that the user runs."""
    told = os.environ.get(_THREADS)
    os.environ[_THREADS] = "1"
    try:
        import numpy  # noqa: F401
    finally:
        if told is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = told


_alone()

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

__all__ = ["NDArray", "np"]
