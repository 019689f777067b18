"""Commands of ours that stay, beside the gateway: a sealer of its own, a witness."""

import os
import signal
import subprocess
import tempfile
from pathlib import Path

from . import Throwaway, stop
from .gateway import binary, until


class Process(Throwaway):
    """A command of ours that stays. Use as a context manager."""

    ready = " is up"

    def __init__(self, *arguments):
        self.home = Path(tempfile.mkdtemp(prefix="trailgate-"))
        self.arguments = [binary(), *map(str, arguments)]
        self.log = self.home / "log"
        self.process = None

    def start(self):
        self.log.write_bytes(b"")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TRAILGATE_")}
        with open(self.log, "ab") as output:
            self.process = subprocess.Popen(
                self.arguments, cwd=self.home, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=kept
            )
        until(lambda: self.ready in self.text() or self.process.poll() is not None, seconds=60)
        if self.process.poll() is not None:
            raise AssertionError(f"it did not come up:\n{self.text()}")

    def text(self):
        return self.log.read_text(errors="replace")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        stop(self.process, 60)


class Sealer(Process):
    """`trailgate seal` over a gateway's data directory."""

    def __init__(self, gateway):
        super().__init__("seal", "--config", gateway.home / "trailgate.toml", "--data", gateway.data)
