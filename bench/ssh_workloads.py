"""SSH beside sshd itself: what a command and a copy cost on the way through the gateway."""

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from harness import HarnessError
from harness.sshd import Sshd, keygen
from measure import Meter, resident_kb
from workloads import quantile

# As in `ssh HOST true`: what a client does that runs one command.
TARGET = "shell"
AGENT = "bench"
# Idle sessions, each with a command that waits.
IDLE_SESSIONS = 50


class SshRoad:
    """A way to the sshd for stock clients: an ssh configuration in which the host is called TARGET."""

    def __init__(self, sshd, name):
        self.sshd = sshd
        self.name = name
        self.config = sshd.home / f"config-{name}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def pids(self):
        return []

    def write_config(self, port, user, key, known_hosts_line):
        known = self.sshd.home / f"known-hosts-{self.name}"
        known.write_text(known_hosts_line + "\n")
        self.config.write_text(
            f"Host {TARGET}\n HostName 127.0.0.1\n Port {port}\n User {user}\n IdentityFile {key}\n"
            f" UserKnownHostsFile {known}\n GlobalKnownHostsFile none\n IdentitiesOnly yes\n BatchMode yes\n"
            " LogLevel ERROR\n"
        )

    def command(self, program, *arguments):
        """A stock client's command line on this road."""
        return [program, "-F", str(self.config), *map(str, arguments)]


class SshDirect(SshRoad):
    """Straight to the sshd."""

    def __init__(self, sshd):
        super().__init__(sshd, "direct")

    def __enter__(self):
        host_key = Path(f"{self.sshd.host_key}.pub").read_text().strip()
        line = f"[127.0.0.1]:{self.sshd.port} {host_key}"
        self.write_config(self.sshd.port, self.sshd.login, self.sshd.gateway_key, line)
        return self


class SshTrailgate(SshRoad):
    """Through the gateway that another road has started, by an agent with a key of its own."""

    def __init__(self, sshd, gateway):
        super().__init__(sshd, gateway.name)
        self.gateway = gateway

    def __enter__(self):
        key = keygen(self.sshd.home / "agent_key")
        self.gateway.run("target", "add", TARGET, self.sshd.url())
        self.gateway.run("agent", "add", AGENT, "--ssh-key", f"{key}.pub")
        [card] = map(json.loads, self.gateway.run("connect", AGENT, TARGET, "--json").splitlines())
        texts = {snippet["name"]: snippet["text"] for snippet in card["snippets"]}
        addresses = json.loads((self.gateway.data / "addresses.json").read_text())
        self.write_config(addresses["ssh"].rsplit(":", 1)[1], TARGET, key, texts["known_hosts"])
        return self

    def pids(self):
        return self.gateway.pids()


@dataclass(frozen=True)
class SshCell:
    """`kind` says which table it stands in: `ssh` runs `ssh HOST true` one after the other, `scp` copies a file `way`."""

    kind: str
    name: str
    way: str = ""
    megabytes: int = 0

    def run(self, sshd, road, seconds):
        return self._copies(sshd, road, seconds) if self.way else self._commands(sshd, road, seconds)

    def _commands(self, sshd, road, seconds):
        latencies = []
        with Meter(sshd, road) as meter:
            begun = time.monotonic()
            while time.monotonic() - begun < seconds:
                started = time.monotonic()
                run(road.command("ssh", TARGET, "true"))
                latencies.append((time.monotonic() - started) * 1e6)
            elapsed = time.monotonic() - begun
        latencies.sort()
        return {
            "rate": len(latencies) / elapsed,
            "p50_us": quantile(latencies, 0.50),
            "p90_us": quantile(latencies, 0.90),
            "cpu_us": meter.proxy_cpu_s / len(latencies) * 1e6,
            "switches": meter.proxy_switches / len(latencies),
            "foreign_share": meter.foreign_share,
        }

    def _copies(self, sshd, road, seconds):
        here, there = sshd.home / "here", sshd.home / "there"
        source = here if self.way == "up" else there
        if not source.exists() or source.stat().st_size != self.megabytes * 1_000_000:
            with open(source, "wb") as file, open("/dev/urandom", "rb") as random:
                for _ in range(self.megabytes):
                    file.write(random.read(1_000_000))
        pair = (here, f"{TARGET}:{there}") if self.way == "up" else (f"{TARGET}:{there}", here)
        copied = 0
        with Meter(sshd, road) as meter:
            begun = time.monotonic()
            while time.monotonic() - begun < seconds:
                run(road.command("scp", "-q", *pair))
                copied += self.megabytes
            elapsed = time.monotonic() - begun
        return {
            "rate": copied / elapsed,
            "cpu_s_per_gb": meter.proxy_cpu_s / (copied / 1000),
            "foreign_share": meter.foreign_share,
        }


def ssh_cells(megabytes):
    """Every cell, in the order of the report."""
    return [
        SshCell("ssh", "`ssh host true`"),
        SshCell("scp", f"scp to the host, {megabytes} MB", "up", megabytes),
        SshCell("scp", f"scp from the host, {megabytes} MB", "down", megabytes),
    ]


def ssh_idle_memory(road):
    """Resident kB of a road without and with idle sessions."""
    run(road.command("ssh", TARGET, "true"))
    one = resident_kb(road.pids())
    clients = []
    try:
        for _ in range(IDLE_SESSIONS):
            command = road.command("ssh", TARGET, "echo there; exec sleep 600")
            client = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            clients.append(client)
            if client.stdout.readline() != b"there\n":
                raise HarnessError("a session over SSH did not come up")
        time.sleep(1)
        many = resident_kb(road.pids())
    finally:
        for client in clients:
            client.terminate()
            client.wait()
            client.stdout.close()
    return {"one_kb": one, "many_kb": many, "per_session_kb": (many - one) / IDLE_SESSIONS}


def run(command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise HarnessError(f"{command[0]} failed:\n{done.stderr[-2000:]}")
