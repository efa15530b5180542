"""The switch from training form to deployed form, the same for every network."""

from __future__ import annotations

from torch import nn
from torchvision.ops import StochasticDepth


class Deployable(nn.Module):
    """A network that can be brought into the form in which it is deployed."""

    deployed = False

    def switch_to_deploy(self) -> Deployable:
        """Fold norms, compute constants once, drop what only training needs; in place.

        Outputs stay what they are in evaluation mode, at every image size. The network is in
        evaluation mode afterwards and its parameters ask for no gradient; gradients of the input
        work. There is no way back: :meth:`train` raises. The state dict is that of the deployed
        form: it fits another network of the same make after its ``switch_to_deploy()``.
        """
        self.eval()
        if not self.deployed:
            switch_modules(self)
            self.deployed = True
        return self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Deployable:
        if mode and self.deployed:
            raise RuntimeError(
                f'this {type(self).__name__} was switched to its deployed form, which cannot be '
                'trained: its norms are folded and its training branches are gone. Build it anew '
                'and load the weights from before switch_to_deploy()'
            )
        return super().train(mode)


def switch_modules(module: nn.Module) -> None:
    """Switch all that lies below ``module``, the innermost first.

    A module takes part by a method ``switch_to_deploy()``, which changes it in place; calling it
    again must do no harm.
    """
    for name, child in list(module.named_children()):
        if isinstance(child, StochasticDepth):
            setattr(module, name, nn.Identity())
            continue
        if not isinstance(child, Deployable):  # those see to their own parts
            switch_modules(child)
        if hasattr(child, 'switch_to_deploy'):
            child.switch_to_deploy()
