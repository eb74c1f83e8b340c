"""The command line: a module for each group of commands, joined to one program in `main`.

>>> from typer.testing import CliRunner
>>> from forgerank.cli.main import app
>>> CliRunner().invoke(app, ["--version"]).output.startswith("forgerank ")
True
"""

import os

try:
    import resource
except ImportError:  # Windows
    pass
else:
    # OpenBLAS, in NumPy, SciPy and OpenCV, takes memory for each of its threads, and where there is none it
    # ends or crashes the process. It reads this once. NumPy's takes what it works with at the first product.
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        import numpy as np

        np.ones((256, 256)) @ np.ones((256, 256))
