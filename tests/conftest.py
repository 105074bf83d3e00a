"""Every test runs with jaxtyping + beartype switched on and in float64, unless it asks otherwise."""

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


@pytest.fixture
def as_users_run() -> Iterator[None]:
    """Without the hook, as for users: for tests of our own errors on arguments that the type hints forbid."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
