"""torch.func: vmap(grad) over the replicas, a batch of its own for each, in place updates, PyTorch's default threads.

Without replacement by the B largest of N uniform numbers (`topk`), one call for all replicas: PyTorch's
`multinomial(replacement=False)` does the same with a logarithm more. Eager, since a step is a few large batched calls.
"""

from collections.abc import Callable

import numpy as np
import torch
from arrays import Compute, Inputs, serve
from torch.func import grad, vmap

SHAPES = ((16, 64), (16,), (10, 16), (10,))  # of the digits MLP, in the order of the flat vector


def network_loss(parameters: tuple[torch.Tensor, ...], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    weight, bias, last, final = parameters
    outputs = torch.tanh(x @ weight.T + bias) @ last.T + final
    return torch.nn.functional.cross_entropy(outputs, y)


def logistic_loss(parameters: tuple[torch.Tensor, ...], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.softplus(-y * (x @ parameters[0])).mean()


def without_replacement(generator: torch.Generator, particles: int, count: int, batch: int) -> torch.Tensor:
    return torch.rand(particles, count, generator=generator).topk(batch, dim=1, sorted=False).indices


def with_replacement(generator: torch.Generator, particles: int, count: int, batch: int) -> torch.Tensor:
    return torch.randint(count, (particles, batch), generator=generator)


SAMPLINGS = {"without-replacement": without_replacement, "with-replacement": with_replacement}


def build(setting: str, inputs: Inputs) -> Compute:
    x, y, start = (torch.from_numpy(inputs[name]) for name in ("x", "y", "start"))
    rate, decay, batch = float(inputs["rate"]), float(inputs["decay"]), int(inputs["batch"])
    is_network = start.shape[1] == sum(int(np.prod(shape)) for shape in SHAPES)
    shapes: tuple[tuple[int, ...], ...] = SHAPES if is_network else (tuple(start.shape[1:]),)
    labels = y.long() if is_network else y.float()
    gradient: Callable = vmap(grad(network_loss if is_network else logistic_loss))
    sizes = [int(np.prod(shape)) for shape in shapes]

    @torch.no_grad()
    def compute(seed: int) -> np.ndarray:
        generator = torch.Generator().manual_seed(seed)
        pieces = start.split(sizes, dim=1)
        cloud = tuple(p.reshape(-1, *shape).clone() for p, shape in zip(pieces, shapes, strict=True))
        for _ in range(int(inputs["steps"])):
            indices = SAMPLINGS[setting](generator, len(start), len(x), batch)
            slopes = gradient(cloud, x[indices], labels[indices])
            for parameter, slope in zip(cloud, slopes, strict=True):
                parameter.mul_(1 - rate * decay).sub_(slope, alpha=rate)
        return torch.cat([p.flatten(1) for p in cloud], dim=1).numpy()

    return compute


if __name__ == "__main__":
    serve(build, torch.__version__)
