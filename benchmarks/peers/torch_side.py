"""PyTorch and torchsde, with as many threads as PyTorch takes by default.

Eager: normals into a buffer in place, coordinates first. Compiled: ten steps in one function, so that the normals are
drawn inside the fused loop. torchsde: Euler on dX = −∇f dt + √(ηD) dW at steps of η, which is the same chain, with a
`BrownianInterval` that was told its step. It takes particles first.
"""

from collections.abc import Callable

import numpy as np
import torch
from answers import serve
from clouds import COVARIANCE, HESSIAN, LEARNING_RATE, REQUEST, STARTS, Run

UNROLLED = 10  # steps in one compiled call
K = torch.tensor(HESSIAN, dtype=torch.float32)
ROOT = torch.tensor(np.linalg.cholesky(COVARIANCE), dtype=torch.float32)
BOTH = torch.cat([K, ROOT], dim=1)

Step = Callable[[torch.Tensor], torch.Tensor]


def started(problem: str, particles: int) -> torch.Tensor:
    return torch.from_numpy(STARTS[problem])[:, None].repeat(1, particles)


def eager(problem: str, particles: int, steps: int) -> Run:
    """In place throughout; on the quadratic one product takes both x and ξ."""

    def quadratic(generator: torch.Generator) -> torch.Tensor:
        both = torch.cat([started(problem, particles)] * 2)
        x, xi = both.chunk(2)
        move = torch.empty_like(x)
        for _ in range(steps):
            xi.normal_(generator=generator)
            torch.mm(BOTH, both, out=move)
            x.sub_(move, alpha=LEARNING_RATE)
        return x

    def planar(generator: torch.Generator) -> torch.Tensor:
        cloud = started(problem, particles)
        move, other = torch.empty_like(cloud), torch.empty_like(cloud)
        (x, y), square = cloud, other[0]
        for _ in range(steps):
            move.normal_(generator=generator)
            if problem == "state-dependent":
                torch.mul(cloud, cloud, out=other)
                move.mul_(other.mul_(0.5).add_(1).sqrt_())
            torch.mul(x, x, out=square)
            move[0].addcmul_(x, square.sub_(1))
            move[1].add_(y)
            cloud.sub_(move, alpha=LEARNING_RATE)
        return cloud

    final = quadratic if problem == "quadratic-10d" else planar

    @torch.inference_mode()
    def run(seed: int) -> np.ndarray:
        return final(torch.Generator().manual_seed(seed)).T.numpy()

    return run


def gradient(problem: str, x: torch.Tensor, axis: int) -> torch.Tensor:
    if problem == "quadratic-10d":
        return K @ x
    one, two = x.unbind(axis)
    return torch.stack([one * (one * one - 1), two], axis)


def compiled(problem: str, particles: int, steps: int) -> Run:
    def once(x: torch.Tensor) -> torch.Tensor:
        xi = torch.randn_like(x)
        if problem == "quadratic-10d":
            xi = ROOT @ xi
        elif problem == "state-dependent":
            xi = xi * torch.sqrt(1 + x * x / 2)
        return x - LEARNING_RATE * (gradient(problem, x, 0) + xi)

    def several(x: torch.Tensor) -> torch.Tensor:
        for _ in range(UNROLLED):
            x = once(x)
        return x

    if steps % UNROLLED:
        raise ValueError(f"steps must be a multiple of {UNROLLED}, got {steps}")
    move = torch.compile(several)

    @torch.inference_mode()
    def run(seed: int) -> np.ndarray:
        torch.manual_seed(seed)
        x = started(problem, particles)
        for _ in range(steps // UNROLLED):
            x = move(x)
        return x.T.numpy()

    return run


def stochastic(problem: str, particles: int, steps: int) -> Run:
    import torchsde  # here, so that a torchsde that is broken does not take PyTorch with it

    size = LEARNING_RATE**0.5

    class Equation(torch.nn.Module):
        noise_type, sde_type = "diagonal", "ito"

        def f(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return -gradient(problem, x, 1)

        def g(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            if problem == "state-dependent":
                return size * torch.sqrt(1 + x * x / 2)
            return torch.full_like(x, size)

    equation, end = Equation(), steps * LEARNING_RATE

    @torch.no_grad()
    def run(seed: int) -> np.ndarray:
        start = started(problem, particles).T.contiguous()
        path = torchsde.BrownianInterval(t0=0.0, t1=end, size=start.shape, entropy=seed, dt=LEARNING_RATE)
        times = torch.tensor([0.0, end])
        return torchsde.sdeint(equation, start, times, bm=path, method="euler", dt=LEARNING_RATE)[-1].numpy()

    return run


SETTINGS = {"eager": eager, "compiled": compiled, "torchsde": stochastic}


def build(setting: str, problem: str, particles: int, steps: int) -> Run:
    return SETTINGS[setting](problem, particles, steps)


if __name__ == "__main__":
    serve(REQUEST, build, torch.__version__)
