"""A stock client in a terminal of its own, driven as a person at the keyboard would."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time


class Terminal:
    """Use as a context manager: what still runs at the end is ended."""

    def __init__(self, house, *arguments, size=(80, 24), term="xterm"):
        self.master, slave = pty.openpty()
        self.resize(size)
        self.process = subprocess.Popen(
            ["ssh", "-F", str(house.config), "-o", "SendEnv=LANG", *arguments], stdin=slave, stdout=slave, stderr=slave,
            env=house.environment() | {"TERM": term, "LANG": "C.UTF-8"}, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        # All that came, and what of it nobody has looked for yet.
        self.all = b""
        self.seen = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)

    def resize(self, size):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))

    def read(self, seconds):
        """Whether something came, or may come."""
        if not select.select([self.master], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False
        self.seen += data
        self.all += data
        return bool(data)

    def expect(self, pattern, seconds=30):
        """Waits until the pattern shows, and looks behind it the next time."""
        pattern = pattern.encode() if isinstance(pattern, str) else pattern
        deadline = time.monotonic() + seconds
        more = True
        while not (found := re.search(pattern, self.seen)):
            if time.monotonic() > deadline or not more:
                raise AssertionError(f"{pattern} not in {self.seen[-2000:]!r}, all {len(self.all)} bytes of {self.all[-3000:]!r}")
            more = self.read(0.2)
        self.seen = self.seen[found.end() :]
        return found

    def type(self, text):
        data = text.encode() if isinstance(text, str) else text
        while data:
            data = data[os.write(self.master, data) :]

    def run(self, line, prompt=r"\[ready\]. "):
        """Types a line, and waits for the prompt behind it."""
        self.type(line + "\r")
        self.expect(prompt)

    def wait(self, seconds=30):
        """The client's exit status, once it is over; reads what still comes."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read(0.05)
        status = self.process.wait(1)
        # What it has written and nobody has read yet.
        while select.select([self.master], [], [], 0)[0] and self.read(0):
            pass
        return status
