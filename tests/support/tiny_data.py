"""Tiny data sets in the layouts of the real ones."""

import gzip
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

PARTS = ("back", "beak", "left eye", "right eye", "tail")
PHOTOGRAPH = (80, 60)
"""Width and height of a tiny photograph in pixels."""
BOX = (20.0, 15.0, 40.0, 30.0)
"""x, y, width and height of every tiny bird's box."""


def write_tiny_cub(root: str | Path, species: int = 3, images: int = 6) -> Path:
    """Writes ``root/CUB_200_2011`` in the released layout and returns that folder.

    Class ids are 1, 2, ...; image ids start at 11 and go up in steps of 2; the last sixth of each class's images,
    at least one, is the official test part, so that 6 images make 4 for ``train``, 1 for ``val`` and 1 for ``test``.
    Every class has a colour of its own, every photograph is 80 x 60 with its box at (20, 15), 40 x 30. Part p of 5
    is at x = 30 + 5 p, y = 20 + 4 p, and the last one is hidden.
    """
    folder = Path(root) / "CUB_200_2011"
    (folder / "parts").mkdir(parents=True)
    lines: dict[str, list[str]] = {
        name: []
        for name in (
            "images",
            "image_class_labels",
            "train_test_split",
            "bounding_boxes",
            "classes",
            "parts/part_locs",
        )
    }
    rng = np.random.default_rng(0)
    image_id = 11
    for class_id in range(1, species + 1):
        class_name = f"{class_id:03}.Tiny_Bird_{class_id}"
        lines["classes"].append(f"{class_id} {class_name}")
        (folder / "images" / class_name).mkdir(parents=True)
        for number in range(images):
            file = f"{class_name}/Tiny_Bird_{class_id}_{number:04}.jpg"
            _photograph(class_id, rng).save(folder / "images" / file)
            lines["images"].append(f"{image_id} {file}")
            lines["image_class_labels"].append(f"{image_id} {class_id}")
            lines["train_test_split"].append(f"{image_id} {int(number < images - max(images // 6, 1))}")
            lines["bounding_boxes"].append(f"{image_id} " + " ".join(map(str, BOX)))
            for part in range(len(PARTS)):
                visible = int(part < len(PARTS) - 1)
                x, y = (30.0 + 5 * part, 20.0 + 4 * part) if visible else (0.0, 0.0)
                lines["parts/part_locs"].append(f"{image_id} {part + 1} {x} {y} {visible}")
            image_id += 2
    lines["parts/parts"] = [f"{number} {name}" for number, name in enumerate(PARTS, start=1)]
    for name, content in lines.items():
        (folder / f"{name}.txt").write_text("\n".join(content) + "\n")
    return folder


def write_tiny_gaze(root: str | Path, lines: Mapping[int, Sequence[str]] | None = None) -> Path:
    """Writes gaze on the photographs of :func:`write_tiny_cub` to ``root/cub_gha_tiny`` and returns that folder.

    Args:
        root: the folder.
        lines: lines by run, 1 to 5; a run that is left out has none. By default each of 18 images has a look in every
            run: three fixations on the bird, 20 pixels of a photograph of 160 x 120 apart, which is twice the size of
            those in the folder; every run and image has its own.
    """
    folder = Path(root) / "cub_gha_tiny"
    folder.mkdir(parents=True)
    for run in range(1, 6):
        made = [
            f"{identity},160,120,"
            + ",".join(f"{50 + 4 * run + 20 * f},{40 + identity % 7 + 15 * f},{100 * f + 90 + run}" for f in range(3))
            for identity in range(11, 47, 2)
        ]
        text = "".join(f"{line}\n" for line in (made if lines is None else lines.get(run, ())))
        (folder / f"Fixation_run{run}.txt").write_text(text)
    return folder


def write_tiny_mnist(root: str | Path, train: int = 120, test: int = 40) -> Path:
    """Writes MNIST's four gzipped IDX files to ``root/mnist`` and returns that folder.

    Digits are in turn 0, 1, ..., 9, 0, ...; each is a bright bar of its own height with noise in the 20 x 20 box.
    """
    folder = Path(root) / "mnist"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, count in (("train", train), ("t10k", test)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = np.zeros((count, 28, 28), dtype=np.uint8)
        images[:, 4:24, 4:24] = rng.integers(1, 100, size=(count, 20, 20))
        for image, label in zip(images, labels, strict=True):
            image[4 : 6 + 2 * label, 10:18] = 255
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{name}-labels-idx1-ubyte.gz", labels)
    return folder


CELEBA_ATTRIBUTES = ("Bald", "Smiling", "Young")


def write_tiny_celeba(root: str | Path, images: int = 60) -> Path:
    """Writes ``root/CelebAMask-HQ`` in the released layout, with three attributes, and returns that folder.

    Images are of 24 x 24. Those whose id is odd are smiling, and brighter; every third from 0 on is bald, nobody young.
    """
    folder = Path(root) / "CelebAMask-HQ"
    (folder / "CelebA-HQ-img").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = [str(images), " ".join(CELEBA_ATTRIBUTES)]
    for identity in range(images):
        bald, smiling = identity % 3 == 0, identity % 2 == 1
        lines.append(f"{identity}.jpg  " + " ".join("1" if has else "-1" for has in (bald, smiling, False)))
        pixels = rng.integers(60, 120, size=(24, 24, 3), dtype=np.uint8) + np.uint8(100 * smiling)
        Image.fromarray(pixels).save(folder / "CelebA-HQ-img" / f"{identity}.jpg")
    (folder / "CelebAMask-HQ-attribute-anno.txt").write_text("\n".join(lines) + "\n")
    return folder


def write_tiny_folder(root: str | Path, classes: int = 3, images: int = 6) -> Path:
    """Writes photographs of 80 x 60 to ``root/class-1/0.png``, ..., and returns ``root``.

    A class has the colours of :func:`write_tiny_cub`'s; 6 images make 4 for ``train``, 1 for ``val`` and 1 for
    ``test``.
    """
    rng = np.random.default_rng(0)
    for label in range(1, classes + 1):
        folder = Path(root) / f"class-{label}"
        folder.mkdir(parents=True)
        for number in range(images):
            _photograph(label, rng).save(folder / f"{number}.png")
    return Path(root)


def write_idx(path: Path, array: np.ndarray) -> None:
    """Writes a uint8 array as an IDX file, gzipped where the name ends in ``.gz``."""
    content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def _photograph(class_id: int, rng: np.random.Generator) -> Image.Image:
    """A bird of the class's colour fills the box on noise."""
    width, height = PHOTOGRAPH
    pixels = rng.integers(60, 120, size=(height, width, 3), dtype=np.uint8)
    x, y, box_width, box_height = map(int, BOX)
    colour = np.array([(class_id * 67) % 256, (class_id * 149) % 256, (class_id * 211) % 256])
    pixels[y : y + box_height, x : x + box_width] = colour
    return Image.fromarray(pixels)
