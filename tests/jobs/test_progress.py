"""Progress in a log: few lines, the last one always."""

from jobs import progress as progress_module
from jobs.progress import progress


def test_a_log_gets_a_line_now_and_then_and_one_at_the_end(capsys, monkeypatch):
    clock = iter([0.0, 1.0, 6.0, 7.0, 8.0, 9.0])
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(clock))
    with progress("pretrain", 5) as show:
        show(1, {"loss": 0.51234})
        show(2, {"loss": 0.4})
        show(3, {"loss": 0.3, "device": "cpu"})
        show(4, {})
        show(5, {"loss": 0.1})
        show(5, {})
    assert capsys.readouterr().err.splitlines() == [
        "pretrain 1/5 loss 0.5123",
        "pretrain 3/5 loss 0.3  device cpu",
        "pretrain 5/5 loss 0.1",
    ]
