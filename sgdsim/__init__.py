"""sgdsim: three descriptions of the cloud of points that SGD moves, on one clock.

What it offers stands in `__init__.pyi`, which type checkers and editors read. Each part is imported when it is first
used: a simulation need not wait for the plots, nor for SciPy's sparse matrices.
"""

import lazy_loader

from sgdsim._versions import refuse_broken_jax

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

refuse_broken_jax()
