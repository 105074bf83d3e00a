"""The command line: parse, call a study, print, save."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

DEFAULT_PRESET = "breast-cancer"
PRESETS_OWN = "(default: the preset's)"


def _numbers(text: str) -> tuple[int, ...]:
    """`128,192` as (128, 192)."""
    return tuple(int(part) for part in text.split(","))


_numbers.__name__ = "comma-separated whole numbers"  # argparse's message says "invalid … value"


PARTICLES, LEARNING_RATE = ("--particles", int, "particles in each cloud"), ("--learning-rate", float, "η of one step")
REPLICAS = ("--replicas", int, "runs to take means over")


class _Study(NamedTuple):
    """A study of the command line: what it says, the preset it takes unless told, options (name, type, meaning)."""

    meaning: str
    preset: str | None
    options: tuple[tuple[str, Any, str], ...] = ()
    function: str = ""  # of sgdsim.studies, where it is not called as the study is
    batch_size: int | None = None  # where the preset's shows nothing
    from_preset: tuple[str, ...] = ()  # options that are the preset's unless given


STUDIES = {
    "potential": _Study(
        "the effective potential of the steady state beside the loss, and what circulates (d <= 2)",
        DEFAULT_PRESET,
        (("--cells", _numbers, "of the grid, such as 512 or 128,192 (default: fitted)"),),
    ),
    "breakdown": _Study(
        "an atlas over learning rate, batch size and momentum: where each continuum limit breaks",
        None,
        (
            ("--problem", str, "quadratic, double-well, breast-cancer or two-weight-network"),
            ("--folder", Path, "where finished cells are kept, so that an interrupted run can go on"),
        ),
        "atlas",
    ),
    "batch-not-decay": _Study(
        "raising the batch size against cutting the learning rate, and where they part (d <= 3)",
        DEFAULT_PRESET,
        (("--factor", int, "by how much the temperature falls"), PARTICLES),
    ),
    "cyclic-rates": _Study(
        "a learning rate that swings, and how far and how late the cloud follows (d <= 2)",
        "double-well",
        (("--swing", float, "share of the mean by which η swings, between 0 and 1"), PARTICLES),
    ),
    "escape": _Study(
        "escape times against Kramers and the exact ones, across temperatures and noise shapes",
        None,
        (("--alpha", float, "index of the α-stable noise"), LEARNING_RATE, PARTICLES),
    ),
    "noise-spectrum": _Study(
        "the rank of D(x) as a share of the dimensions, through training",
        "digits-wide",
        (
            ("--steps", int, "of the run"),
            ("--at", _numbers, "steps at which to look, such as 0,100,3000"),
            REPLICAS,
            ("--tile", int, "examples whose gradients are held at a time"),
        ),
    ),
    "two-phases": _Study(
        "the gradient's mean against its spread through training, layer by layer: drift, then diffusion?",
        "digits-mlp",
        (("--steps", int, "of the run"), REPLICAS),
        batch_size=256,  # at 32 the spread is the larger one from the start
    ),
    "network-limits": _Study(
        "SGD against Langevin with the true D(x), with isotropic noise of the same trace, and SVAG",
        "two-weight-network",
        (
            PARTICLES,
            ("--steps", int, "how many SGD steps"),
            ("--substeps", int, "of both Langevin clouds"),
            ("--svag", _numbers, "refinements of SVAG, such as 2,8"),
            ("--cells", _numbers, "of the grid, such as 512 or 128,192"),
        ),
        from_preset=("steps",),
    ),
    "noise-scale": _Study(
        "whether the test error knows learning rate, batch size and momentum by g = lr N/(B(1 - mu)) alone",
        None,
        (
            PARTICLES,
            ("--examples", int, "digits to train on; the rest is held out"),
            ("--random-labels", float, "share of these that have random labels"),
        ),
        "noise_scale_of_digits",
    ),
    "out-of-equilibrium": _Study(
        "whether late weights turn, and what their increments remember, beside a reversible twin",
        "digits-softmax",
        (
            ("--settle", int, "steps before the window"),
            ("--window", int, "steps that are looked at"),
            REPLICAS,
            ("--directions", int, "of the cloud's widest to look along"),
        ),
    ),
    "inverse-variance-flatness": _Study(
        "whether sharp directions are the wide ones, with independent batches and with reshuffled epochs",
        "digits-mlp",
        (
            ("--settle", int, "steps of the run that all replicas start from"),
            ("--relax", int, "epochs before the window"),
            ("--window", int, "epochs that are looked at"),
            REPLICAS,
            ("--directions", int, "of the Hessian"),
        ),
    ),
    "flat-or-sharp": _Study(
        "which of two wells holds the cloud, by which noise and in which coordinates",
        None,
        (("--ratio", float, "of the wells' curvatures, above 1"), LEARNING_RATE, PARTICLES),
    ),
}


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        _fail(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="sgdsim", description="How does SGD move? Three descriptions of one cloud, on one clock.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="say which presets and studies there are")
    compare = _add_command(
        commands, "compare", "run SGD, its Langevin limit and its Fokker-Planck equation, and say where they agree"
    )
    _add_process(compare)
    cells = "of the grid, such as 512 or 128,192 (default: the preset's, or fitted)"
    compare.add_argument("--cells", type=_numbers, default=argparse.SUPPRESS, help=cells)
    for name, meaning in (
        ("steps", "how many SGD steps"),
        ("save-every", "steps between saved times"),
        ("particles", "particles in each cloud"),
    ):
        compare.add_argument(f"--{name}", type=int, default=argparse.SUPPRESS, help=f"{meaning} {PRESETS_OWN}")
    add = compare.add_argument
    substeps = f"sub-steps of the SDE's solver for each SGD step, a power of two {PRESETS_OWN}"
    add("--substeps", type=int, default=argparse.SUPPRESS, help=substeps)
    add("--seed", type=int, default=0, help="seed of the random key")
    add("--dtype", default="float32", help="of the clouds, float32 or float64; densities are always float64")
    _add_output(compare, "sgdsim-out/PRESET")

    names = commands.add_parser("study", help="ask one question").add_subparsers(
        dest="study", required=True, metavar="NAME"
    )
    for name, study in STUDIES.items():
        parser_of = _add_command(names, name, study.meaning)
        if study.preset is not None:
            _add_process(parser_of, study.preset)
        if study.batch_size is not None:
            parser_of.set_defaults(batch_size=study.batch_size)
        for flag, kind, meaning in study.options:
            parser_of.add_argument(flag, type=kind, default=argparse.SUPPRESS, help=f"{meaning} (default: the study's)")
        if name != "potential":  # where nothing is random
            parser_of.add_argument("--seed", type=int, default=0, help="seed of the random key")
        _add_output(parser_of, f"sgdsim-out/{'PRESET-' if study.preset else ''}{name}")

    laws = _add_command(commands, "table", "measure the literature's laws: expected, measured, z, verdict")
    add = laws.add_argument
    add("laws", nargs="*", metavar="LAW", help="which; `sgdsim list` says which there are (default: all)")
    add("--quick", action="store_true", help="with a tenth of the particles, within a minute")
    add("--json", action="store_true", help="print JSON instead of the table")
    add("--seed", type=int, default=0, help="seed of the random key")
    _add_output(laws, "sgdsim-out/table")
    return parser


def _add_command(commands: Any, name: str, meaning: str) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=meaning, formatter_class=argparse.ArgumentDefaultsHelpFormatter)


def _add_process(parser: argparse.ArgumentParser, preset: str = DEFAULT_PRESET) -> None:
    """The preset, and what of its process may be overridden."""
    add = parser.add_argument
    add("preset", nargs="?", default=preset, help="the problem; `sgdsim list` says which there are")
    for names, kind, meaning in (
        (["--learning-rate", "--lr"], float, "η of one step"),
        (["--batch-size"], int, "B, examples in a minibatch"),
        (["--sampling"], str, "with-replacement, without-replacement or epoch (reshuffled passes)"),
    ):
        add(*names, type=kind, default=argparse.SUPPRESS, help=f"{meaning} {PRESETS_OWN}")
    add("--momentum", type=float, default=0.0, help="μ of the heavy ball, 0 ≤ μ < 1")


def _add_output(parser: argparse.ArgumentParser, folder: str) -> None:
    parser.add_argument("--output", "-o", type=Path, help=f"folder of the results; {folder} if not given")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def _float64() -> None:
    # JAX and all that needs it come only now, so that --help and a wrong option answer at once.
    import jax

    jax.config.update("jax_enable_x64", True)


def _chosen(options: argparse.Namespace, preset: Any, name: str) -> Any:
    """What was asked for, or the preset's own."""
    return vars(options).get(name, getattr(preset, name))


