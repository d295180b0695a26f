"""Forecast what training takes before any of it is rented: `vdp plan RECIPE --gpus 64 --kind h100`.

For each run that a recipe's sections describe: parameters, tokens, operations of a step, memory of
a device by part under every setting of the engine, the fastest setting that fits, hours and money.
No tensor gets a number; a large model takes no longer than a small one.
"""

import dataclasses
import json
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from jobs.plan_config import Kind, PlanConfig
from jobs.plan_search import Estimate, Load, batches_of, choose, estimates, loads, worthwhile
from jobs.plan_subject import Subject, subjects
from jobs.recipe import Recipe

WIDTH = 145
"""Columns of a table where the terminal does not say."""
TERA = 1e12
PARTS = {
    "weights": "weights", "masters": "fp32", "moments": "Adam", "averages": "EMA",
    "gradients": "grads", "activations": "activ.",
}  # fmt: skip
"""Columns of memory; buckets and workspace stand together as buffers."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """One run on some devices."""

    subject: Subject
    kind: Kind
    gpus: int
    config: PlanConfig
    found: list[Estimate]
    """Every setting."""
    chosen: Estimate | None
    """The one to take; None where none fits."""

    @property
    def loads(self) -> list[Load]:
        """How the batches of each shape are shared out."""
        return loads(self.subject, self.subject.training, self.gpus)

    def per_step(self, name: str) -> float:
        """Return a figure of `ShapeWork`, of a step's samples, on average over the shapes."""
        spread = [(load, batches_of(load)) for load in self.loads]
        whole = sum(count for _, count in spread)
        figures = (
            count / whole * load.batch * float(getattr(self.subject.work(load.shape), name))
            for load, count in spread
        )
        return sum(figures)

    def hours(self, estimate: Estimate) -> float:
        """Return how long the whole run takes."""
        return estimate.step_s * self.subject.steps / 3600

    def money(self, estimate: Estimate) -> float:
        """Return what the whole run costs."""
        return self.hours(estimate) * self.gpus * self.kind.price_per_hour

    def utilisation(self, estimate: Estimate) -> float:
        """Return the share of the peak that the model's own operations get, waiting included."""
        peak = self.kind.peak_tflops(estimate.training.precision)
        return self.per_step("total") / (estimate.step_s * self.gpus * peak * TERA)


def run(recipe: Recipe, *, as_json: bool = False, all_settings: bool = False) -> list[Plan]:
    """Plan every run of a recipe and print it."""
    config = recipe.plan
    kind, gpus = config.resolved(), config.gpus or recipe.cluster.workers
    plans = []
    for subject in subjects(recipe):
        found = estimates(subject, kind, gpus=gpus, utilisation=config.utilisation)
        plans.append(
            Plan(
                subject=subject,
                kind=kind,
                gpus=gpus,
                config=config,
                found=found,
                chosen=choose(found),
            )
        )
    if as_json:
        print(json.dumps([as_tree(plan) for plan in plans], indent=2))
    else:
        console = Console()
        console = console if console.is_terminal else Console(width=WIDTH)
        for plan in plans:
            show(plan, console, all_settings=all_settings)
    return plans


