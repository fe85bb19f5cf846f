"""Images to pixels, by the model's own processor and on threads of their own: it takes longer than tokenising.

The processor is transformers' Pillow one, imported only where a model takes images. Pixels travel to the engine as they come
out of cropping, one byte a channel; scaling them is the device's work.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from shared.errors import InvalidImage

#: Formats that are read; the decoders of others (vector graphics, camera raw, PostScript) should not see strangers' files.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
#: Largest picture that is decoded, in pixels: a few kilobytes can say that they are a picture of gigabytes.
MAX_PIXELS = 50_000_000
#: Longest side over the shortest: processors that scale the shortest side to a size make a band of any length.
MAX_ASPECT = 200


@dataclass(frozen=True, slots=True)
class Pixels:
    """One image as a model's processor makes it, before scaling."""

    #: uint8, shape (1, channels, height, width); for models that take any aspect ratio (1, patches, values); for those that
    #: take any number of patches, (patches, channels, values) or (patches, values).
    values: npt.NDArray[np.uint8]
    #: Rows and columns of patches, int32, shape (2,), for models that take any aspect ratio.
    grid: npt.NDArray[np.int32] | None = None


# Pillow's own limit, beyond which it refuses to say how large a picture is: `MAX_PIXELS` is lower, and is looked at before
# any pixel is decoded.
Image.MAX_IMAGE_PIXELS = None


class ImageReader:
    """The image processor of one model."""

    def __init__(self, folder: str, pixels: Sequence[int] = ()) -> None:
        """Load the processor.

        Args:
            folder: The model's, with `preprocessor_config.json` or `processor_config.json`.
            pixels: Least and most pixels of an image, instead of what is said there.
        """
        from transformers import AutoImageProcessor  # here: it takes seconds, and most workers have no use for it

        # Not torchvision's, which resizes with other rounding and would keep torch's threads busy.
        self._processor: Any = AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
        self._options: dict[str, Any] = {"do_rescale": False, "do_normalize": False, "return_tensors": "np"}
        if pixels:
            least, most = pixels
            self._options["size"] = {"shortest_edge": least, "longest_edge": most}  # which it takes for areas
        self._frames = int(getattr(self._processor, "temporal_patch_size", 1))

    def read(self, data: bytes) -> Pixels:
        """Decode an image file, turn it upright, resize and crop it.

        Raises:
            InvalidImage: It is no image, damaged, or too large.
        """
        return self._pixels(_decoded(data))

    def blank(self, side: int) -> Pixels:
        """A square without anything on it, of so many pixels a side before it is resized."""
        return self._pixels(Image.new("RGB", (side, side)))

    def _pixels(self, image: Image.Image) -> Pixels:
        features = self._processor(image, **self._options)
        values = features["pixel_values"]
        if self._frames > 1:
            # A patch of a film, and a picture is one that stands still: of its equal frames one travels.
            values = values.reshape(len(values), -1, self._frames, self._processor.patch_size**2)[:, :, 0]
        grids = next((features[name] for name in ("spatial_shapes", "image_grid_thw") if name in features), None)
        grid = None if grids is None else grids[0, -2:].astype(np.int32)
        if "image_position_ids" in features:  # column and row of each patch, -1 for padding, which does not travel
            grid = features["image_position_ids"][0].max(axis=0)[::-1].astype(np.int32) + 1
            values = values[0, : grid.prod()]
        return Pixels(np.ascontiguousarray(values, dtype=np.uint8), grid)


def _decoded(data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        if (pixels := image.width * image.height) > MAX_PIXELS:
            raise InvalidImage(
                f"the image has {image.width} x {image.height} = {pixels:,} pixels; {MAX_PIXELS:,} is the most"
            )
        if max(image.size) > MAX_ASPECT * min(image.size):
            raise InvalidImage(f"the image has {image.width} x {image.height} pixels, too long a band to be looked at")
        upright: Image.Image = ImageOps.exif_transpose(image)
        return upright.convert("RGB")
    except UnidentifiedImageError:
        raise InvalidImage(f"the image cannot be read; it can be {', '.join(_FORMATS)}") from None
    except (OSError, ValueError, SyntaxError) as err:  # what Pillow raises on damaged files
        raise InvalidImage(f"the image is damaged: {err}") from err