def _process(options: argparse.Namespace, preset: Any) -> tuple[Any, Any]:
    """The preset's SGD with what was overridden, and its start."""
    from sgdsim.processes import SGD

    problem, start = preset.build()
    settings = {name: _chosen(options, preset, name) for name in ("learning_rate", "batch_size", "sampling")}
    return SGD(problem, momentum=options.momentum, **settings), start


def _key(seed: int) -> Any:
    import jax

    if not 0 <= seed < 2**63:
        raise ValueError(f"seed must be a whole number, 0 ≤ seed < 2⁶³, got {seed}")
    return jax.random.key(seed)


def _compare(options: argparse.Namespace) -> None:
    _float64()
    from sgdsim import studies

    preset = studies.preset(options.preset)
    folder = studies.check_folder(options.output or Path("sgdsim-out") / preset.name, studies.COMPARISON_FILES)
    sgd, start = _process(options, preset)
    given = vars(options)
    # With another number of steps the preset's saved times would be too many or too few: a tenth of the run then.
    save_every = given.get("save_every", None if "steps" in given else preset.save_every)
    result = studies.compare(
        sgd,
        start,
        steps=_chosen(options, preset, "steps"),
        save_every=save_every,
        particles=_chosen(options, preset, "particles"),
        cells=_chosen(options, preset, "cells"),
        substeps=_chosen(options, preset, "substeps"),
        dtype=options.dtype,
        key=_key(options.seed),
        progress=not options.quiet,
        name=preset.name,
    )
    _report(result, folder)


