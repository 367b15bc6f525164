"""`worldfm model`: what models there are, and the import of the released checkpoints.

The frame model is imported inside the commands: torch takes seconds, and no other command should wait for it.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import tyro

from worldfm_ros.cli.facts import AsJson, print_facts
from worldfm_ros.share import NO_NETWORK, find_model, installed_models


def list_models() -> None:
    """List the models that come with the package: name, pixels, steps, network."""
    print(f"{NO_NETWORK:<20} no network: the anchor drawing, holes filled from the reference")
    for name in installed_models():
        facts = describe(name)
        print(f"{name:<20} {facts['sizes']}, {facts['steps']} steps, {facts['parameters'] / 1e6:.2f} M parameters")


def info(model: tyro.conf.Positional[str], json: AsJson = False) -> None:
    """Say what a model is made of, how it is sampled and where it comes from. Its files are checked on the way.

    Args:
        model: the name of an installed model, or a model folder.
    """
    print_facts(describe(model), json)


def import_checkpoint(source: tyro.conf.Positional[Path], vae: Path, out: Path, steps: int | None = None) -> None:
    """Turn a released checkpoint (worldfm_1-step.pth, worldfm_2-step.pth) into a model folder.

    Args:
        source: the .pth file; nothing in it is executed.
        vae: the released autoencoder's folder: config.json and diffusion_pytorch_model.safetensors.
        out: the model folder to write; it must not exist.
        steps: network calls a frame; by default the file's name tells.
    """
    from worldfm_ros.frame_model.released import import_released

    settings = import_released(source, vae, out, steps)
    print(f"{out}: {settings.steps} steps, {settings.prediction_type}, sha256 of {settings.source} {settings.sha256}")


def describe(model: str | Path) -> dict:
    """The facts of a model folder, JSON-ready. Raises ValueError for a model that cannot be used."""
    from worldfm_ros.frame_model import checkpoint
    from worldfm_ros.frame_model.transformer import FrameTransformer

    path = find_model(model)
    settings = asdict(checkpoint.read_settings(path))
    transformer = checkpoint.load_module(FrameTransformer, path / checkpoint.TRANSFORMER)
    autoencoder = checkpoint.load_autoencoder(path / checkpoint.AUTOENCODER)
    return {
        "name": settings.pop("name"),
        "path": str(path),
        "sizes": ", ".join(f"{width}x{height}" for height, width in settings.pop("sizes")),
        "parameters": sum(parameter.numel() for parameter in transformer.parameters()),
        "dtype": checkpoint.dtype_name(transformer.dtype),
        **settings,
        "autoencoder": type(autoencoder).__name__,
        "network": asdict(transformer.settings),
        "bytes": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
    }
