"""The versions of jax that give wrong numbers, refused at import: `pip install -U jax` only warns about them."""

import jax
import jaxlib

REFUSED = ("0.10.2", "0.11.0", "0.11.1")


def refuse_broken_jax(jax_version: str = jax.__version__, jaxlib_version: str = jaxlib.__version__) -> None:
    """Raise ImportError where jax or jaxlib is known to give wrong numbers (jax issues 39103, 38806, 40633)."""
    for name, version in (("jax", jax_version), ("jaxlib", jaxlib_version)):
        if version in REFUSED:
            raise ImportError(
                f"{name} {version} gives wrong numbers and sgdsim refuses it; install another version: "
                f'pip install "{name}{"".join(f",!={v}" for v in REFUSED)[1:]}"'
            )
