"""What a stretch of work cost: CPU and context switches by process, and how much of the machine others used."""

import os
import re
import subprocess
import time
from contextlib import suppress
from pathlib import Path

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


def server_cpu_s(postmaster):
    """The same of a PostgreSQL server with all backends, those that ended included."""
    ended = stat_fields(postmaster)
    ended_s = (int(ended[13]) + int(ended[14])) / TICKS_PER_S
    return ended_s + cpu_s(descendants(postmaster))


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


def machine_busy_s():
    """Time that all cores spent on anything but idling and waiting for disks; stolen time counts as busy."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_S


def pin(pids, cores):
    """Lets processes, all their threads and what they start from now on run on `cores` only."""
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*"):
            with suppress(OSError):
                os.sched_setaffinity(int(task.name), cores)


class Meter:
    """Measures one stretch of work: with Meter(server, road) as meter: …; meter.client_cpu_s += …"""

    def __init__(self, server, road):
        self.postmaster = server.process.pid
        self.road = road
        self.client_cpu_s = 0.0

    def __enter__(self):
        self.before = self._reading()
        return self

    def __exit__(self, *error):
        self._wait_for_backends()
        after = self._reading()
        delta = {name: after[name] - self.before[name] for name in after}
        ours = delta["server"] + delta["road"] + delta["own"] + self.client_cpu_s
        self.proxy_cpu_s = delta["road"]
        self.proxy_switches = delta["switches"]
        self.foreign_share = max(0.0, delta["busy"] - ours) / (delta["at"] * CORES)
        return False

    def _reading(self):
        pids = self.road.pids()
        return {
            "busy": machine_busy_s(),
            "server": server_cpu_s(self.postmaster),
            "road": cpu_s(pids),
            "switches": context_switches(pids),
            "own": time.process_time(),
            "at": time.monotonic(),
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


def run_client(command, environment, meter):
    """Runs a client program to its end, adds its CPU to the meter, returns its output."""
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with process.stdout:
        output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    meter.client_cpu_s += usage.ru_utime + usage.ru_stime
    if process.returncode != 0:
        raise RuntimeError(f"{Path(command[0]).name} failed:\n{output[-2000:]}")
    return output
