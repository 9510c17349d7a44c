"""CLEX: frequencies of rotary positions that follow a learnt curve over the text's length."""

# N lengths, D head width

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from congling.model.config import RotaryConfig
from congling.model.frequencies import rotary_frequencies
from congling.model.length_positions import LengthPositions
from congling.model.rope_scaling import ClexScaling

STEP = 0.2
"""Longest step along the curve, in units of ln(2t - 1)."""


class ClexPositions(LengthPositions):
    """CLEX (Chen et al. 2023, as in the authors' code): ``z = ln θ`` follows a learnt differential equation.

    ::

        dz/dt = down · tanh(up · (z + ln θ_NTK(t))) + d/dt ln θ_NTK(t)          θ_NTK: NTK-aware by 2t - 1

    It is solved in τ = ln(2t - 1), where the part of NTK is a straight line and needs no solving: only what
    the network adds to it is followed, by the classical fourth-order Runge-Kutta method. What ``up`` sees is
    divided by ln(base), to be of order one.
    """

    def __init__(self, config: RotaryConfig, head_width: int) -> None:
        super().__init__(config, head_width)
        scaling, turned = config.rope_scaling, config.rotary_dim(head_width)
        assert isinstance(scaling, ClexScaling)
        hidden = scaling.hidden(turned)
        self.up = nn.Parameter(torch.empty(hidden, turned // 2))
        self.down = nn.Parameter(torch.zeros(turned // 2, hidden))
        self.most, self.trained, self.turned = (
            scaling.max_factor,
            scaling.original_max_position_embeddings,
            turned,
        )

    def classes(self, lengths: Tensor) -> Tensor:
        """t of each length."""
        return ((lengths + self.trained - 1) // self.trained).clamp(1, self.most)

    def frequencies(self, lengths: Tensor) -> Tensor:
        """(N, D/2) at the t of each length."""
        t = self.classes(lengths)
        return self.curve(int(t.max()))[t - 1]

    def curve(self, most: int) -> Tensor:
        """Frequencies at t = 1 … ``most``: (most, D/2) float32; at 1 those of the plain model, to the bit."""
        device, base = self.device, math.log(self.config.rope_theta)
        plain = rotary_frequencies(self.config, self.head_width, device)[: self.turned // 2]
        channel = torch.arange(0, self.turned, 2, dtype=torch.float32, device=device)
        start, slope = -channel / self.turned * base, -channel / (self.turned - 2)
        up, down = self.up.float(), self.down.float()

        def change(learnt: Tensor, tau: float) -> Tensor:
            # z + ln θ_NTK, where z is ln θ_NTK and what has been learnt.
            seen = (2 * (start + slope * tau) + learnt) / base
            return math.exp(tau) / 2 * (down @ torch.tanh(up @ seen))

        with torch.autocast(device.type, enabled=False):
            # Within the trained length nothing is learnt, but processes that train together wait for a
            # gradient of every parameter: here one of zero.
            idle = 0 * (up.sum() + down.sum())
            learnt, tau, found = torch.zeros_like(plain), 0.0, [plain + idle]
            for t in range(2, most + 1):
                begin, end = tau, math.log(2 * t - 1)
                steps = math.ceil((end - begin) / STEP)
                for step in range(steps):
                    learnt = _runge_kutta(
                        change, learnt, begin + (end - begin) * step / steps, (end - begin) / steps
                    )
                tau = end
                found.append(plain * (slope * tau + learnt).exp())
            return pad(torch.stack(found), (0, (self.head_width - self.turned) // 2))


def _runge_kutta(change: Callable[[Tensor, float], Tensor], value: Tensor, tau: float, h: float) -> Tensor:
    """One step of the classical fourth-order method."""
    first = change(value, tau)
    second = change(value + h / 2 * first, tau + h / 2)
    third = change(value + h / 2 * second, tau + h / 2)
    return value + h / 6 * (first + 2 * second + 2 * third + change(value + h * third, tau + h))
