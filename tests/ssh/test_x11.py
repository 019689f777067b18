"""X11: a program on the target opens its window at the client's own display, if the target grants it."""

import contextlib
import secrets
import subprocess
import tempfile
import unittest
from pathlib import Path

from harness import HarnessError, stop
from house import House, until


@contextlib.contextmanager
def display(home):
    """A real X server that lets in who knows its cookie: its name, and the file with the cookie."""
    cookie, known = secrets.token_hex(16), home / "xauthority"

    def add(name):
        subprocess.run(["xauth", "-q", "-f", known, "add", name, ".", cookie], check=True, stderr=subprocess.DEVNULL)

    add(":0")
    server = subprocess.Popen(["Xvfb", "-displayfd", "1", "-auth", known, "-nolisten", "tcp"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        number = server.stdout.readline().decode().strip()
        if not number:
            raise HarnessError("Xvfb did not come up")
        add(f":{number}")
        yield f":{number}", known
    finally:
        stop(server)
        server.stdout.close()


def essence(described):
    """What xdpyinfo says of the server, without the name that it was reached by."""
    lines = described.decode().splitlines()
    return [line for line in lines if line.startswith(("version", "vendor", "X.Org", "maximum request", "  dimensions"))]


class X11(unittest.TestCase):
    def test_a_program_reaches_the_display_of_the_client(self):
        with tempfile.TemporaryDirectory() as home:
            home = Path(home)
            settings = {"X11Forwarding": "yes", "SetEnv": f"XAUTHORITY={home / 'of-the-target'}"}
            with display(home) as (name, cookies), House(**settings) as house:
                house.gateway.run("target", "add", "graphic", house.sshd.url(), "--allow=x11-forward")
                environment = house.environment() | {"DISPLAY": name, "XAUTHORITY": str(cookies)}

                def ssh(target, command):
                    return subprocess.run(
                        ["ssh", "-F", house.config, "-Y", "-o", f"User={target}", "web1", command],
                        stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=120, check=False,
                    )  # fmt: skip

                here = subprocess.run(["xdpyinfo", "-display", name], env=environment, capture_output=True, check=True)
                there = ssh("graphic", "echo $DISPLAY >&2; xdpyinfo")
                self.assertEqual(there.returncode, 0, there.stderr)
                self.assertIn(b"localhost:", there.stderr)
                self.assertEqual(essence(there.stdout), essence(here.stdout))
                self.assertGreater(len(essence(here.stdout)), 3)

                def finished():
                    entries = house.entries("--kind", "command")
                    return next((e for e in entries if e["command"]["text"] == "forward x11" and e["outcome"]["bytes_in"]), None)

                outcome = until(finished)["outcome"]
                self.assertGreater(outcome["bytes_out"], 0)

                refused = ssh("web1", "echo \"[$DISPLAY]\"; xdpyinfo")
                self.assertIn(b"[]", refused.stdout)
                self.assertNotEqual(refused.returncode, 0)
                denied = until(lambda: house.entries("--kind", "command", "--status", "denied"))
                self.assertIn("x11-forward", denied[0]["outcome"]["message"])
