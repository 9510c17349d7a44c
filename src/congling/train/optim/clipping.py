"""Gradients cut to a norm: all together, but for the few that would otherwise decide about the rest."""

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor, nn

from congling.train.optim.roles import roles

Groups = Sequence[Sequence[nn.Parameter]]
"""Parameters whose gradients have one norm; the first group is that of the model's weights."""


def clipped_together(model: nn.Module) -> Groups:
    """The weights, and apart from them the curve of CLEX: its gradient comes through an exponential and is at
    times larger than all others together, which it must neither shrink nor be shrunk by."""
    found, parameters = roles(model), dict(model.named_parameters())
    curve = [parameters[name] for name, role in found.items() if role == "curve"]
    rest = [parameters[name] for name, role in found.items() if role != "curve"]
    return [rest, curve] if curve else [rest]


def clip(
    groups: Groups, most: float, norm_of: Callable[[Iterable[Tensor]], Tensor] = nn.utils.get_total_norm
) -> tuple[Tensor, Tensor]:
    """Cut the gradients of each group to the norm ``most``, or to none where that is 0; ``norm_of`` gives the
    norm of some gradients together.

    Returns:
        The norm of the first group, and 1 (else 0) where a norm of any is not finite; both on the device.
    """
    norms = []
    for group in groups:
        learnt = [parameter for parameter in group if parameter.grad is not None]
        norm = norm_of([one.grad for one in learnt if one.grad is not None])
        if most:
            nn.utils.clip_grads_with_norm_(learnt, most, norm)
        norms.append(norm)
    skip = ~norms[0].isfinite()
    for norm in norms[1:]:
        skip = skip | ~norm.isfinite()
    return norms[0], skip.float()
