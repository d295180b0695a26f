"""The CLIP score of clips and their captions, with a published CLIP model from a local folder.

Hessel et al. 2021, arXiv 2104.08718, averaged over a clip's frames as usual for video (Wu et al.
2021, GODIVA, arXiv 2104.14806). Only safetensors weights are read and no code of a folder is run.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from video_models.formats.fingerprint import fingerprint


class ClipScore:
    """A frozen CLIP model that says how well clips fit their captions.

    Attributes:
        identity: name and hash of its weights, which belong beside every number.
    """

    def __init__(self, model: Any, processor: Any):
        self._model = model
        self._processor = processor
        self.identity = {"name": "clip", "weights": fingerprint(model)}

    @torch.no_grad()
    def __call__(self, frames: Tensor, captions: Sequence[str]) -> Tensor:
        """Return 100 max(cos, 0) of each clip, a mean over its frames; (B,).

        Args:
            frames: uint8 (B, T, 3, H, W).
            captions: one a clip; what is longer than the model reads is cut.

        Raises:
            ValueError: there are more or fewer captions than clips.
        """
        B, T = frames.shape[:2]
        if len(captions) != B:
            raise ValueError(f"{len(captions)} captions for {B} clips; give one each")
        words = self._processor(
            text=list(captions),
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=self._model.config.text_config.max_position_embeddings,
        )
        pixels = self._processor(images=list(frames.flatten(0, 1)), return_tensors="pt")
        device = next(self._model.parameters()).device
        text = self._model.get_text_features(**words.to(device)).pooler_output
        image = self._model.get_image_features(**pixels.to(device)).pooler_output
        similar = torch.cosine_similarity(image.view(B, T, -1), text[:, None], dim=-1)
        return 100 * similar.clamp_min(0).mean(dim=1)


def open_clip_score(folder: str, device: torch.device | str = "cpu") -> ClipScore:
    """Open the CLIP model in a folder, with its tokenizer and image processor, frozen.

    Raises:
        ValueError: the folder does not hold one in safetensors.
    """
    import transformers

    try:
        model = transformers.CLIPModel.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
        )
        processor = transformers.CLIPProcessor.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder} holds no CLIP model with safetensors weights, tokenizer and image "
            f"processor: {str(error).splitlines()[0]}"
        ) from error
    return ClipScore(model.eval().requires_grad_(False).to(device), processor)
