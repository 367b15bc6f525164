"""A depth network that runs from a folder: config.json and diffusion_pytorch_model.safetensors."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from worldfm_ros.depth.completion import DenseDepth, checked, confidence_of, pulled, reduced, size_of
from worldfm_ros.depth.network import DepthNetwork
from worldfm_ros.depth.smooth import smoothest
from worldfm_ros.frame_model.autoencoder import ready
from worldfm_ros.frame_model.checkpoint import load_module
from worldfm_ros.frame_model.imaging import resize, to_unit
from worldfm_ros.geometry import Intrinsics

PIXELS = 96 * 72  # at which it works, and was trained


class LearnedCompleter:
    """Our depth network. Where nothing is known, the scale is what the network is used to."""

    metric = needs_depth = False

    def __init__(self, folder: str | Path, device: torch.device | str = "cpu") -> None:
        """Raises ModelError for a folder that does not hold such a network."""
        self.network = ready(load_module(DepthNetwork, folder), torch.device(device), torch.float32)

    @torch.inference_mode()
    def complete(self, rgb: np.ndarray, known: np.ndarray | None, intrinsics: Intrinsics) -> DenseDepth:
        """As DepthCompleter says."""
        known = checked(rgb, known, intrinsics)
        smooth, size = smoothest(known, rgb), size_of(known.shape, PIXELS)
        base = cv2.resize(smooth, size, interpolation=cv2.INTER_AREA).reshape(size[::-1])
        rays = intrinsics.resized(*size).unproject(np.ones(size[::-1]))[..., :2].astype(np.float32)
        given = (to_unit(resize(rgb, *size)), *(torch.from_numpy(x)[None, None] for x in (reduced(known, *size), base)),
                 torch.from_numpy(rays).permute(2, 0, 1)[None])
        found = self.network(*(x.to(self.network.device) for x in given))
        lacking, doubt = found.log_depth[0, 0].cpu().numpy() - np.log(base), found.doubt[0, 0].cpu().numpy()
        factor, error = (cv2.resize(np.exp(x), (intrinsics.width, intrinsics.height), interpolation=cv2.INTER_LINEAR)
                         for x in (lacking, doubt))
        return DenseDepth(pulled(smooth * factor, known), confidence_of(np.where(known > 0, 0.02, error)))
