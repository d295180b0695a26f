"""What changes a fingerprint and what does not."""

import torch

from video_models.formats.fingerprint import fingerprint

STATE = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor(1.5)}


def test_order_and_memory_layout_do_not_count():
    other = {"a": STATE["a"], "b": STATE["b"].t().contiguous().t()}
    assert fingerprint(other) == fingerprint(STATE)


def test_name_type_shape_and_every_bit_count():
    changed = STATE["b"].clone()
    changed[1, 2] = torch.nextafter(changed[1, 2], torch.tensor(9.0))
    others = [
        {"c": STATE["b"], "a": STATE["a"]},
        {**STATE, "b": STATE["b"].double()},
        {**STATE, "b": STATE["b"].view(3, 2)},
        {**STATE, "b": changed},
    ]
    assert len({fingerprint(state) for state in (STATE, *others)}) == 5


def test_it_never_changes():
    """A new value here would make every latent cache stale."""
    assert fingerprint(STATE) == (
        "da90399a089447ad9eed764f2b8eade9eefd0a2dc1040aa41ab7ed9c2fa81e0c"
    )


def test_a_module_is_its_state():
    module = torch.nn.Linear(2, 3)
    assert fingerprint(module) == fingerprint(module.state_dict())


def test_half_precision_has_one_too():
    assert fingerprint({"a": torch.zeros(3, dtype=torch.bfloat16)})
