"""What is measured: each cell is one workload at one setting, run on one road at a time."""

import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from harness import HarnessError
from harness.postgres import bin_directory
from harness.roads import descendants
from harness.wire import Session
from measure import CORES, Meter, pinned_to, resident_kb, run_client

DATABASE = "bench"
# All that a pinned cell runs shares this core.
PINNED_CORE = 0
# What one COPY FROM STDIN carries.
FILL_BYTES = 100_000_000


@dataclass(frozen=True)
class Cell:
    """`kind` says which table it stands in, `name` its row; `seconds` how long one run takes (bulk: by bytes)."""

    kind: str
    name: str
    clients: int = 1
    arguments: tuple = ()
    tls: bool = False
    pinned: bool = False
    sql: str = ""
    # Bytes of the rows that `sql`, a COPY FROM STDIN, is fed with.
    row_bytes: int = 0

    def run(self, server, road, seconds):
        """One run; {figure: number}."""
        if not self.pinned:
            return self._run(server, road, seconds)
        with pinned_to(lambda: [*descendants(server.process.pid), *road.pids()], {PINNED_CORE}):
            return self._run(server, road, seconds)

    def _run(self, server, road, seconds):
        return self._bulk(server, road, seconds) if self.sql else self._pgbench(server, road, seconds)

    def _pgbench(self, server, road, seconds):
        with tempfile.TemporaryDirectory(prefix="trailgate-bench-") as directory:
            log = Path(directory) / "log"
            command = [
                *(["taskset", "-c", str(PINNED_CORE)] if self.pinned else []),
                bin_directory() / "pgbench", "-n", "-c", str(self.clients), "-j", str(min(self.clients, CORES)),
                "-T", str(seconds), "--log", f"--log-prefix={log}", *self.arguments,
            ]  # fmt: skip
            environment = road.endpoint().environment(DATABASE)
            environment["PGSSLMODE"] = "require" if self.tls else "disable"
            with Meter(server, road) as meter:
                output = run_client(command, environment)
            latencies = sorted(
                int(line.split()[2]) for file in Path(directory).glob("log*") for line in file.read_text().splitlines()
            )
        transactions = int(re.search(r"transactions actually processed: (\d+)", output)[1])
        return {
            "rate": float(re.search(r"^tps = ([\d.]+)", output, re.MULTILINE)[1]),
            "p50_us": quantile(latencies, 0.50),
            "p99_us": quantile(latencies, 0.99),
            "cpu_us": meter.proxy_cpu_s / transactions * 1e6,
            "switches": meter.proxy_switches / transactions,
            "foreign_share": meter.foreign_share,
        }

    def _bulk(self, server, road, seconds):
        carried, started = 0, time.monotonic()
        with Session(road.endpoint(), DATABASE) as session, Meter(server, road) as meter:
            begun = time.monotonic()
            while time.monotonic() - started < seconds:
                carried += self._once(session)
            elapsed = time.monotonic() - begun
        return {
            "rate": carried / elapsed / 1e6,
            "cpu_s_per_gb": meter.proxy_cpu_s / (carried / 1e9),
            "foreign_share": meter.foreign_share,
        }

    def _once(self, session):
        if not self.row_bytes:
            return session.drain(self.sql)
        row = b"x" * (self.row_bytes - 1) + b"\n"
        return session.fill(self.sql, row, FILL_BYTES // self.row_bytes)


def quantile(ordered, share):
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0


def prepare(server, megabytes):
    """The database of all cells: pgbench's tables at scale 10, and two tables of printable rows."""
    server.psql(f"CREATE DATABASE {DATABASE}")
    subprocess.run(
        [bin_directory() / "pgbench", "-iq", "-s", "10"],
        env=server.endpoint().environment(DATABASE), check=True, capture_output=True,
    )  # fmt: skip
    for size in (100, 1000):
        rows = megabytes * 1_000_000 // size
        server.psql(
            f"CREATE TABLE rows_{size} AS SELECT rpad(n::text, {size}, 'x') AS pad FROM generate_series(1, {rows}) n",
            f"VACUUM (FREEZE, ANALYZE) rows_{size}",
            database=DATABASE,
        )
    server.psql("VACUUM (FREEZE, ANALYZE)", "CHECKPOINT", database=DATABASE)


def cells():
    """Every cell, in the order of the report."""
    select = lambda mode: ("-S", "-M", mode)  # noqa: E731
    modes = ("simple", "extended", "prepared")
    found = [
        Cell("select", f"{mode}, 1 client, one core", 1, select(mode), pinned=True) for mode in modes
    ]
    found += [
        Cell("select", f"{mode}, {clients} client{'s' if clients > 1 else ''}", clients, select(mode))
        for clients in (1, 8, 32)
        for mode in modes
    ]
    found.append(Cell("tpcb", "TPC-B, 8 clients", 8, ("-M", "prepared")))
    found += [
        Cell("connect", f"SCRAM{' in TLS' if tls else ''}, 8 clients", 8, ("-S", "-C"), tls=tls)
        for tls in (False, True)
    ]
    found += [
        Cell("bulk", f"{how}, {text} rows", sql=sql.format(size))
        for how, sql in (("COPY out", "COPY rows_{} TO STDOUT"), ("SELECT", "SELECT pad FROM rows_{}"))
        for size, text in ((1000, "1 KB"), (100, "100 B"))
    ]
    # The server reads and parses the rows and keeps none, so that its disk is not what is measured.
    found += [
        Cell("bulk", f"COPY in, {text} rows", sql=f"COPY rows_{size} FROM STDIN WHERE false", row_bytes=size)
        for size, text in ((1000, "1 KB"), (100, "100 B"))
    ]
    return found


def idle_memory(road, sessions):
    """Resident kB of a road with 1 and with `sessions` idle sessions."""
    opened = [Session(road.endpoint(), DATABASE)]
    try:
        time.sleep(0.3)
        one = resident_kb(road.pids())
        while len(opened) < sessions:
            opened.append(Session(road.endpoint(), DATABASE))
        time.sleep(1)
        many = resident_kb(road.pids())
    finally:
        for session in opened:
            session.close()
    return {"one_kb": one, "many_kb": many, "per_session_kb": (many - one) / (sessions - 1)}


def seal(program, commands):
    """Seals the records of `commands` commands in one go, without a gateway: figures as the example `measure` prints them."""
    with tempfile.TemporaryDirectory(prefix="trailgate-bench-") as directory:
        done = subprocess.run(
            [program, str(commands), "32", str(Path(directory) / "trail")], capture_output=True, text=True
        )
    if done.returncode != 0:
        raise HarnessError(f"{program} failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
    found = re.search(
        r"^seal\s+(\d+) commands/s, [\d.]+ µs per command, ([\d.]+) µs.*\nmemory\s+(\d+) kB", done.stdout, re.MULTILINE
    )
    return {"commands": commands, "rate": int(found[1]), "cpu_us": float(found[2]), "peak_kb": int(found[3])}
