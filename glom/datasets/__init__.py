"""Data: safe image reading, folders, manifests, data sets by name, and corruptions."""

from glom.datasets.base import ImageDataset, Sample
from glom.datasets.reading import read_image
from glom.datasets.registry import DatasetInfo, dataset_names, open_dataset, register_dataset

__all__ = [
    "DatasetInfo",
    "ImageDataset",
    "Sample",
    "dataset_names",
    "open_dataset",
    "read_image",
    "register_dataset",
]
