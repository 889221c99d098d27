"""A fit of what NCCL reaches, for people and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chakrasim.traces.units import format_bytes

if TYPE_CHECKING:
    from rich.console import Console

    from chakrasim.replay.calibration.fit import Fit, Residual

Document = dict[str, Any]


def describe_fit(fit: Fit) -> Document:
    """What `calibrate --json` prints; see `docs/json.md`."""
    return {
        "machine": fit.machine.name,
        "parameters": {name: {"before": a, "after": b} for name, (a, b) in fit.moved.items()},
        "kept": list(fit.kept),
        "at_limit": list(fit.at_limit),
        "tables": [_table(residual) for residual in fit.residuals],
    }


def _table(residual: Residual) -> Document:
    table, errors, large = residual.table, 100 * residual.errors, 100 * abs(residual.large())
    return {
        "name": table.name,
        "kind": table.kind,
        "ranks": table.ranks,
        "ranks_by_host": list(table.ranks_by_host),
        "mean_error_percent": round(float(large.mean()), 3) if len(large) else None,
        "worst_error_percent": round(float(large.max()), 3) if len(large) else None,
        "rows": [
            {
                "size_bytes": int(size),
                "measured_us": round(float(measured), 3),
                "predicted_us": round(float(predicted), 3),
                "error_percent": round(float(error), 3),
            }
            for size, measured, predicted, error in zip(
                residual.sizes_bytes, residual.measured_us, residual.predicted_us, errors, strict=True
            )
        ],
    }


def print_fit(console: Console, document: Document) -> None:
    """Parameters, every row of every table, and how far off each table is from 1 MB on."""
    from chakrasim.replay.report.console import new_table, print_table

    parameters = new_table("What the tables say of the network", ("parameter",), ("before", "after"))
    for name, value in document["parameters"].items():
        parameters.add_row(name, f"{value['before']:.4g}", f"{value['after']:.4g}")
    print_table(console, parameters)
    for table in document["tables"]:
        hosts = len(table["ranks_by_host"])
        where = f"{table['ranks']} ranks on {hosts} host{'s' if hosts > 1 else ''}"
        console.print(f"{table['name']}: {table['kind']} of {where}", style="bold")
        rows = new_table("", ("size",), ("measured us", "predicted us", "error %"))
        for row in table["rows"]:
            rows.add_row(
                format_bytes(row["size_bytes"]),
                f"{row['measured_us']:,.1f}",
                f"{row['predicted_us']:,.1f}",
                f"{row['error_percent']:+.1f}",
            )
        print_table(console, rows)
    summary = new_table("Errors from 1 MB on", ("table",), ("ranks", "mean %", "worst %"))
    for table in document["tables"]:
        errors = (table["mean_error_percent"], table["worst_error_percent"])
        summary.add_row(
            table["name"],
            f"{table['ranks']}",
            *("none" if error is None else f"{error:.1f}" for error in errors),
        )
    print_table(console, summary)
