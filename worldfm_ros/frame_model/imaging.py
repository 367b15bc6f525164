"""Pictures as the frame model takes and gives them: uint8 (H, W, 3) <-> float (3, H, W) in [-1, 1]."""

from __future__ import annotations

import numpy as np
from PIL import Image
import torch
from torch import Tensor
import torch.nn.functional as F

from worldfm_ros.geometry import Intrinsics

# ---- what our generator uses: any size, K goes with the picture


def to_unit(rgb: np.ndarray) -> Tensor:  # (H, W, 3) uint8 -> (1, 3, H, W) float32
    """[0, 255] -> [-1, 1]"""
    return torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].float() / 127.5 - 1.0


def to_uint8(rgb: Tensor) -> np.ndarray:  # (1, 3, H, W) -> (H, W, 3) uint8
    """[-1, 1] -> [0, 255], truncated, as the released code's output: clamp(127.5 x + 128)."""
    levels = (127.5 * rgb[0].float() + 128.0).clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(levels.permute(1, 2, 0).cpu().numpy())


def resize(rgb: np.ndarray, width: int, height: int) -> np.ndarray:  # (H, W, 3) uint8 -> (height, width, 3) uint8
    """Bicubic with antialiasing; the whole picture, so the aspect changes with the size."""
    if rgb.shape[:2] == (height, width):
        return rgb
    return np.array(Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC))


def crop_to_aspect(rgb: np.ndarray, intrinsics: Intrinsics, width: int, height: int) -> tuple[np.ndarray, Intrinsics]:
    """The largest centred part of a picture (H, W, 3) with the aspect width : height, and its camera."""
    scale = min(intrinsics.width / width, intrinsics.height / height)
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (intrinsics.width - width) // 2, (intrinsics.height - height) // 2
    return rgb[top:top + height, left:left + width], intrinsics.cropped(left, top, width, height)


# ---- the released image processing, for parity: a square of `size` pixels, K is left alone


def released_drawing(rgb: Tensor, size: int) -> Tensor:  # (H, W, 3) uint8 -> (3, size, size) in [-1, 1]
    """The anchor drawing: bicubic without antialiasing, centre crop. Bicubic overshoot is kept."""
    height, width = rgb.shape[:2]
    unit = rgb.permute(2, 0, 1)[None].float() / 255.0
    if (height, width) != (size, size):
        new_width, new_height = _released_size(width, height, size)
        unit = F.interpolate(unit, (new_height, new_width), mode="bicubic", align_corners=False)
        left, top = (new_width - size) // 2, (new_height - size) // 2
        unit = unit[..., top:top + size, left:left + size]
    return unit[0] * 2.0 - 1.0


def released_reference(rgb: Tensor, size: int) -> Tensor:  # (H, W, 3) uint8 -> (3, size, size) in [-1, 1]
    """The reference picture: Pillow's bicubic, antialiased, then a centre crop."""
    image = Image.fromarray(rgb.numpy())
    if image.size != (size, size):
        image = image.resize(_released_size(*image.size, size), Image.Resampling.BICUBIC)
        # half to even, unlike the drawing's crop
        left, top = round((image.width - size) / 2), round((image.height - size) / 2)
        image = image.crop((left, top, left + size, top + size))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255.0 * 2.0 - 1.0


def _released_size(width: int, height: int, size: int) -> tuple[int, int]:
    """(width, height) with the short side at `size`."""
    scale = max(size / width, size / height)
    return round(width * scale), round(height * scale)
