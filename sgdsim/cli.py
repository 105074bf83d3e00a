"""The command line: parse, call a study, print, save."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

DEFAULT_PRESET = "breast-cancer"


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        _fail(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="sgdsim", description="How does SGD move? Three descriptions of one cloud, on one clock.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="say which presets there are")
    run = commands.add_parser(
        "compare",
        help="run SGD, its Langevin limit and its Fokker-Planck equation, and say where they agree",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = run.add_argument
    add("preset", nargs="?", default=DEFAULT_PRESET, help="the problem; `sgdsim list` says which there are")
    for name, kind, meaning in (
        ("learning-rate", float, "η of one step"),
        ("batch-size", int, "B, examples in a minibatch"),
        ("sampling", str, "with-replacement, without-replacement or epoch (reshuffled passes)"),
        ("steps", int, "how many SGD steps"),
        ("save-every", int, "steps between saved times"),
        ("particles", int, "particles in each cloud"),
    ):
        names = ["--learning-rate", "--lr"] if name == "learning-rate" else [f"--{name}"]
        add(*names, type=kind, default=argparse.SUPPRESS, help=f"{meaning} (default: the preset's)")
    add("--momentum", type=float, default=0.0, help="μ of the heavy ball, 0 ≤ μ < 1")
    add(
        "--cells",
        type=_numbers,
        default=argparse.SUPPRESS,
        help="of the grid, such as 512 or 128,192 (default: fitted)",
    )
    add("--substeps", type=int, default=4, help="sub-steps of the SDE's solver for each SGD step, a power of two")
    add("--seed", type=int, default=0, help="seed of the random key")
    add("--dtype", default="float32", help="of the clouds, float32 or float64; densities are always float64")
    add("--output", "-o", type=Path, default=None, help="folder of the results; sgdsim-out/PRESET if not given")
    add("--quiet", action="store_true", help="no progress bars")
    return parser


def _numbers(text: str) -> tuple[int, ...]:
    """`128,192` as (128, 192)."""
    return tuple(int(part) for part in text.split(","))


_numbers.__name__ = "comma-separated whole numbers"  # argparse's message says "invalid … value"


def _compare(options: argparse.Namespace) -> None:
    # JAX and all that needs it come only now, so that --help and a wrong option answer at once.
    import jax

    jax.config.update("jax_enable_x64", True)
    from sgdsim import studies
    from sgdsim.processes import SGD

    preset = studies.preset(options.preset)
    given = vars(options)

    def chosen(name: str) -> Any:
        return given.get(name, getattr(preset, name))

    folder = studies.check_folder(options.output or Path("sgdsim-out") / preset.name, studies.COMPARISON_FILES)
    if not 0 <= options.seed < 2**63:
        raise ValueError(f"seed must be a whole number, 0 ≤ seed < 2⁶³, got {options.seed}")
    problem, start = preset.build()
    sgd = SGD(
        problem,
        learning_rate=chosen("learning_rate"),
        batch_size=chosen("batch_size"),
        momentum=options.momentum,
        sampling=chosen("sampling"),
    )
    # With another number of steps the preset's saved times would be too many or too few: a tenth of the run then.
    save_every = given.get("save_every", None if "steps" in given else preset.save_every)
    result = studies.compare(
        sgd,
        start,
        steps=chosen("steps"),
        save_every=save_every,
        particles=chosen("particles"),
        cells=chosen("cells"),
        substeps=options.substeps,
        dtype=options.dtype,
        key=jax.random.key(options.seed),
        progress=not options.quiet,
        name=preset.name,
    )
    print(result)
    print("\n" + "\n".join(f"wrote {path}" for path in result.save(folder)))


def _list() -> None:
    from sgdsim.studies import PRESETS

    for preset in PRESETS.values():
        print(
            f"{preset.name:20} {preset.summary}; lr {preset.learning_rate:g}, B {preset.batch_size}, "
            f"{preset.particles:,} particles × {preset.steps:,} steps"
        )


def _fail(message: str) -> NoReturn:
    """One line on standard error, and exit status 2."""
    sys.stderr.write(f"sgdsim: error: {' '.join(message.split())}\n")
    sys.exit(2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; what cannot be run is one line and exit status 2."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "list":
            _list()
        else:
            _compare(options)
    except (ValueError, TypeError, ImportError, OSError) as error:
        _fail(str(error))
    except MemoryError:
        _fail("particles must be fewer: there is not enough memory for the clouds")
    except KeyboardInterrupt:
        sys.stderr.write("sgdsim: stopped; nothing was written\n")
        sys.exit(130)
