"""Files of low-rank adapters, as diffusers and PEFT write and read them.

    save_lora(model, folder)                  # pipe.load_lora_weights(folder)
    save_lora(model, folder, format="peft")   # PeftModel.from_pretrained(transformer, folder)
    open_lora(model, folder)                  # either, or one safetensors file, Wan's names too

A model whose layers carry published names writes what other programs of that model read. Ranks are
read off the tensors; how often an adapter counts is in the settings beside them, and where there
are none it counts once, as diffusers has it.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors
from torch import Tensor, nn

from video_models.formats.folder import ModelFormatError, replaced, write_tensors
from video_models.formats.wan_transformer_names import published_layer
from video_models.transformer.lora import LoraLinear, insert_lora, lora_layers, lora_state

LoraFormat = Literal["diffusers", "peft"]

DIFFUSERS_WEIGHTS = "pytorch_lora_weights.safetensors"
PEFT_WEIGHTS = "adapter_model.safetensors"
PEFT_CONFIG = "adapter_config.json"
METADATA = "lora_adapter_metadata"
"""Where diffusers keeps the settings, in the header of the file."""

PREFIXES = {"diffusers": "transformer.", "peft": "base_model.model."}
"""What stands before the names of a transformer's layers; diffusers also writes nothing."""

ORIGINAL_PREFIX = "diffusion_model."
"""What others write before the names that layers have in Wan's own checkpoints."""

OTHER_NAMES = {"lora_down": "lora_A", "lora_up": "lora_B"}
"""How other trainers call the two matrices."""

UNSUPPORTED = {"use_dora": "DoRA", "lora_bias": "biases of adapters", "fan_in_fan_out": "Conv1D"}
"""Settings of PEFT that have no counterpart here."""


@dataclasses.dataclass(frozen=True)
class Adapter:
    """One layer's adapter, as a file has it."""

    down: Tensor
    """A, (r, C)."""
    up: Tensor
    """B, (K, r)."""
    alpha: float
    """It counts alpha / r times."""