def as_tree(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON."""
    subject = plan.subject
    return {
        "run": subject.title,
        "parameters": subject.parameters,
        "trained": subject.trained,
        "gpus": plan.gpus,
        "kind": {"name": plan.config.kind, **dataclasses.asdict(plan.kind)},
        "utilisation": plan.config.utilisation,
        "steps": subject.steps,
        "shapes": [
            {
                "size": load.shape.size,
                "clips": load.shape.clips,
                "batch": load.batch,
                "micro_batches": load.micro_batches,
                "samples": load.samples,
                **dataclasses.asdict(subject.work(load.shape)),
            }
            for load in plan.loads
        ],
        "tokens_per_step": plan.per_step("tokens"),
        "flops_per_step": plan.per_step("total"),
        "settings": [_estimate_tree(plan, estimate) for estimate in plan.found],
        "chosen": None if plan.chosen is None else _estimate_tree(plan, plan.chosen),
    }


def _estimate_tree(plan: Plan, estimate: Estimate) -> dict[str, Any]:
    memory = estimate.memory
    return {
        "knobs": estimate.setting.knobs,
        "fits": estimate.fits,
        "device_bytes": {**dataclasses.asdict(memory.device), "total": memory.device.total},
        "host_bytes": {**dataclasses.asdict(memory.host), "total": memory.host.total},
        "compute_s": estimate.compute_s,
        "waiting_s": estimate.waiting_s,
        "step_s": estimate.step_s,
        "hours": plan.hours(estimate),
        "money": plan.money(estimate),
        "utilisation": plan.utilisation(estimate),
    }


def show(plan: Plan, console: Console, *, all_settings: bool) -> None:
    """Print a plan: what is trained, the settings, and which to take."""
    subject = plan.subject
    console.rule(f"{subject.title} on {plan.gpus} x {plan.config.kind}")
    console.print(
        f"{_count(subject.parameters)} parameters"
        + (f", {_count(subject.trained)} trained" if subject.trained < subject.parameters else "")
        + f"; a step is {_count(plan.per_step('tokens'))} tokens and "
        f"{plan.per_step('total') / TERA:.3g} TFLOP; {subject.steps} steps"
    )
    console.print(_shapes(plan))
    console.print(_settings(plan, all_settings))
    console.print(f"[dim]Assumed of each {plan.config.kind}: {_assumptions(plan)}.[/]")
    console.print(_verdict(plan))


def _shapes(plan: Plan) -> Table:
    columns = ("latents", "clips", "tokens", "TFLOP forward", "backward", "frozen networks")
    table = _table("Samples", *columns, "batch", "passes x samples of a device")
    for load in plan.loads:
        work = plan.subject.work(load.shape)
        flops = (work.forward, work.backward, work.other)
        table.add_row(
            "x".join(map(str, load.shape.size)),
            str(load.shape.clips),
            str(work.tokens),
            *(f"{each / TERA:.3g}" for each in flops),
            str(load.batch),
            f"{load.micro_batches} x {load.samples}",
        )
    return table


def _settings(plan: Plan, all_settings: bool) -> Table:
    """Lay out the settings that are worth taking, or all of them."""
    order = plan.found if all_settings else worthwhile(plan.found)
    unit, size = ("GB", 1e9) if order[-1].memory.device.total > 2e9 else ("MB", 1e6)
    table = _table(
        f"Memory of a device at its worst moment, and of its host for it, {unit}",
        "ZeRO", "recomputed", "offloaded", "split", *PARTS.values(), "buffers", "all", "host",
        "fits", "step", "hours", plan.config.currency,
    )  # fmt: skip
    for each in order:
        setting, device = each.setting, each.memory.device
        parts = [getattr(device, name) for name in PARTS]
        sizes = [*parts, device.buckets + device.workspace, device.total, each.memory.host.total]
        table.add_row(
            str(setting.zero_stage),
            setting.recomputed,
            setting.offloaded,
            str(setting.sequence_parallel),
            *(f"{number / size:.1f}" if number else "-" for number in sizes),
            "yes" if each.fits else "no",
            _seconds(each.step_s),
            f"{plan.hours(each):.3g}",
            f"{plan.money(each):,.0f}",
            style="bold" if each is plan.chosen else None,
        )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _verdict(plan: Plan) -> str:
    """Say which setting to take, or what is missing."""
    chosen = plan.chosen
    if chosen is None:
        least = min(plan.found, key=lambda each: each.memory.device.total)
        return (
            f"[bold]Nothing fits:[/] the least that a device needs is "
            f"{_giga(least.memory.device.total)} GB, with {_knobs(least)}. More devices, a smaller "
            "micro-batch or a smaller model need less."
        )
    return (
        f"[bold]Take {_knobs(chosen)}:[/] {_giga(chosen.memory.device.total)} of "
        f"{plan.kind.memory_gb:g} GB, {_seconds(chosen.step_s)} a step "
        f"({_seconds(chosen.waiting_s)} of it waiting), {plan.hours(chosen):.3g} hours, "
        f"{plan.money(chosen):,.0f} {plan.config.currency}; the model gets "
        f"{plan.utilisation(chosen):.0%} of the peak."
    )


def _knobs(estimate: Estimate) -> str:
    return ", ".join(
        f"{name}={str(value).lower()}" for name, value in estimate.setting.knobs.items()
    )


def _assumptions(plan: Plan) -> str:
    kind = plan.kind
    peak = kind.peak_tflops(plan.subject.training.precision)
    return (
        f"{kind.memory_gb:g} GB, of which {kind.reserved_gb:g} and {kind.spare:.0%} are not ours, "
        f"{peak:g} TFLOP/s at {plan.config.utilisation:.0%}, "
        f"{kind.link_gb_per_s:g} GB/s inside a machine of {kind.devices} and "
        f"{kind.network_gb_per_s:g} between machines, "
        f"{kind.price_per_hour:g} {plan.config.currency} an hour"
    )


def _count(number: float) -> str:
    """Write a number in three digits: 1.42B."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def _giga(number: float) -> str:
    return f"{number / 1e9:.3g}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
