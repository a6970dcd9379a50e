"""Data sets in memory, normalised once, with a batch order that is a function of (seed, epoch) alone."""

from scaleinv.lab.data.dataset import DATASETS, Dataset, load_dataset
from scaleinv.lab.data.draws import augment, batches, eval_batches
from scaleinv.lab.data.sharing import SharedDataset, share

__all__ = ["DATASETS", "Dataset", "SharedDataset", "augment", "batches", "eval_batches", "load_dataset", "share"]
