"""The variants of a plan for people: what each changes, its cost, and the scans of their rates."""

from typing import Any

from analysis.words import flops
from flows.commands.output import table
from sweeps.plan import Plan, members


def print_variants(plan: Plan) -> None:
    """Print what each variant changes and costs, and at which factor on its recipe's rate."""
    rows = [
        [
            name,
            "; ".join(
                f"{setting} {_words(value)}"
                for setting, value in plan.spec.variants.get(name, {}).items()
                if setting != "lr_factor"
            ),
            len(member.runs),
            member.observations,
            flops(member.flops_spent),
            "to be scanned" if plan.spec.scan else f"x{member.spec.lr_factor:.3g}",
        ]
        for name, member in members(plan).items()
    ]
    table("variants", ["variant", "changes", "runs", "losses", "FLOPs", "lr factor"], rows)


def scan_lines(plan: Plan) -> list[str]:
    """A line on the scans of the variants' rates."""
    scans = [planned for planned in plan.runs if planned.rate_factor is not None]
    if not scans:
        return []
    share = sum(planned.flops_spent for planned in scans) / plan.flops_spent
    text = f"{len(scans)} of the trainings, {share:.0%} of the FLOPs, scan the variants' rates"
    if plan.spec.scan is not None:
        text += " first; the rates shown are the recipe's, and so are not yet the runs' own"
    return [text]


def _words(value: Any) -> str:
    """A variant's setting: a group as `norm layer`."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(each)}" for key, each in value.items())
    return str(value)
