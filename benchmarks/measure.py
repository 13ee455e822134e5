"""What a benchmark case is, and how time and peak memory are taken on a CPU or a GPU."""

import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import Any

import scipy
import torch
from torch.autograd.profiler import profile

# Seconds: a plain version that is expected to take longer, from the smaller sizes before, is left out.
PLAIN_LIMIT = 10.0
# Seconds from which a plain version is timed once only.
SLOW = 0.3


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a case is measured on: square images of `pixels` a side."""

    pixels: int
    batch: int
    instances: int

    @property
    def work(self) -> int:
        """What the time of a plain version grows with."""
        return self.pixels**2 * self.batch * self.instances


@dataclass(frozen=True, kw_only=True)
class Case:
    """One hot operation: `prepare` makes the inputs, `fast` and `plain` get them and return the same.

    canonical: makes tensors that can be compared of either result (an order, say); its time does not count.
    """

    name: str
    prepare: Callable[[Size, torch.device], tuple[Any, ...]]
    fast: Callable[..., Any]
    plain: Callable[..., Any]
    canonical: Callable[[Any], tuple[torch.Tensor, ...]] = lambda result: (result,)


@dataclass(kw_only=True)
class Row:
    """One measurement; seconds are medians, bytes are the peak of a call beyond its inputs."""

    case: str
    size: Size
    seconds: float
    peak_bytes: int
    runs: int
    equal: bool | None = None
    plain_seconds: float | None = None
    plain_peak_bytes: int | None = None
    plain_runs: int = 0
    speedup: float | None = None
    note: str = ""

    def __str__(self) -> str:
        where = f"{self.size.pixels} px, batch {self.size.batch}, {self.size.instances} instances"
        fast = f"{1e3 * self.seconds:9.2f} ms {self.peak_bytes / 2**20:8.1f} MiB"
        if self.plain_seconds is None or self.plain_peak_bytes is None:
            return f"{self.case:22} {where:36} {fast}   {self.note}"
        plain = f"{1e3 * self.plain_seconds:10.1f} ms {self.plain_peak_bytes / 2**20:8.1f} MiB"
        verdict = "equal" if self.equal else "DIFFERS"
        return f"{self.case:22} {where:36} {fast}   plain {plain}   {self.speedup:7.1f} x  {verdict}"


@dataclass(kw_only=True)
class Report:
    """All rows with what they were measured on."""

    device: str
    threads: int
    versions: dict[str, str]
    rows: list[Row] = field(default_factory=list)

    @classmethod
    def on(cls, device: torch.device) -> "Report":
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
        versions = {"python": platform.python_version(), "torch": torch.__version__, "scipy": scipy.__version__}
        return cls(device=name, threads=torch.get_num_threads(), versions=versions)

    @property
    def agrees(self) -> bool:
        """No fast version differed from its plain one."""
        return all(row.equal is not False for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(cases: Iterable[Case], sizes: Iterable[Size], device: torch.device, runs: int) -> Report:
    """Every case at every size, smallest first; prints each row as it comes."""
    report, sizes = Report.on(device), sorted(sizes, key=lambda s: s.work)
    for case in cases:
        previous: Row | None = None
        for size in sizes:
            row = _row(case, size, device, runs, previous)
            previous = row if row.plain_seconds is not None else previous
            report.rows.append(row)
            print(row, flush=True)
    return report


def _row(case: Case, size: Size, device: torch.device, runs: int, previous: Row | None) -> Row:
    inputs = case.prepare(size, device)
    result = case.fast(*inputs)
    row = Row(
        case=case.name,
        size=size,
        seconds=_median_seconds(lambda: case.fast(*inputs), runs, device),
        peak_bytes=_peak_bytes(lambda: case.fast(*inputs), device),
        runs=runs,
    )
    if previous and previous.plain_seconds:
        expected = previous.plain_seconds * size.work / previous.size.work
        if expected > PLAIN_LIMIT:
            row.note = f"plain left out: about {expected:.0f} s expected, limit {PLAIN_LIMIT:.0f} s"
            return row
    row.equal = _equal(case.canonical(result), case.canonical(case.plain(*inputs)))
    row.plain_seconds = _median_seconds(lambda: case.plain(*inputs), 1, device)
    row.plain_runs = runs if row.plain_seconds < SLOW else 1
    if row.plain_runs > 1:
        row.plain_seconds = _median_seconds(lambda: case.plain(*inputs), runs, device)
    row.plain_peak_bytes = _peak_bytes(lambda: case.plain(*inputs), device)
    row.speedup = row.plain_seconds / row.seconds
    return row


def _equal(result: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...]) -> bool:
    """Integers to the last one, floats to 1e-5."""
    return len(result) == len(expected) and all(
        a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=1e-5 * a.is_floating_point(), atol=1e-6)
        for a, b in zip(result, expected, strict=True)
    )


def _median_seconds(function: Callable[[], Any], runs: int, device: torch.device) -> float:
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[len(seconds) // 2]


def _peak_bytes(function: Callable[[], Any], device: torch.device) -> int:
    """Most bytes of tensors alive at one time during a call, beyond those before it."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        function()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(profile_memory=True) as record:  # torch.profiler would import the compiler, which takes seconds
        function()
    events = record.kineto_results.events()
    return max(accumulate((e.nbytes() for e in events if e.name() == "[memory]"), initial=0))


def _processor() -> str:
    """The processor's name where the system tells it."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
