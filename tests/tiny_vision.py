"""Tiny vision networks with random weights, in folders as transformers saves them."""

import torch


def make_vision(folder, kind="dinov2"):
    """Write a DINOv2 or CLIP network of two blocks, for pictures of 16 pixels."""
    import transformers

    torch.manual_seed(5)
    size = {
        "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16,
        "patch_size": 4,
    }  # fmt: skip
    if kind == "clip":
        config = transformers.CLIPVisionConfig(intermediate_size=24, **size)
        model = transformers.CLIPVisionModel(config)
    else:
        model = transformers.Dinov2Model(transformers.Dinov2Config(mlp_ratio=2, **size))
    model.save_pretrained(folder, safe_serialization=True)
    return folder
