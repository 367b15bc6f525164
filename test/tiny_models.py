"""Small frame models with random weights, in memory and as folders."""

from diffusers import AutoencoderKL, AutoencoderTiny
import torch

from worldfm_ros.frame_model.autoencoder import LatentCodec
from worldfm_ros.frame_model.checkpoint import LoadedModel, ModelSettings
from worldfm_ros.frame_model.config import FrameTransformerConfig
from worldfm_ros.frame_model.transformer import FrameTransformer


def randomized(module, seed=0):
    """Every parameter random: a fresh transformer is the zero function, which would prove nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 25
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan_in**0.5)
    return module.eval()


def tiny_transformer(**changes):
    fields = {"hidden_size": 32, "depth": 2, "heads": 2, "base_size": 4} | changes
    return randomized(FrameTransformer.build(FrameTransformerConfig(**fields)))


def tiny_kl(**changes):
    fields = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
              "norm_num_groups": 4, "block_out_channels": (8,) * 4, "scaling_factor": 0.13025, "force_upcast": True}
    return randomized(AutoencoderKL(**fields | changes), seed=1)


def tiny_taesd():
    return randomized(AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4,
                                      num_encoder_blocks=(1,) * 4, num_decoder_blocks=(1,) * 4), seed=2)


def tiny_settings(**changes):
    return ModelSettings(**{"name": "tiny", "sizes": ((32, 48), (32, 32)), "steps": 2} | changes)


def tiny_model(settings=None, **changes):
    return LoadedModel(settings or tiny_settings(), tiny_transformer(**changes), LatentCodec(tiny_taesd()))
