"""What the conformance suites and the bench share: a throwaway PostgreSQL, the roads to it, a raw client.

Python's standard library only. Everything listens on loopback, lives in a temporary directory and is stopped by
whoever started it.
"""

import os
import random
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("TRAILGATE_CACHE") or Path.home() / ".cache" / "trailgate")


class HarnessError(Exception):
    """Something around the measurement or the suite went wrong; the message says what to do."""


@dataclass(frozen=True)
class Endpoint:
    """Where a stock client connects, and as whom. `database` is what the client asks for."""

    host: str
    port: int
    user: str
    password: str

    def environment(self, database):
        """The variables that libpq reads, on top of the present environment."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return kept | {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": database,
        }

    def url(self, database, scheme="postgresql"):
        return f"{scheme}://{self.user}:{self.password}@{self.host}:{self.port}/{database}"


# Below the ports that systems take for outgoing connections: one of those could come in between.
FREE_PORTS = range(15_000, 32_000)


def free_port():
    """A TCP port of loopback that nobody listens on just now."""
    while True:
        port = random.choice(FREE_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def wait_for_port(port, process, log, seconds=60):
    """Returns once `port` accepts; raises with the end of `log` when `process` dies or time runs out."""

    def accepts():
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    wait_until(accepts, f"accept on port {port}", process, log, seconds)


def wait_for_file(path, process, log, seconds=60):
    """The same for a file, a socket for instance."""
    wait_until(path.exists, f"make {path.name}", process, log, seconds)


def wait_until(condition, what, process, log, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    tail = Path(log).read_text(errors="replace")[-2000:]
    raise HarnessError(f"{Path(process.args[0]).name} does not {what}:\n{tail}")


def stop(process, seconds=10):
    """Asks a process that we started to end, then ends it."""
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def needed(program, purpose):
    """The path of a program, or an error that says which setup installs it."""
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise HarnessError(f"{program} is not installed: run scripts/setup {purpose}")
    return path


class Throwaway:
    """A process with a directory of its own, `process` and `home`: both are gone when the context manager is left,
    also where it did not come up."""

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        stop(self.process)
        shutil.rmtree(self.home, ignore_errors=True)
