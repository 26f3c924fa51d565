"""The callbacks that the ablation tries: expected values worked out by hand."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "bench"))
from candidates import Lookahead, ProgressiveResizing


class Climbing(pl.LightningModule):
    """One weight that each step raises by 1, and a network that notes what it is given."""

    def __init__(self):
        super().__init__()
        self.network = Noting()
        self.weights = []

    def training_step(self, batch, batch_idx):
        return self.network(batch)

    def validation_step(self, batch, batch_idx):
        self.network(batch)

    def on_train_batch_start(self, batch, batch_idx):
        self.weights.append(self.network.weight.item())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


class Noting(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.sizes = []

    def forward(self, images):
        self.sizes.append((self.training, *images.shape[2:]))
        return -self.weight  # a gradient of -1


def fit(callback, epochs, batches):
    module = Climbing()
    trainer = pl.Trainer(
        max_epochs=epochs,
        callbacks=[callback],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    images: DataLoader[torch.Tensor] = DataLoader([torch.zeros(3, 32, 32)] * batches)  # type: ignore[arg-type]
    trainer.fit(module, images, images)
    return module


def test_lookahead_goes_part_of_the_way_every_k_steps_and_at_the_end():
    module = fit(Lookahead(k=2, alpha=0.5), epochs=1, batches=5)
    # 0, 1, (2 -> half the way from 0) 1, 2, (3 -> half the way from 1) 2; at the end 3 -> 2.5
    assert module.weights == [0, 1, 1, 2, 2]
    assert module.network.weight.item() == 2.5


def test_lookahead_goes_on_from_the_slow_weights_of_its_state():
    before, after = Lookahead(), Lookahead(k=1, alpha=0.5)
    before.slow = [torch.tensor(-4.0)]
    after.load_state_dict(before.state_dict())
    module = fit(after, epochs=1, batches=1)
    assert module.network.weight.item() == -1.5  # half the way from -4 to 1


def test_small_images_in_the_first_epochs_of_training_alone():
    module = fit(ProgressiveResizing(size=24, until=0.5), epochs=3, batches=1)
    assert module.network.sizes == [
        (True, 24, 24),
        (False, 32, 32),
        (True, 24, 24),
        (False, 32, 32),
        (True, 32, 32),
        (False, 32, 32),
    ]
