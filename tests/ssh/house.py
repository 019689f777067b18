"""What the SSH tests share: one sshd, one gateway before it, an agent `chatgpt` with a key, and the stock clients."""

import atexit
import functools
import hashlib
import json
import os
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from harness import gateway as harness_gateway
from harness.gateway import Gateway
from harness.sshd import Sshd, keygen

# Only a hang takes this long, also where both cores are busy with something else.
PATIENCE_S = 180


def until(found, seconds=60):
    """What `found()` returns once that is true of it."""
    return harness_gateway.until(found, seconds)


class House:
    """sshd, gateway, keys."""

    def __init__(self, settings=None, **sshd):
        self.sshd = Sshd(**sshd)
        self.gateway = Gateway(settings)
        self.home = Path(tempfile.mkdtemp(prefix="trailgate-ssh-"))

    def __enter__(self):
        self.sshd.__enter__()
        self.gateway.__enter__()
        run = self.gateway.run
        run("target", "add", "web1", self.sshd.url())
        run("person", "add", "alice")
        self.key = keygen(self.home / "id")
        self.token = run("agent", "add", "chatgpt", "--for", "alice", "--ssh-key", f"{self.key}.pub").strip()
        self.read_addresses()
        return self

    def __exit__(self, *_):
        self.gateway.__exit__()
        self.sshd.__exit__()
        subprocess.run(["rm", "-rf", self.home], check=False)

    def read_addresses(self):
        addresses = json.loads((self.gateway.data / "addresses.json").read_text())
        self.port = int(addresses["ssh"].rsplit(":", 1)[1])
        [card] = self.gateway.objects("connect", "chatgpt", "web1")
        texts = {snippet["name"]: snippet["text"] for snippet in card["snippets"]}
        self.known_hosts = self.home / "known_hosts"
        self.known_hosts.write_text(texts["known_hosts"] + "\n")
        self.config = self.home / "config"
        self.config.write_text(
            texts["ssh_config"] + f"\n    IdentityFile {self.key}\n    UserKnownHostsFile {self.known_hosts}\n"
            "    IdentitiesOnly yes\n    LogLevel ERROR\n"
        )

    def environment(self):
        return {"HOME": str(self.home), "PATH": os.environ["PATH"], "GIT_SSH_COMMAND": f"ssh -F {self.config}",
                "GIT_CONFIG_GLOBAL": "/dev/null"}  # fmt: skip

    def run(self, *command, data=None, check=None, seconds=PATIENCE_S, **options):
        """A client's program, as an agent would run it: without a terminal, unable to answer a question."""
        given = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, timeout=seconds, env=self.environment(), cwd=self.home,
            **given, **options,
        )  # fmt: skip
        if check is not None and done.returncode != check:
            raise AssertionError(f"{command} ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
        return done

    def ssh(self, *arguments, host="web1", options=(), **more):
        return self.run("ssh", "-F", self.config, *options, host, *arguments, **more)

    def popen(self, *arguments, options=(), host="web1"):
        return subprocess.Popen(
            ["ssh", "-F", str(self.config), *options, host, *arguments], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment(),
        )  # fmt: skip

    def entries(self, *filters):
        """Entries of the trail, newest first."""
        return self.gateway.objects("trail", "list", *filters)

    def entry(self, text, seconds=60):
        """The newest finished command with this text."""

        def found():
            return next(
                (e for e in self.entries("--kind", "command") if (e["command"] or {}).get("text") == text), None
            )

        return until(found, seconds)


@functools.cache
def house():
    """The house that most tests share."""
    opened = House().__enter__()
    atexit.register(opened.__exit__)
    return opened


class Case(unittest.TestCase):
    """A test in the shared house."""

    def setUp(self):
        self.house = house()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def mark():
    """A text that no other command has."""
    return f"m{time.monotonic_ns()}"
