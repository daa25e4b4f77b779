"""Writing an image (H, W, 3) uint8 RGB to a file."""

import os
from pathlib import Path

import cv2
import numpy as np

from ga2clip.errors import UserError
from ga2clip.files import is_stream, replacing
from ga2clip.text import printable
from ga2clip.video.decode import Frame


def write_picture(path: str | os.PathLike[str], rgb: Frame) -> None:
    """Writes an image (H, W, 3) uint8 RGB, atomically, in the format of the extension (.png, .jpg, …).

    A pipe, a device or a descriptor without an extension (`/dev/stdout`) gets a PNG.

    Raises UserError for an extension that OpenCV does not know, or when the file cannot be written.
    """
    extension = Path(path).suffix or (".png" if is_stream(Path(path)) else "")
    try:
        known, data = cv2.imencode(extension, np.ascontiguousarray(rgb[..., ::-1]))
    except cv2.error:
        known = False
    if not known:
        raise UserError(
            f"cannot write '{printable(path)}': no image format '{extension}'", "use .png or .jpg"
        )
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(data.tobytes())
