"""Shells: a terminal as always, recorded so that it can be played again, and the lines in it read off its screen."""

import hashlib
import json
import os
import re
import stat
import subprocess
import time

import asciicast
from harness.gateway import CommandFailed, until
from house import Case, House, mark
from terminal import Terminal

# Quoted so that its echo is no prompt.
READY = "PS1='[rea''dy]$ ' PS2='[mo''re] ' HISTFILE="


class ShellCase(Case):
    def terminal(self, *arguments, **options):
        """A shell at a prompt of its own."""
        terminal = Terminal(self.house, "-tt", "web1", *arguments, **options)
        self.addCleanup(terminal.__exit__)
        terminal.expect(rb"[#$%] ")
        terminal.run(READY)
        return terminal

    def shell(self, text):
        """The entry of the shell whose recording shows a text, once it is over."""

        def found():
            for entry in self.house.entries("--kind", "command", "--grep", "shell", "--limit", "20"):
                if entry["command"]["text"] == "shell" and text in self.cast(entry["session"]):
                    return entry
            return None

        return until(found, 30, 0.3)

    def cast(self, session):
        return self.house.gateway.run("trail", "replay", session, "--export", "cast")

    def lines(self, session):
        """Entries of the lines in a shell, oldest first."""
        entries = self.house.entries("--kind", "command", "--session", session, "--limit", "1000")
        return [entry for entry in entries[::-1] if entry["command"]["verb"] == "TYPED"]

    def leave(self, terminal, exit=0):
        terminal.type(f"exit {exit}\r")
        self.assertEqual(terminal.wait(), exit)


class Recording(ShellCase):
    def test_a_shell_is_an_asciicast(self):
        text = mark()
        began = time.monotonic()
        terminal = self.terminal(size=(100, 30), term="xterm-256color")
        terminal.run(f"echo first-{text}; sleep 1; echo second-{text}")
        terminal.resize((120, 40))
        os.kill(terminal.process.pid, 28)
        # The shell draws its prompt anew, so a prompt alone does not tell that it is over.
        terminal.type("until [ $(tput cols) = 120 ]; do sleep 0.1; done; echo wi''de\r")
        terminal.expect(b"wide")
        terminal.expect(rb"\[ready\]. ")
        terminal.run("printf '\\xe2\\x82'; sleep 0.3; printf '\\xac\\n'; head -c 300 /dev/urandom; echo")
        self.leave(terminal, 3)
        took = time.monotonic() - began
        shell = self.shell(text)
        self.assertEqual((shell["outcome"]["status"], shell["outcome"]["exit"]), ("error", 3))
        self.assertEqual(shell["command"]["class"], "execute")
        header, events = asciicast.read(self.cast(shell["session"]))
        self.assertEqual((header["term"]["cols"], header["term"]["rows"], header["term"]["type"]), (100, 30, "xterm-256color"))
        self.assertLess(abs(header["timestamp"] - time.time()), 300)
        output = asciicast.text(events)
        self.assertIn(f"first-{text}", output)
        # Cut in the midst of a character, and nevertheless whole.
        self.assertIn("\u20ac", output)
        self.assertIn("echo first-", asciicast.text(events, "i"))
        self.assertEqual([data for _, code, data in events if code == "r"], ["120x40"])
        self.assertEqual(events[-1][1:], ["x", "3"])
        # Times are those of the screen: a second lies between the two, and no more than the whole has passed.
        at, when = 0.0, {}
        for interval, code, data in events:
            at += interval
            for name in ("first", "second"):
                # Not where the line itself is echoed.
                if code == "o" and re.search(rf"(^|[\r\n]){name}-{text}", data):
                    when[name] = at
        apart = when["second"] - when["first"]
        self.assertTrue(0.9 < apart < 10, apart)
        self.assertLess(asciicast.seconds(events), took + 1)

    def test_a_terminal_for_a_command(self):
        text = mark()
        with Terminal(self.house, "-tt", "web1", f"stty size; tty; echo {text}", size=(100, 30)) as terminal:
            terminal.expect(rb"30 100\r\n/dev/pts/")
            self.assertEqual(terminal.wait(), 0)
        entry = self.house.entry(f"stty size; tty; echo {text}")
        header, events = asciicast.read(self.cast(entry["session"]))
        self.assertEqual(header["command"], f"stty size; tty; echo {text}")
        self.assertIn(text, asciicast.text(events))
        # What it wrote is shown with it.
        self.assertIn(f"\n{text}", self.house.gateway.run("trail", "show", entry["id"]))

    def test_what_is_too_long_is_counted_and_hashed(self):
        with House({"ssh": {"keep_recording_mib": 1}}) as house:
            line = "head -c 3000000 /dev/zero | tr '\\0' x; exit 5"
            with Terminal(house, "-tt", "web1", line) as terminal:
                self.assertEqual(terminal.wait(60), 5)
                got = terminal.all
            entry = house.entry(line)
            self.assertEqual((entry["outcome"]["exit"], entry["outcome"]["bytes_out"]), (5, 3_000_000))
            header, events = asciicast.read(house.gateway.run("trail", "replay", entry["session"], "--export", "cast"))
            self.assertEqual(events[-1][1:], ["x", "5"])
            kept = asciicast.text(events)
            self.assertLessEqual(len(kept), 1 << 20)
            self.assertTrue(got.startswith(kept.encode()))
            not_kept = entry["outcome"]["not_kept"]
            self.assertEqual(not_kept["bytes"], 3_000_000 - len(kept))
            self.assertEqual(not_kept["digest"].removeprefix("sha256:"), hashlib.sha256(got).hexdigest())


