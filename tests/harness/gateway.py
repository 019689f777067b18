"""A gateway under test: the real binary on free ports, its command line, its trail, its memory."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from . import REPOSITORY, Endpoint, HarnessError, Throwaway, free_port
from .roads import descendants

START_TIMEOUT_S = 60
# The most that one answer of the API holds.
MOST_ENTRIES = 10_000


def binary():
    """The gateway's program: TRAILGATE_BIN, else the debug build."""
    target = Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target")
    path = Path(os.environ.get("TRAILGATE_BIN") or target / "debug" / "trailgate").resolve()
    if not path.exists():
        raise HarnessError(f"{path} does not exist: cargo build -p trailgate, or set TRAILGATE_BIN")
    return path


def until(found, seconds=60, pause=0.05):
    """What `found()` returns once that is true of it; raises when it stays false."""
    deadline = time.monotonic() + seconds
    while True:
        if result := found():
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"still {result!r} after {seconds} s")
        time.sleep(pause)


class CommandFailed(Exception):
    """A command of the gateway's own ended with an error."""

    def __init__(self, done):
        super().__init__(f"exit code {done.returncode}: {done.stderr.strip()}")
        self.code = done.returncode
        self.stderr = done.stderr


class Gateway(Throwaway):
    """Use as a context manager. `settings` are sections of the settings file; `data` is a directory that is kept."""

    def __init__(self, settings=None, data=None):
        self.binary = binary()
        self.home = Path(tempfile.mkdtemp(prefix="trailgate-"))
        self.data = Path(data) if data else self.home / "data"
        self.log = self.home / "gateway.log"
        self.port = free_port()
        self.web_port = free_port()
        self.process = None
        self.settings = {
            "postgres": {"listen": f"127.0.0.1:{self.port}"},
            "web": {"listen": f"127.0.0.1:{self.web_port}"},
            "ssh": {"listen": "127.0.0.1:0"},
            "workers": {"shutdown_grace_s": 1},
        }
        for section, values in (settings or {}).items():
            self.settings[section] = self.settings.get(section, {}) | values

    def start(self):
        """Starts it, and waits until it answers."""
        config = self.home / "trailgate.toml"
        # What JSON and TOML write alike is all that is needed here: strings, numbers, true and false.
        config.write_text(
            "".join(
                f"[{section}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
                for section, values in self.settings.items()
            )
        )
        with open(self.log, "ab") as output:
            self.process = subprocess.Popen(
                [self.binary, "up", "--config", config, "--data", self.data],
                cwd=self.home, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env=self.environment(),
            )  # fmt: skip
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise HarnessError(f"the gateway did not come up:\n{self.log_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self):
        """SIGTERM; its exit code."""
        self.process.terminate()
        return self.process.wait(90)

    def kill(self):
        """SIGKILL: it gets no chance to put anything in order."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def answers(self):
        """Whether its control socket answers."""
        try:
            with socket.socket(socket.AF_UNIX) as control:
                control.settimeout(5)
                control.connect(str(self.data / "control.sock"))
                control.sendall(b"GET /v1/health HTTP/1.1\r\nhost: local\r\nconnection: close\r\n\r\n")
                return control.recv(64).startswith(b"HTTP/1.1 ")
        except OSError:
            return False

    def environment(self, **more):
        """This process's own, without what would point the gateway's commands elsewhere."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRAILGATE_", "PG"))}
        return kept | more

    def try_run(self, *arguments, **environment):
        """One command of the gateway's own, whatever comes of it."""
        return subprocess.run(
            [self.binary, *map(str, arguments)], capture_output=True, text=True, cwd=self.home, timeout=120,
            env=self.environment(TRAILGATE_DATA=str(self.data)) | environment,
        )  # fmt: skip

    def run(self, *arguments, **environment):
        """One command of the gateway's own; its standard output."""
        done = self.try_run(*arguments, **environment)
        if done.returncode != 0:
            raise CommandFailed(done)
        return done.stdout

    def objects(self, *arguments, **environment):
        """What a command prints with --json."""
        return [json.loads(line) for line in self.run(*arguments, "--json", **environment).splitlines()]

    def add_target(self, name, url, *options):
        self.run("target", "add", name, url, *options)

    def add_agent(self, name, *options, kind="agent"):
        """Its token."""
        return self.run(kind, "add", name, *options).strip()

    def endpoint(self, user, token):
        return Endpoint("127.0.0.1", self.port, user, token)

    def entries(self, *filters):
        """Entries of the trail, oldest first."""
        return self.objects("trail", "list", "--limit", MOST_ENTRIES, *filters)[::-1]

    def verify(self):
        """What `trail verify` finds; raises unless everything holds."""
        return self.objects("trail", "verify")[0]

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def faults(self):
        """Lines of its log that tell of a fault of its own."""
        signs = ("panicked", "fault of the gateway", "please report", "overflow", "assertion")
        return [line for line in self.log_text().splitlines() if any(sign in line for sign in signs)]

    def memory_mib(self, what="VmRSS"):
        """Resident memory; with VmHWM the most since it began, or since `forget_peak`."""
        total = 0
        for pid in descendants(self.process.pid):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(what + ":"):
                    total += int(line.split()[1])
        return total // 1024

    def forget_peak(self):
        for pid in descendants(self.process.pid):
            Path(f"/proc/{pid}/clear_refs").write_text("5")
