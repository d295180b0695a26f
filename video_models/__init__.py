"""The mathematics of video diffusion in pure PyTorch: models, diffusion, distillation, metrics, formats."""
