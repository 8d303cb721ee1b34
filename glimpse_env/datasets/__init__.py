"""Data sets: CUB-200-2011, CelebA-HQ, cluttered MNIST, scikit-learn's digits, drawn birds and any folder of images."""

from glimpse_env.datasets.base import DataSource, GlimpseDataset, LabelledImages, Split, data_root
from glimpse_env.datasets.registry import DATASETS, make_source
from glimpse_env.sensing.geometry import Geometry

__all__ = [
    "DATASETS",
    "DataSource",
    "Geometry",
    "GlimpseDataset",
    "LabelledImages",
    "Split",
    "data_root",
    "make_source",
]
