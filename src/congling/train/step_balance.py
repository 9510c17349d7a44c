"""One load-balancing loss for a whole step, however it is cut into micro-batches and shared by processes.

The loss of a softmax router, E · Σ f·p, is a product of two means (the share of tokens f and the mean score p
of each expert), so it does not add up over micro-batches: few tokens never spread evenly, and a step cut in
eight would be pushed harder than the same step whole (Qiu et al. 2025). Here f is that of the whole step::

    micro-batches ─ a forward pass each, without gradient ─ tokens of each expert ─ sum over processes ─ f
                  └ then the usual passes: Σ f·p over a micro-batch's tokens, / tokens of the step

Only p has a gradient, so the sum is exactly the loss of one large batch. The first passes cost 12 to 22 %
more time (measured on a CPU); a step of one micro-batch in one process needs none, nor does a sigmoid router.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from congling.data.batches import Batch
from congling.model.moe import SoftmaxRouter
from congling.train.backends.single import Single


class StepBalance:
    """Tells the softmax routers of a model what a step holds besides the micro-batch they see."""

    def __init__(self, model: nn.Module, backend: Single) -> None:
        self.model, self.backend = model, backend
        self.routers = [
            module for module in model.modules() if isinstance(module, SoftmaxRouter) and module.balance > 0
        ]
        self._tokens: Tensor | float = 0.0
        self._count: Tensor | float = 0.0

    def begin(self, micro: Sequence[Batch], count: Tensor | float) -> None:
        """Count the load of a step of ``count`` targets over all processes."""
        if not self.routers or (len(micro) == 1 and self.backend.world == 1):
            return
        self._count = count
        self._tokens = self.backend.all_reduce_sum(float(sum(batch.balanced for batch in micro)))
        self._read(micro)
        for router in self.routers:
            router.step_share = (self.backend.all_reduce_sum(router.load) / self._tokens).float()
            router.update_balance(self.backend.all_reduce_sum)

    def weigh(self, batch: Batch) -> None:
        """Let the loss of the next micro-batch count by its share of the step's tokens.

        Objectives multiply by the micro-batch's own targets, and the loop divides by those of the step.
        """
        if not self._tokens:
            return
        weight = self._count * (batch.balanced / max(1.0, batch.count)) / self._tokens
        for router in self.routers:
            router.step_weight = torch.as_tensor(weight, dtype=torch.float32, device=router.weight.device)

    def end(self) -> None:
        """Let each forward pass stand for itself again."""
        self._tokens = 0.0
        for router in self.routers:
            router.step_share, router.step_weight = None, 1.0
            router.load.zero_()

    @torch.no_grad()
    def _read(self, micro: Sequence[Batch]) -> None:
        """The plain forward pass of every micro-batch, to see where its tokens go."""
        self.model.eval()
        for router in self.routers:
            router.load.zero_()
        with self.backend.eval_context():
            for batch in micro:
                placed = self.backend.to_device(batch)
                self.model(placed.tokens, positions=placed.positions, documents=placed.documents)
                flat = None if placed.uncounted is None else placed.uncounted.flatten()
                for router in self.routers:
                    router.count_load(flat)
        self.model.train()
