"""What a stretch of work cost: CPU and context switches by process, and how much of the machine others used."""

import os
import re
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from harness import HarnessError
from harness.roads import descendants

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
CORES = os.cpu_count()


def stat_fields(pid):
    """Fields of /proc/PID/stat from the third on (proc(5)); None when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None


def cpu_s(pids):
    """User and system time of processes so far."""
    fields = filter(None, map(stat_fields, pids))
    return sum(int(field[11]) + int(field[12]) for field in fields) / TICKS_PER_S


def cpu_with_ended_s(pids):
    """The same, with the time of their children that have ended and been waited for."""
    fields = filter(None, map(stat_fields, pids))
    return sum(sum(map(int, field[11:15])) for field in fields) / TICKS_PER_S


def context_switches(pids):
    total = 0
    for pid in pids:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            with suppress(OSError):
                total += sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", status.read_text())))
    return total


def resident_kb(pids):
    """Resident memory. What several processes of one road share counts for each of them."""
    statuses = (Path(f"/proc/{pid}/status").read_text() for pid in pids)
    return sum(int(re.search(r"^VmRSS:\s+(\d+)", status, re.MULTILINE)[1]) for status in statuses)


def every_process():
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]


def stolen_s():
    """Time that a hypervisor kept from all cores."""
    return int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[8]) / TICKS_PER_S


def threads_of(pids):
    return [int(task.name) for pid in pids for task in Path(f"/proc/{pid}/task").glob("*")]


@contextmanager
def pinned_to(pids, cores):
    """Lets the processes that `pids()` names, all their threads and what they start meanwhile run on `cores` only. Afterwards
    each thread may run where it could before, and what has come since where its process may."""
    before = {}
    for thread in threads_of(pids()):
        with suppress(OSError):
            before[thread] = os.sched_getaffinity(thread)
            os.sched_setaffinity(thread, cores)
    try:
        yield
    finally:
        for thread in threads_of(pids()):
            with suppress(OSError):
                os.sched_setaffinity(thread, before.get(thread, range(CORES)))


class Meter:
    """Measures one stretch of work: with Meter(server, road) as meter: …

    Foreign load is what all other processes used, and what was stolen. It is summed from the processes, since the busy time
    of /proc/stat is sampled, or holds the loopback's soft interrupts that our own traffic causes. A process that ends lives
    on in the time of whoever waited for it, so none is missed.
    """

    def __init__(self, server, road):
        self.postmaster = server.process.pid
        self.road = road

    def __enter__(self):
        self.before = self._reading()
        return self

    def __exit__(self, *_):
        self._wait_for_backends()
        after = self._reading()
        delta = {name: after[name] - self.before[name] for name in after}
        self.proxy_cpu_s = delta["road"]
        self.proxy_switches = delta["switches"]
        foreign_s = delta["all"] - delta["ours"] + delta["stolen"]
        self.foreign_share = max(0.0, foreign_s) / (delta["at"] * CORES)

    def _reading(self):
        road = self.road.pids()
        # Clients are children of this process, and are waited for before the reading.
        ours = {os.getpid(), *descendants(self.postmaster), *road}
        return {
            "at": time.monotonic(),
            "all": cpu_with_ended_s(every_process()),
            "ours": cpu_with_ended_s(ours),
            "stolen": stolen_s(),
            "road": cpu_s(road),
            "switches": context_switches(road),
        }

    def _wait_for_backends(self):
        """Backends of sessions that have just ended are reaped a little later; their time counts only then."""
        previous = None
        for _ in range(20):
            now = len(descendants(self.postmaster))
            if now == previous:
                return
            previous = now
            time.sleep(0.01)


def run_client(command, environment):
    """Runs a client program to its end; its output."""
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode != 0:
        raise HarnessError(f"{Path(command[0]).name} failed:\n{done.stdout[-2000:]}")
    return done.stdout
