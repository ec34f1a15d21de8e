"""The report of tools/bench.py as text; not a command."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llm60_jax.machine import terminal


def show(report: dict[str, Any], config: Path) -> None:
    """Print the report for a person."""
    rows, projected, generation = report["stages"], report["hours"], report["generation"]
    terminal.say(f"{config}, phase {report['phase']}; {rows[0]['remat']} remat, {rows[0]['devices']} device(s)")
    terminal.say(table(rows))
    terminal.say(
        f"rounds left out because other processes used more than {report['foreign_percent']:g} % of a core: "
        f"{report['disturbed_rounds']}"
    )
    sums = ", ".join(f"{name} {value:,.1f}" for name, value in projected.items())
    terminal.say(f"hours at these speeds: {sums}; {sum(projected.values()):,.1f} in all")
    if report["not_in_hours"]:
        terminal.say(f"not in these hours, because not measured: {', '.join(report['not_in_hours'])}")
    if generation:
        terminal.say(
            f"writing one text: {generation['tokens_per_second']:,.1f} tokens/s, {generation['bandwidth_share']:.0%} "
            "of what the memory's bandwidth allows when every weight is read once a token"
        )
    if losses := report["losses"]:
        names = {"jax": "here", "xla": "in plain XLA", "torch": "in PyTorch"}
        values = ", ".join(f"{loss:.5f} {names[side]}" for side, loss in losses.items())
        terminal.say(f"loss on the same weights and rows: {values}")
    if whole := report["whole_playbook_ratio"]:
        terminal.say(f"whole plan against PyTorch without freezing at the largest context: {whole:.2f}")


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as text; a column without a value in any row is left out."""
    cells: dict[str, Callable[[dict[str, Any]], str | None]] = {
        "stage": lambda row: str(row["stage"]),
        "context": lambda row: str(row["context"]),
        "frozen": lambda row: str(row["frozen"]),
        "kernels": lambda row: row["kernels"],
        "tokens/s": lambda row: f"{row['tokens_per_second']:,.0f}",
        "GFLOP/s": lambda row: f"{row['flops_per_second'] / 1e9:,.0f}",
        "of ceiling": lambda row: f"{row['ceiling_share']:.0%}",
        "of register peak": lambda row: row["register_peak_share"] and f"{row['register_peak_share']:.0%}",
        "compile s": lambda row: f"{row['compile_seconds']:.1f}",
        "temporaries MiB": lambda row: f"{row['temporary_bytes'] / 2**20:,.0f}",
        "resident MiB": lambda row: f"{row['peak_bytes'] / 2**20:,.0f}",
        "optimizer": lambda row: f"{row['optimizer_share']:.1%}",
        "input": lambda row: f"{row['input_share']:.2%}",
        "disturbed": lambda row: str(row["disturbed_rounds"]),
        "times XLA": lambda row: row["xla_ratio"] and f"{row['xla_ratio']:.2f}",
        "torch tokens/s": lambda row: row["torch_variant"] and f"{row['torch_tokens_per_second']:,.0f}",
        "best": lambda row: row["torch_variant"],
        "ratio": lambda row: row["ratio"] and f"{row['ratio']:.2f}",
    }
    columns = {heading: [cell(row) for row in rows] for heading, cell in cells.items()}
    columns = {heading: values for heading, values in columns.items() if any(values)}
    return terminal.columns(list(columns), zip(*([cell or "-" for cell in x] for x in columns.values()), strict=True))
