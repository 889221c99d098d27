"""Logs as nccl-tests prints them, with times of one's choice."""

from __future__ import annotations

from collections.abc import Sequence

REDUCING = ("all_reduce", "reduce_scatter", "reduce")
ROOTED = ("broadcast", "reduce")
BEFORE = "# nThread 1 nGpus 1 minBytes 8 maxBytes 8589934592 step: 2(factor) warmup iters: 5 iters: 20\n"
COLUMNS = "size count type redop root time algbw busbw #wrong time algbw busbw #wrong"


def bus_factor(test: str, n: int) -> float:
    """Bus over algorithm bandwidth, as nccl-tests defines it (its PERFORMANCE.md)."""
    if test in (*ROOTED, "sendrecv"):
        return 1.0
    return (2 if test == "all_reduce" else 1) * (n - 1) / n


def nccl_log(
    test: str, hosts: int, per_host: int, rows: Sequence[tuple[int, float]], *, is_named: bool = True
) -> str:
    """The log of a program of nccl-tests: rows are bytes and us, the same in place."""
    n = hosts * per_host
    text = f"# Collective test starting: {test}_perf\n" * is_named + BEFORE + "#\n# Using devices\n"
    for rank in range(n):
        host, device = divmod(rank, per_host)
        where = f"on host-{host:02} device {device:2} [0x0f] NVIDIA H100 80GB HBM3"
        text += f"#  Rank {rank:2} Group  0 Pid {4000 + rank} {where}\n"
    text += "host-00:4000:4031 [0] NCCL INFO Channel 00/16 :    0   1   2   3\n#\n"
    text += f"# {'out-of-place':>80} {'in-place':>34}\n"
    text += "#" + "".join(f"{name:>10}" for name in COLUMNS.split()) + "\n"
    text += f"# {'(B)':>9} {'(elements)':>10} {'(us)':>30} {'(GB/s)':>9} {'(GB/s)':>9}\n"
    redop, root = "sum" if test in REDUCING else "none", 0 if test in ROOTED else -1
    for size_bytes, us in rows:
        algbw = size_bytes / us / 1e3 if us else 0.0
        times = f"{us:12.2f} {algbw:8.2f} {algbw * bus_factor(test, n):8.2f}"
        text += f"{size_bytes:12} {size_bytes // 4:12} float {redop:>6} {root:4} {times} 0 {times} N/A\n"
    return text + "# Out of bounds values : 0 OK\n# Avg bus bandwidth    : 42.0\n#\n"
