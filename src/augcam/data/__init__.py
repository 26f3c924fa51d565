"""Where images come from and how they become batches. Plain arguments: nothing here knows Hydra."""
