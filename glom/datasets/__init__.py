"""Data: safe image reading, folders, manifests, data sets by name, and corruptions."""

from glom.datasets.base import ImageDataset, Sample
from glom.datasets.check import DatasetCheck, check_dataset
from glom.datasets.prompts import clip_templates, coop_prompt
from glom.datasets.reading import read_image
from glom.datasets.registry import DatasetInfo, dataset_names, open_dataset, register_dataset

__all__ = [
    "DatasetCheck",
    "DatasetInfo",
    "ImageDataset",
    "Sample",
    "check_dataset",
    "clip_templates",
    "coop_prompt",
    "dataset_names",
    "open_dataset",
    "read_image",
    "register_dataset",
]
