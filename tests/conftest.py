"""Every test runs with jaxtyping + beartype switched on and in float64, unless it asks otherwise."""

import os
import tempfile
from collections.abc import Iterator

import jax
import jaxtyping
import pytest

# Before anything imports sgdsim. An int is a float here, as PEP 484 has it. A hint that beartype cannot check, such as
# a Protocol that is not runtime_checkable, is a warning in pytest's summary.
jaxtyping.install_import_hook(
    "sgdsim",
    "beartype.beartype(conf=beartype.BeartypeConf("
    "is_pep484_tower=True, "
    "warning_cls_on_decorator_exception=beartype.roar.BeartypeClawDecorWarning))",
)

jax.config.update("jax_enable_x64", True)


def pytest_configure(config: pytest.Config) -> None:
    """Matplotlib's font list is made once, for this run alone, before the workers and the command lines need it.

    The list in the home folder may be another environment's, or half of one: it then complains on standard error.
    """
    if hasattr(config, "workerinput"):
        return
    folder = tempfile.TemporaryDirectory(prefix="sgdsim-matplotlib-")
    config.add_cleanup(folder.cleanup)
    os.environ["MPLCONFIGDIR"] = folder.name
    import matplotlib.font_manager  # noqa: F401


@pytest.fixture
def as_users_run() -> Iterator[None]:
    """Without the hook, as for users: for tests of our own errors on arguments that the type hints forbid."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
