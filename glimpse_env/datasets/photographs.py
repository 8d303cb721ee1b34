"""Reads image files of every kind that Pillow knows; one that is damaged or odd is an error, never a crash."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

BACKGROUND = (128, 128, 128)
"""Behind what is transparent: grey, on which black drawings show as well as white ones."""


def read_photograph(path: Path, *, upright: bool) -> Image.Image:
    """An image file as RGB; the first picture where there are several.

    Grey, palettes and CMYK are converted, 16 bits reduced to 8, and what is transparent lies over mid-grey.

    Args:
        path: of the file.
        upright: whether to turn the picture as its EXIF orientation says.

    Raises:
        ValueError: saying what is wrong, if no picture comes out.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata; what counts is whether the pixels can be read
            with Image.open(path) as image:
                if min(image.size) < 1:
                    raise ValueError(f"it has {image.width} x {image.height} pixels")
                return _as_rgb(ImageOps.exif_transpose(image) if upright else image)
    except Exception as error:  # on damaged files Pillow's decoders raise nearly anything
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip
        values = np.asarray(image).clip(0, 65535) // 257
        return Image.fromarray(values.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        background = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        return Image.alpha_composite(background, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")
