"""A depth network that runs from a folder: config.json and diffusion_pytorch_model.safetensors."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from worldfm_ros.depth.completion import DenseDepth, checked, confidence_of, reduced, size_of
from worldfm_ros.depth.network import DepthNetwork
from worldfm_ros.depth.smooth import fitted
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
        size = size_of(known.shape, PIXELS)
        rays = intrinsics.resized(*size).unproject(np.ones(size[::-1]))[..., :2].astype(np.float32)
        given = (to_unit(resize(rgb, *size)), torch.from_numpy(reduced(known, *size))[None, None],
                 torch.from_numpy(rays).permute(2, 0, 1)[None])
        found = self.network(*(x.to(self.network.device) for x in given))
        depth, error = (cv2.resize(x[0, 0].exp().cpu().numpy(), (intrinsics.width, intrinsics.height),
                                   interpolation=cv2.INTER_LINEAR) for x in (found.log_depth, found.doubt))
        return DenseDepth(fitted(depth, known, rgb), confidence_of(np.where(known > 0, 0.02, error)))
