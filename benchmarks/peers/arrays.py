"""A peer in its own process that computes on arrays: what it is asked, see `answers.py`, and an .npz of its inputs."""

from collections.abc import Callable

import answers
import numpy as np
from answers import Compute

Inputs = dict[str, np.ndarray]


def serve(build: Callable[[str, Inputs], Compute], version: str) -> None:
    """Answer until the input ends; `build` takes the setting and its inputs."""

    def read(setting: str, file: str) -> Compute:
        with np.load(file) as inputs:
            return build(setting, dict(inputs))

    answers.serve(("setting", "inputs"), read, version)
