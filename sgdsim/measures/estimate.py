"""A measured number with its error bar, and what perfect agreement would read."""

import dataclasses
import math

import numpy as np
from jaxtyping import Array

Number = float | np.ndarray | Array


@dataclasses.dataclass(frozen=True, eq=False)
class Estimate:
    """A measured number, or an array of them, with its error bar.

    Args:
        value: what was measured; a float or an array.
        standard_error: one standard deviation of `value` over fresh particles, of the shape of `value`.
        floor: the 95 % quantile of what perfect agreement would read at this sample size; 0 where the
            measure has no such thing (a temperature, a mean). A distance below its floor says nothing.
        left_out: how many diverged particles (a coordinate is not finite) were not used.

    Two estimates count as independent in `z` and `agrees_with`.
    """

    value: Number
    standard_error: Number
    floor: Number = 0.0
    left_out: int = 0

    def __post_init__(self) -> None:
        for name in ("value", "standard_error", "floor"):
            object.__setattr__(self, name, _host(getattr(self, name)))
        object.__setattr__(self, "left_out", int(self.left_out))

    def z(self, other: "Estimate | Number" = 0.0) -> float | np.ndarray:
        """(value − other) in units of the combined standard error, √(se² + se_other²); 0 where both vanish."""
        value, error = (other.value, other.standard_error) if isinstance(other, Estimate) else (_host(other), 0.0)
        difference = np.asarray(self.value - value)
        with np.errstate(divide="ignore", invalid="ignore"):
            score = np.where(difference == 0, 0.0, difference / np.hypot(self.standard_error, error))
        return _host(score)

    def agrees_with(self, other: "Estimate | Number", sigmas: float = 3.0) -> bool:
        """Whether every entry lies within `sigmas` combined standard errors of `other`; NaN never agrees."""
        return bool(np.all(np.abs(self.z(other)) <= sigmas))

    @property
    def floors(self) -> float | np.ndarray:
        """How many times its floor the value is, value / floor; NaN where there is no floor."""
        floor = np.asarray(self.floor)
        return _host(np.where(floor > 0, self.value / np.where(floor > 0, floor, 1.0), np.nan))

    @property
    def above_floor(self) -> bool | np.ndarray:
        """Whether the value exceeds its floor, so that a disagreement shows at the 5 % level."""
        above = np.asarray(self.value > self.floor)
        return bool(above) if above.ndim == 0 else above

    def __getitem__(self, index: int | slice | tuple[int | slice, ...]) -> "Estimate":
        """One entry of an array of estimates, or several."""
        parts = {name: np.asarray(getattr(self, name)) for name in ("value", "standard_error", "floor")}
        return dataclasses.replace(self, **{name: part[index] if part.ndim else part for name, part in parts.items()})

    def __mul__(self, factor: float) -> "Estimate":
        """The same in other units: value, error and floor times a number that has no error."""
        size = abs(factor)
        return dataclasses.replace(
            self, value=self.value * factor, standard_error=self.standard_error * size, floor=self.floor * size
        )

    __rmul__ = __mul__

    def __sub__(self, shift: float) -> "Estimate":
        """The value less a number that has no error."""
        return dataclasses.replace(self, value=self.value - shift)

    def to_dict(self) -> dict:
        """The fields as floats, ints and lists, ready for JSON; what is not finite becomes None."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        names = [field.name for field in dataclasses.fields(self)]
        return all(np.array_equal(getattr(self, n), getattr(other, n), equal_nan=True) for n in names)

    __hash__ = None  # may hold arrays

    def __str__(self) -> str:
        if np.ndim(self.value) == 0:
            text = _with_error(float(self.value), float(self.standard_error), float(self.floor))
        elif np.size(self.value) > 16:
            text = f"estimates of shape {np.shape(self.value)}"
        else:
            parts = np.broadcast_arrays(self.value, self.standard_error, self.floor)
            entries = np.array([_with_error(*each) for each in zip(*map(np.ravel, parts), strict=True)], dtype=object)
            text = str(entries.reshape(np.shape(self.value)).tolist()).replace("'", "")
        return f"{text}, {self.left_out} diverged left out" if self.left_out else text


def _host(x: Number) -> float | np.ndarray:
    array = np.asarray(x, dtype=np.float64)
    return float(array) if array.ndim == 0 else array


def _plain(x: Number) -> Number | list | None:
    if isinstance(x, np.ndarray):
        return [_plain(entry) for entry in x.tolist()] if x.ndim < 2 else [_plain(row) for row in x]
    return x if math.isfinite(x) else None


def _with_error(value: float, error: float, floor: float) -> str:
    """`0.0012 ± 0.0003 (floor 0.0015)`: the error to one significant digit (two where it starts with 1)."""
    end = f" (floor {floor:.2g})" if floor else ""
    if not (math.isfinite(error) and error > 0 and math.isfinite(value)):
        return f"{value:.4g} ± {error:.1g}{end}"
    size = max(abs(value), error)
    power = 0 if 1e-4 <= size < 1e6 else math.floor(math.log10(size))
    value, error = value / 10.0**power, error / 10.0**power
    exponent = math.floor(math.log10(error))
    places = max(0, -exponent + (error < 2 * 10.0**exponent))
    text = f"{value:.{places}f} ± {error:.{places}f}"
    return (f"({text})e{power:+03d}" if power else text) + end
