"""The mathematics of video diffusion in pure PyTorch: models, samplers, distillation, formats."""
