"""README.md of a model folder, for people."""

from __future__ import annotations

from collections.abc import Mapping

from diffusers import ModelMixin

from worldfm_ros.frame_model.composer import Composer
from worldfm_ros.frame_model.transformer import FrameTransformer


def write_card(settings: Mapping, transformer: FrameTransformer, autoencoder: ModelMixin,
               composer: Composer | None) -> str:
    """The card. settings: the content of model.json."""
    network = transformer.settings
    rows = {
        "network": f"frame transformer, {_millions(transformer)}, width {network.hidden_size}, depth {network.depth}, "
                   f"{network.heads} heads, {str(transformer.dtype).removeprefix('torch.')}",
        "camera encoding": network.camera_encoding,
        "attention": network.attention,
        "autoencoder": type(autoencoder).__name__,
        "composer": "-" if composer is None else f"{_millions(composer)}, {composer.config.references} references",
        "sizes": ", ".join(f"{width}x{height}" for height, width in settings["sizes"]),
        "steps": settings["steps"],
        "prediction": settings["prediction_type"],
        "noise": settings["noise"],
        "source": settings["source"] or "-",
        "sha256 of the source": settings["sha256"] or "-",
        "licence": settings["license"] or "-",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"# {settings['name']}\n\nAnchor drawing and references in, picture out.\n\n| | |\n|-|-|\n{table}\n"


def _millions(module: ModelMixin) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.1f} M parameters"