class Replay(ShellCase):
    def hostile(self):
        """The session of a program that tries what a recorded terminal may be talked into."""
        text = mark()
        with Terminal(
            self.house, "-tt", "web1",
            f"printf '{text}\\033]0;title\\007\\033]52;c;cm0gLXJm\\007\\033[6n\\033[c\\033P+q544e\\033\\\\\\033[?1000h"
            "\\033[?2004h\\233[5n\\302\\2336n\\005\\033[31mred\\033[0m\\n'",
        ) as terminal:  # fmt: skip
            terminal.expect(b"red")
            terminal.wait()
        entry = until(
            lambda: next((e for e in self.house.entries("--kind", "command") if text in (e["command"]["text"] or "")), None)
        )
        return text, entry

    def test_playing_paints_and_does_nothing_else(self):
        text, entry = self.hostile()
        played = self.house.gateway.run("trail", "replay", entry["session"], "--speed", "1000")
        self.assertIn(text, played)
        self.assertIn("\x1b[31mred\x1b[0m", played)
        for bad in ("\x1b]", "\x1b[6n", "\x1b[c", "\x1bP", "\x1b[?1000", "\x1b[?2004", "\x9b", "\x05"):
            self.assertNotIn(bad, played)
        # The file is what was recorded, for players of others.
        self.assertIn("\x1b]52;", asciicast.text(asciicast.read(self.cast(entry["session"]))[1]))

    def test_showing_writes_control_characters_out(self):
        text, entry = self.hostile()
        shown = self.house.gateway.run("trail", "show", entry["id"])
        self.assertRegex(shown, f"(?m)^{text}.*red$")
        self.assertFalse(any(ord(c) < 32 and c not in "\n\t" for c in shown), shown)
        # The same for output that was captured without a terminal.
        mine = mark()
        self.house.ssh(f"printf '{mine}\\033]0;x\\007\\n'; cat >&2", data=b"in\x1b[2J\n", check=0)
        entry = until(
            lambda: next((e for e in self.house.entries("--kind", "command") if mine in (e["command"]["text"] or "")), None)
        )
        shown = self.house.gateway.run("trail", "show", entry["id"])
        self.assertIn(f"{mine}\\u{{1b}}]0;x\\u{{7}}", shown)
        self.assertIn("in\\u{1b}[2J", shown)
        self.assertNotIn("\x1b", shown)

    def test_on_a_terminal_nothing_acts_unless_that_is_asked_for(self):
        text, entry = self.hostile()
        gateway = self.house.gateway

        def on_a_terminal(*arguments):
            # `script` gives the command a terminal, and passes on what it writes there.
            command = " ".join([str(gateway.binary), *arguments])
            done = subprocess.run(
                ["script", "-qec", command, "/dev/null"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
                env=gateway.environment(TRAILGATE_DATA=str(gateway.data)), check=True,
            )  # fmt: skip
            return done.stdout

        self.house.ssh(f"printf 'x{text}\\033]0;x\\007\\n'", check=0)
        captured = until(
            lambda: next((e for e in self.house.entries("--kind", "command") if f"x{text}" in (e["command"]["text"] or "")), None)
        )
        safe = on_a_terminal("trail", "show", captured["id"], "--captured", "stdout")
        self.assertIn(f"x{text}".encode(), safe)
        self.assertNotIn(b"\x1b", safe)
        self.assertIn(b"\x1b]0;x\x07", on_a_terminal("trail", "show", captured["id"], "--captured", "stdout", "--raw"))
        played = on_a_terminal("trail", "replay", entry["session"], "--speed", "1000")
        self.assertIn(text.encode(), played)
        self.assertNotIn(b"\x1b]", played)
        # The terminal is left as shells expect it.
        self.assertIn(b"\x1b[?25h", played.split(text.encode())[-1])

    def test_speed_and_idle_limit(self):
        text = mark()
        with Terminal(self.house, "-tt", "web1", f"echo {text}; sleep 4; echo {text}") as terminal:
            terminal.wait()
        entry = self.house.entry(f"echo {text}; sleep 4; echo {text}")

        def took(*options):
            began = time.monotonic()
            self.house.gateway.run("trail", "replay", entry["session"], *options)
            return time.monotonic() - began

        nothing = took("--speed", "100000")
        self.assertLess(took("--idle-limit", "0.2"), nothing + 3)
        self.assertGreater(took("--idle-limit", "10", "--speed", "2"), 1.8)
        for bad in (("--speed", "0"), ("--speed", "-1"), ("--speed", "fast"), ("--idle-limit", "-1")):
            with self.assertRaises(CommandFailed) as failed:
                took(*bad)
            self.assertEqual(failed.exception.code, 2)

    def test_an_exported_file_is_for_its_owner_alone(self):
        text, entry = self.hostile()
        path = self.house.home / "session.cast"
        self.house.gateway.run("trail", "replay", entry["session"], "--export", "cast", "-o", path)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(path.read_text(), self.cast(entry["session"]))

    def test_what_was_not_recorded_can_not_be_played(self):
        done = self.house.ssh("true", check=0)
        entry = self.house.entry("true")
        with self.assertRaises(CommandFailed) as failed:
            self.house.gateway.run("trail", "replay", entry["session"])
        self.assertEqual((failed.exception.code, done.returncode), (1, 0))
        self.assertIn("nothing was recorded", failed.exception.stderr)


class Inferred(ShellCase):
    """Lines as they are read off the screen, from a real bash with its own line editing."""

    def typed(self, terminal, exit=0):
        """All lines of the shell once it is left, those that each test begins and ends with left out."""
        text = mark()
        terminal.run(f": {text}")
        self.leave(terminal, exit)
        shell = self.shell(text)

        def found():
            lines = self.lines(shell["session"])
            return lines if any(text in line["command"]["text"] for line in lines) else None

        lines = until(found, 20)
        self.assertTrue(all(line["outcome"]["code"] == "inferred" for line in lines))
        self.assertTrue(all(line["command"]["class"] == "unknown" for line in lines))
        texts = [line["command"]["text"] for line in lines]
        return [line for line in texts if text not in line and line not in (READY, f"exit {exit}")]

    def test_editing_in_the_middle(self):
        terminal = self.terminal()
        terminal.type("echo sexond")
        terminal.expect(b"sexond")
        terminal.type("\x1b[D" * 3 + "\x7fc")
        terminal.expect(b"c")
        terminal.run("")
        self.assertEqual(self.typed(terminal), ["echo second"])

    def test_history_and_its_search(self):
        terminal = self.terminal()
        terminal.run("echo one")
        terminal.run("echo two")
        terminal.type("\x1b[A\x1b[A")
        terminal.expect(b"one")
        terminal.run("")
        terminal.type("\x12tw")
        terminal.expect(rb"\x1b\[7mtw")
        terminal.type("\r")
        # Leaving the search draws the prompt anew: the next one is behind what the command has written.
        terminal.expect(rb"[\r\n]two\r\n")
        terminal.expect(rb"\[ready\]. ")
        self.assertEqual(self.typed(terminal), ["echo one", "echo two", "echo one", "echo two"])

    def test_completion(self):
        folder = self.house.home / mark()
        folder.mkdir()
        (folder / "first-file").touch()
        (folder / "fifth-file").touch()
        terminal = self.terminal()
        terminal.run(f"cd {folder}")
        terminal.type("ls fir\t")
        terminal.expect(b"first-file ")
        terminal.run("")
        # Two fit: they are listed, and the line is drawn anew below.
        terminal.type("ls fi\t\t")
        terminal.expect(b"fifth-file[^$]*first-file[^$]*\\$ ls fi")
        terminal.type("f\t")
        terminal.expect(b"fth-file ")
        terminal.run("")
        self.assertEqual(self.typed(terminal), [f"cd {folder}", "ls first-file", "ls fifth-file"])

    def test_lines_that_are_longer_than_the_terminal(self):
        terminal = self.terminal(size=(40, 10))
        long = "echo " + " ".join(f"word{number}" for number in range(20))
        terminal.run(long)
        terminal.type("\x1b[A")
        terminal.expect(b"word19")
        terminal.type(" end")
        terminal.expect(b"end")
        terminal.run("")
        self.assertEqual(self.typed(terminal), [long, long + " end"])

    def test_pasted_lines(self):
        terminal = self.terminal()
        terminal.run("bind 'set enable-bracketed-paste on'")
        terminal.type("\x1b[200~for i in 1 2; do\necho pasted$i\ndone\x1b[201~")
        terminal.expect(b"done")
        terminal.run("")
        terminal.run("bind 'set enable-bracketed-paste off'")
        terminal.type("echo three\necho four\n")
        terminal.expect(rb"(?s)\r\nfour.*?\[ready\]. ")
        lines = self.typed(terminal)
        self.assertEqual(lines[1], "for i in 1 2; do\necho pasted$i\ndone")
        self.assertEqual(lines[3:], ["echo three", "echo four"])

    def test_several_lines_and_here_documents(self):
        terminal = self.terminal()
        for line in ("cat <<END", "of a document", "END"):
            terminal.type(line + "\r")
            terminal.expect(rb"\[(more|ready)\]. ?")
        for line in ("for i in 1; do", "true", "done"):
            terminal.type(line + "\r")
            terminal.expect(rb"\[(more|ready)\]. ?")
        expected = ["cat <<END", "of a document", "END", "for i in 1; do", "true", "done"]
        self.assertEqual(self.typed(terminal), expected)

    def test_coloured_prompts(self):
        terminal = self.terminal()
        terminal.run(r"PS1='\[\e[1;32m\]me@web\[\e[0m\]:\[\e[34m\]~\[\e[0m\] [rea''dy]\$ '")
        terminal.run("echo colour")
        terminal.type("\x1b[A")
        terminal.expect(b"echo colour")
        terminal.run("")
        self.assertEqual(self.typed(terminal)[1:], ["echo colour", "echo colour"])

    def test_passwords_are_left_out(self):
        terminal = self.terminal()
        terminal.type("read -rsp '[sudo] pass''word for me: ' secret\r")
        terminal.expect(b"password for me: ")
        terminal.run("hunter2-secret")
        terminal.run("echo after")
        lines = self.typed(terminal)
        self.assertEqual(lines[0], "read -rsp '[sudo] pass''word for me: ' secret")
        self.assertEqual(lines[-1], "echo after")
        self.assertNotIn("hunter2", json.dumps(lines))
        # That something was typed stands there.
        self.assertEqual(lines[1], "(a line that was not shown, at `[sudo] password for me:`)")

    def test_lines_that_a_shell_does_not_show(self):
        terminal = self.terminal()
        terminal.run("stty -echo")
        terminal.type("echo hid''den\r")
        terminal.expect(b"hidden")
        terminal.expect(rb"\[ready\]. ")
        terminal.run("stty echo")
        lines = self.typed(terminal)
        self.assertEqual(lines[0], "stty -echo")
        self.assertIn("(a line that was not shown, at `[ready]$`)", lines)

    def test_editors_are_no_commands(self):
        path = self.house.home / mark()
        terminal = self.terminal()
        terminal.type(f"vi {path}\r" if os.path.exists("/usr/bin/vi") else "printf '\\033[?1049h'; cat; printf '\\033[?1049l'\r")
        terminal.expect(rb"\x1b\[\?1049h")
        terminal.type("ione line\rand another\r")
        time.sleep(0.5)
        terminal.type("\x1b:q!\r" if os.path.exists("/usr/bin/vi") else "\x04")
        terminal.expect(rb"\[ready\]. ")
        terminal.run("echo after")
        lines = self.typed(terminal)
        self.assertEqual((len(lines), lines[1]), (2, "echo after"))

    def test_nested_shells(self):
        terminal = self.terminal()
        terminal.type("PS1='[in''ner]$ ' sh\r")
        terminal.expect(rb"[\r\n]\[inner\]. ")
        terminal.type("echo inside\r")
        terminal.expect(rb"\ninside\r\n\[inner\]. ")
        terminal.type("exit\r")
        terminal.expect(rb"\[ready\]. ")
        terminal.run("echo outside")
        self.assertEqual(self.typed(terminal), ["PS1='[in''ner]$ ' sh", "echo inside", "exit", "echo outside"])

    def test_a_script_that_does_not_wait_for_prompts(self):
        """As paramiko's `invoke_shell` and many agents do it."""
        text = mark()
        terminal = Terminal(self.house, "-tt", "web1")
        self.addCleanup(terminal.__exit__)
        terminal.type(f"echo one-{text}\necho two-{text}\nsleep 1\necho three-{text}\nexit 0\n")
        self.assertEqual(terminal.wait(), 0)
        shell = self.shell(f"three-{text}")
        lines = until(lambda: (found := self.lines(shell["session"])) and len(found) >= 5 and found)
        texts = [line["command"]["text"] for line in lines]
        for line in (f"echo one-{text}", f"echo two-{text}", "sleep 1", f"echo three-{text}"):
            self.assertIn(line, texts)

    def test_a_command_with_a_terminal_is_read_as_well(self):
        text = mark()
        with Terminal(self.house, "-tt", "web1", f"PS1='[ready]$ ' sh # {text}") as terminal:
            terminal.expect(rb"\[ready\]. ")
            terminal.run(f"echo in-{text}")
            terminal.type("exit\r")
            self.assertEqual(terminal.wait(), 0)
        entry = self.house.entry(f"PS1='[ready]$ ' sh # {text}")
        lines = until(lambda: (found := self.lines(entry["session"])) and len(found) >= 2 and found)
        self.assertEqual([line["command"]["text"] for line in lines], [f"echo in-{text}", "exit"])