def _study(options: argparse.Namespace) -> None:
    """Run one study with what was given of its own options; the rest are the study's defaults."""
    _float64()
    from sgdsim import studies

    name, study, given = options.study, STUDIES[options.study], vars(options)
    own_name = name.replace("-", "_")
    run, files = getattr(studies, study.function or own_name), getattr(studies, f"{own_name.upper()}_FILES")
    settings: dict[str, Any] = {"progress": not options.quiet}
    if name != "potential":
        settings["key"] = _key(options.seed)
    own = [flag.removeprefix("--").replace("-", "_") for flag, *_ in study.options]
    settings |= {option: given[option] for option in own if option in given}
    if study.preset is None:
        folder = studies.check_folder(options.output or Path("sgdsim-out") / name, files)
        _report(run(**settings), folder)
        return
    preset = studies.preset(options.preset)
    folder = studies.check_folder(options.output or Path("sgdsim-out") / f"{preset.name}-{name}", files)
    sgd, start = _process(options, preset)
    settings |= {option: _chosen(options, preset, option) for option in study.from_preset}
    if name == "batch-not-decay" and "learning_rate" in given:
        settings["learning_rates"] = [given["learning_rate"]]
    _report(run(sgd, *([] if name == "potential" else [start]), name=preset.name, **settings), folder)


def _table(options: argparse.Namespace) -> None:
    """Print and write the table; exit status 1 where a law fails."""
    _float64()
    from sgdsim import studies

    folder = studies.check_folder(options.output or Path("sgdsim-out") / "table", studies.TABLE_FILES)
    key = _key(options.seed)
    result = studies.paper_table(options.laws or None, key=key, quick=options.quick, progress=not options.quiet)
    if options.json:
        sys.stdout.write(studies.as_json(result.to_dict()))
        result.save(folder)
    else:
        _report(result, folder)
    if not result.holds:
        sys.exit(1)


def _report(result: Any, folder: Path) -> None:
    print(result)
    print("\n" + "\n".join(f"wrote {path}" for path in result.save(folder)))


def _list() -> None:
    from sgdsim.studies import LAWS, PRESETS

    for preset in PRESETS.values():
        print(
            f"{preset.name:20} {preset.summary}; lr {preset.learning_rate:g}, B {preset.batch_size}, "
            f"{preset.particles:,} particles × {preset.steps:,} steps"
        )
    print("\nstudies: sgdsim study NAME [PRESET]")
    for name, study in STUDIES.items():
        print(f"{name:20} {study.meaning}")
    print("\nlaws: sgdsim table [LAW ...]")
    for law in LAWS.values():
        print(f"{law.name:24} {law.statement} ({law.source})")


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
        elif options.command == "compare":
            _compare(options)
        elif options.command == "table":
            _table(options)
        else:
            _study(options)
    except (ValueError, TypeError, ImportError, OSError) as error:
        _fail(str(error))
    except MemoryError:
        _fail("particles or cells must be fewer: there is not enough memory for them")
    except KeyboardInterrupt:
        sys.stderr.write("sgdsim: stopped; nothing was written\n")
        sys.exit(130)