def save_lora(model: nn.Module, folder: str | Path, *, format: LoraFormat = "diffusers") -> None:
    """Write the adapters of a model, and nothing else of it, in place of what is there.

    Args:
        model: with adapters.
        folder: where to.
        format: who reads it: pipelines of diffusers, or PEFT.

    Raises:
        ModelFormatError: the model has no adapters, the format is unknown, or the folder holds
            other things.
    """
    if format not in PREFIXES:
        raise ModelFormatError(f"format is {format!r}; it is {' or '.join(PREFIXES)}")
    layers = dict(lora_layers(model))
    if not layers:
        raise ModelFormatError("the model has no adapters; add_lora(model, rank=...) adds some")
    settings, prefix = _settings_of(layers), PREFIXES[format]
    state = {prefix + name: tensor for name, tensor in lora_state(model).items()}
    with replaced(folder) as new:
        if format == "peft":
            write_tensors(new / PEFT_WEIGHTS, state)
            (new / PEFT_CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        else:
            named = {prefix + key: value for key, value in settings.items()}
            write_tensors(new / DIFFUSERS_WEIGHTS, state, {METADATA: json.dumps(named)})


def open_lora(model: nn.Module, path: str | Path) -> None:
    """Give a model the adapters of a file, and freeze everything else.

    Args:
        model: the transformer that they were trained beside.
        path: a folder of ours, of diffusers' or of PEFT's, or a safetensors file.

    Raises:
        ModelFormatError: it is no such file, is of a kind that is not supported, or does not fit.
    """
    file = _file_of(Path(path))
    adapters = _adapters(*_read(file), where=file)
    if any(lora_layers(model)):
        raise ModelFormatError(f"{file}: the model has adapters already; merge_lora(model) first")
    layers = {name: _layer(model, name, each, where=file) for name, each in adapters.items()}
    insert_lora(model, layers)


def _layer(model: nn.Module, name: str, adapter: Adapter, *, where: Path) -> LoraLinear:
    base = dict(model.named_modules()).get(name)
    if not isinstance(base, nn.Linear):
        raise ModelFormatError(f"{where} adapts {name}, and the model has no such linear layer")
    rank = adapter.down.shape[0]
    expected = (rank, base.in_features), (base.out_features, rank)
    if (adapter.down.shape, adapter.up.shape) != expected:
        raise ModelFormatError(
            f"{where} adapts {name} by matrices of shapes {tuple(adapter.down.shape)} and "
            f"{tuple(adapter.up.shape)}; the model needs {expected[0]} and {expected[1]}"
        )
    layer = LoraLinear(base, rank=rank, alpha=adapter.alpha)
    layer.lora_A.weight.data.copy_(adapter.down)
    layer.lora_B.weight.data.copy_(adapter.up)
    return layer.train(base.training)


def _settings_of(layers: Mapping[str, LoraLinear]) -> dict[str, Any]:
    """Return what PEFT's `LoraConfig` needs to know."""
    first = next(iter(layers.values()))
    return {
        "peft_type": "LORA",
        "r": first.rank,
        "lora_alpha": first.alpha,
        "rank_pattern": {f"^{n}": x.rank for n, x in layers.items() if x.rank != first.rank},
        "alpha_pattern": {f"^{n}": x.alpha for n, x in layers.items() if x.alpha != first.alpha},
        "target_modules": sorted(layers),
        "lora_dropout": 0.0,
        "bias": "none",
    }


def _adapters(
    state: Mapping[str, Tensor], settings: Mapping[str, Any], *, where: Path
) -> dict[str, Adapter]:
    """Return the adapters of a file by the names of their layers."""
    for key, what in UNSUPPORTED.items():
        if settings.get(key):
            raise ModelFormatError(f"{where}: {key} is {settings[key]!r}; no {what} here")
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        name, part = _split(key)
        parts.setdefault(name, {})[part] = tensor
    found = {}
    for name, own in parts.items():
        if unknown := sorted(set(own) - {"lora_A", "lora_B", "alpha"}):
            raise ModelFormatError(f"{where}: {name} has {', '.join(unknown)}, which is not read")
        if "lora_A" not in own or "lora_B" not in own:
            raise ModelFormatError(f"{where}: {name} has one matrix of two")
        down, up = own["lora_A"], own["lora_B"]
        alpha = float(own["alpha"]) if "alpha" in own else _alpha(settings, name, len(down))
        found[name] = Adapter(down, up, alpha)
    return found


def _split(key: str) -> tuple[str, str]:
    """Return the name of a layer and of one of its tensors."""
    for prefix in (*PREFIXES.values(), ORIGINAL_PREFIX):
        key = key.removeprefix(prefix)
    name, _, part = key.removesuffix(".weight").rpartition(".")
    return published_layer(name) or name, OTHER_NAMES.get(part, part)


def _alpha(settings: Mapping[str, Any], name: str, rank: int) -> float:
    """Return a layer's alpha by PEFT's rules."""
    alpha = float(settings.get("lora_alpha", rank))
    for pattern, value in settings.get("alpha_pattern", {}).items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            alpha = float(value)
            break
    return alpha * rank**0.5 if settings.get("use_rslora") else alpha


def _file_of(path: Path) -> Path:
    files = [path] if path.is_file() else [path / DIFFUSERS_WEIGHTS, path / PEFT_WEIGHTS]
    for file in files:
        if file.is_file():
            return file
    raise ModelFormatError(
        f"{path} holds no adapters: neither {DIFFUSERS_WEIGHTS} nor {PEFT_WEIGHTS}"
    )


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a file and PEFT's settings of them, if there are any."""
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            header = opened.metadata() or {}
        beside = file.with_name(PEFT_CONFIG)
        text = beside.read_text(encoding="utf-8") if beside.is_file() else header.get(METADATA)
        settings = json.loads(text) if text else {}
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise ModelFormatError(f"{file} is damaged: {error}") from None
    return state, {_unprefixed(key): value for key, value in settings.items()}


def _unprefixed(key: str) -> str:
    return key.removeprefix(PREFIXES["diffusers"])
