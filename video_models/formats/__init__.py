"""Model folders, ours and published ones: a folder in, a module out."""

from video_models.formats.autoencoder import open_autoencoder, save_autoencoder
from video_models.formats.fingerprint import fingerprint
from video_models.formats.folder import ModelFormatError
from video_models.formats.lora import open_lora, save_lora
from video_models.formats.transformer import open_transformer, save_transformer
from video_models.formats.wan_checkpoint import save_original

__all__ = [
    "ModelFormatError",
    "fingerprint",
    "open_autoencoder",
    "open_lora",
    "open_transformer",
    "save_autoencoder",
    "save_lora",
    "save_original",
    "save_transformer",
]
