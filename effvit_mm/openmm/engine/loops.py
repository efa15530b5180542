"""A training loop that can be gone on with in the middle of an epoch."""

from __future__ import annotations

from mmengine.dist import get_rank
from mmengine.runner import EpochBasedTrainLoop

from .seeding import seed_everything


class EpochTrainLoop(EpochBasedTrainLoop):
    """mmengine's, but that it passes over the batches of an epoch that a checkpoint has behind it.

    They are loaded as they were, so that the next ones are those that would have come.
    """

    def run_epoch(self) -> None:
        """The rest of an epoch, which is all of it but after a resume."""
        done = self._iter - self._epoch * len(self.dataloader)
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        if done < len(self.dataloader):
            for index, batch in enumerate(self.dataloader):
                if index >= done:
                    self.run_iter(index, batch)
                elif index == done - 1:  # as ReseedHook did behind this iteration
                    seed_everything(self.runner.seed, self._iter, get_rank())
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
