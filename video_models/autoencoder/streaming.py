"""Run an encoder or a decoder over clips that come in chunks, and over whole clips.

Without gradients a whole clip is a stream of one chunk: it goes through the layers in small pieces
(`layers.memory.flow`), so the work stays in cache and memory does not grow with the clip. With
gradients all of it goes through each layer at once.

Legend: B batch, C channels, T frames, H W pixels; T', H', W' the same of latents; t frames of a
chunk.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.decoder import Decoder
from video_models.autoencoder.encoder import Encoder
from video_models.layers.memory import Memory, pieces
from video_models.layers.patches import fold_patches, unfold_patches


def encode_clip(encoder: Encoder, video: Tensor, config: AutoencoderConfig) -> Tensor:
    """Return what an encoder makes of a whole clip (B, C, T, H, W): (B, C_out, T', H', W').

    Raises:
        ValueError: the number of channels, of frames, the height or the width does not fit.
    """
    check_channels(video, config.channels, "a video has")
    config.latent_shape(*video.shape[2:])
    memory = _memory(config)
    return torch.cat([*_encoded(encoder, video, config, memory)], dim=2)


def decode_clip(decoder: Decoder, latents: Tensor, config: AutoencoderConfig) -> Tensor:
    """Return the video (B, C, T, H, W) that a decoder makes of latents (B, z, T', H', W').

    Raises:
        ValueError: there is no frame.
    """
    if not latents.shape[2]:
        raise ValueError("latents have no frame; a clip has at least one")
    memory = _memory(config)
    parts = _decoded(decoder, latents, config, memory)
    if memory is None:
        return torch.cat([*parts], dim=2)
    return _joined(parts, 1 + (latents.shape[2] - 1) * config.temporal_factor)


def encode_chunks(
    encoder: Encoder, chunks: Iterable[Tensor], config: AutoencoderConfig
) -> Iterator[Tensor]:
    """Yield what an encoder makes of a clip in chunks (B, C, t, H, W), without gradients.

    One part (B, C_out, t', H', W') for each chunk that completes a latent frame or several.

    Raises:
        ValueError: a chunk's shape, or at the end the number of frames, does not fit, or a clip
            cannot be cut.
    """
    config.check_stream()
    memory, frames = Memory(), 0
    for chunk in _alike(chunks):
        check_channels(chunk, config.channels, "a chunk has")
        config.latent_shape(1, *chunk.shape[3:])
        frames += chunk.shape[2]
        if parts := [*_encoded(encoder, chunk, config, memory)]:
            yield torch.cat(parts, dim=2)
    if frames:
        config.latent_shape(frames, *chunk.shape[3:])


def decode_chunks(
    decoder: Decoder, chunks: Iterable[Tensor], config: AutoencoderConfig
) -> Iterator[Tensor]:
    """Yield the video (B, C, t, H, W) of latents in chunks (B, z, t', H', W'), one part a chunk.

    Raises:
        ValueError: a chunk's shape does not fit, or a clip cannot be cut.
    """
    config.check_stream()
    memory, first = Memory(), True
    for chunk in _alike(chunks):
        frames = chunk.shape[2] * config.temporal_factor
        shortened = config.temporal_factor - 1 if first else 0
        yield _joined(_decoded(decoder, chunk, config, memory), frames - shortened)
        first = False


def check_channels(x: Tensor, channels: int, subject: str) -> None:
    """Refuse what is not (B, channels, T, H, W).

    Raises:
        ValueError: it is not; the text says what the subject should be.
    """
    if x.ndim != 5 or x.shape[1] != channels:
        raise ValueError(f"{subject} shape (B, {channels}, T, H, W), got {tuple(x.shape)}")


def _memory(config: AutoencoderConfig) -> Memory | None:
    """Return what whole clips are run with: nothing where gradients or norms need all frames."""
    return None if torch.is_grad_enabled() or config.norm == "group_clip" else Memory()


def _encoded(
    encoder: Encoder, video: Tensor, config: AutoencoderConfig, memory: Memory | None
) -> Iterator[Tensor]:
    for piece in (video,) if memory is None else pieces(video):
        x = fold_patches(piece, config.patch_size)
        yield from encoder.stream(x.contiguous(memory_format=torch.channels_last_3d), memory)


def _decoded(
    decoder: Decoder, latents: Tensor, config: AutoencoderConfig, memory: Memory | None
) -> Iterator[Tensor]:
    z = latents.contiguous(memory_format=torch.channels_last_3d)
    for pixels in decoder.stream(z, memory):
        yield unfold_patches(pixels, config.patch_size).contiguous()


def _joined(parts: Iterator[Tensor], frames: int) -> Tensor:
    """Put parts of a clip into one tensor as they come, so that they are not held twice."""
    video, at = None, 0
    for part in parts:
        if part.shape[2] == frames:
            return part
        if video is None:
            B, C, _, H, W = part.shape
            video = part.new_empty((B, C, frames, H, W))
        video[:, :, at : at + part.shape[2]] = part
        at += part.shape[2]
    if video is None or at != frames:
        raise AssertionError(f"{at} of {frames} frames were decoded")
    return video


def _alike(chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Pass chunks with frames on while all but the number of frames stays the same."""
    first = None
    for chunk in chunks:
        shape = (*chunk.shape[:2], *chunk.shape[3:])
        first = first or shape
        if shape != first:
            raise ValueError(
                f"a chunk has (B, C, H, W) = {shape} after one of {first}; only the number of "
                "frames may change within a clip, a new size needs a new stream"
            )
        if chunk.shape[2]:
            yield chunk
