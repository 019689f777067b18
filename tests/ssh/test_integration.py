"""Shell integration: bash and zsh tell exactly which lines they run, and what came of them."""

import atexit
import functools
import re
import time
from pathlib import Path

from accounts import Accounts
from asciicast import read, text as cast_text
from harness.gateway import until
from house import Case, House, mark
from terminal import Terminal

SHELLS = ("bash", "zsh")
STOPPED = "shell markers stopped: none came after `{}`: it reads lines itself, or the shell's hooks are gone"


def each_shell(test):
    """The test with every shell that can tell what it runs."""

    @functools.wraps(test)
    def run(self):
        for shell in SHELLS:
            with self.subTest(shell=shell):
                test(self, shell)

    return run


@functools.cache
def integrated():
    """A house whose targets `bash`, `zsh`, `dash` are accounts with that shell, and integration; `plain-…` have none."""
    opened = House().__enter__()
    accounts = Accounts(*SHELLS, "dash").__enter__()
    for shell, name in accounts.names.items():
        url = opened.sshd.url(name)
        opened.gateway.run("target", "add", shell, url + "&shell_integration=on")
        opened.gateway.run("target", "add", f"plain-{shell}", url)
    opened.accounts = accounts
    atexit.register(lambda: (opened.__exit__(), accounts.__exit__()))
    return opened


class Integrated(Case):
    def setUp(self):
        self.house = integrated()

    def terminal(self, target):
        terminal = Terminal(self.house, "-tt", "-l", target, "web1")
        self.addCleanup(terminal.__exit__)
        terminal.expect(rb"\[ready\]. ")
        return terminal

    def leave(self, terminal, exit=0):
        terminal.type(f"exit {exit}\r")
        self.assertEqual(terminal.wait(), exit)

    def entries(self, target):
        """Entries of the target's newest session once that is over, oldest first."""

        def found():
            newest = self.house.entries("--target", target, "--kind", "session.end", "--limit", "1")
            started = self.house.entries("--target", target, "--kind", "session.start", "--limit", "1")
            if newest and started and newest[0]["session"] == started[0]["session"]:
                return self.house.entries("--session", newest[0]["session"], "--limit", "10000")[::-1]
            return None

        return [entry for entry in until(found, 30) if entry["kind"] == "command"]

    def verified(self, entries):
        return [entry for entry in entries if entry["outcome"]["code"] == "verified"]

    def texts(self, entries):
        return [entry["command"]["text"] for entry in entries]

    def notes(self, entries):
        return [text for text in self.texts(entries) if text.startswith("shell marker")]


class Lines(Integrated):
    @each_shell
    def test_lines_are_exact_with_status_and_duration(self, shell):
        terminal = self.terminal(shell)
        typed = ["echo one", "false", "(exit 42)", "sleep 1.2", "echo 'a;b \\x41 \u00e9' | cat", " echo left out of the history", "echo one"]
        for line in typed:
            terminal.run(line)
        self.leave(terminal, 3)
        entries = self.entries(shell)
        lines = self.verified(entries)
        self.assertEqual(self.texts(lines), [*typed, "exit 3"])
        self.assertEqual([line["outcome"]["exit"] for line in lines], [0, 1, 42, 0, 0, 0, 0, 3])
        self.assertEqual(lines[1]["outcome"]["status"], "error")
        self.assertTrue(1_100_000 < lines[3]["duration_us"] < 20_000_000, lines[3]["duration_us"])
        self.assertEqual(self.notes(entries)[0].split(":")[1].split()[0], shell)
        # Nothing is told twice.
        self.assertEqual([e for e in entries if e["outcome"]["code"] == "inferred"], [])
        # And the whole of it is one permission, as without.
        [whole] = [entry for entry in entries if entry["command"]["text"] == "shell"]
        self.assertEqual((whole["command"]["class"], whole["outcome"]["exit"]), ("execute", 3))

    @each_shell
    def test_classes_are_those_of_the_text_and_never_harmless(self, shell):
        terminal = self.terminal(shell)
        for line in ("ls", "rm -f nothing", "curl -s http://127.0.0.1:9 | sh"):
            terminal.run(line)
        self.leave(terminal)
        classes = [line["command"]["class"] for line in self.verified(self.entries(shell))]
        self.assertEqual(classes[:3], ["execute", "write", "execute"])

    @each_shell
    def test_several_lines_are_one_command(self, shell):
        terminal = self.terminal(shell)
        for line in ("for i in 1 2; do", "echo $i"):
            terminal.type(line + "\r")
            terminal.expect("> " if shell == "bash" else "for> ")
        terminal.run("done")
        terminal.type("cat <<END\r")
        terminal.expect("> ")
        terminal.type("in it\r")
        terminal.expect("> ")
        terminal.run("END")
        self.leave(terminal)
        lines = self.texts(self.verified(self.entries(shell)))
        loop, document = lines[:2]
        # As the shell's own history has them.
        self.assertEqual(" ".join(loop.replace(";", " ").split()), "for i in 1 2 do echo $i done")
        self.assertEqual(document.rstrip("\n"), "cat <<END\nin it\nEND")
        self.assertEqual(len(lines), 3)

    @each_shell
    def test_history_completion_and_editing_end_in_exact_lines(self, shell):
        terminal = self.terminal(shell)
        terminal.run("echo first")
        terminal.type("\x1b[A")
        terminal.expect("echo first")
        terminal.type("\x1b[D\x1b[D")
        time.sleep(0.2)
        terminal.type("X")
        time.sleep(0.2)
        terminal.run("")
        terminal.type("ls /etc/hostn\t")
        terminal.expect("hostname")
        terminal.run("")
        self.leave(terminal)
        lines = self.texts(self.verified(self.entries(shell)))
        self.assertEqual([line.strip() for line in lines], ["echo first", "echo firXst", "ls /etc/hostname", "exit 0"])

    @each_shell
    def test_a_script_that_does_not_wait_for_prompts(self, shell):
        terminal = Terminal(self.house, "-tt", "-l", shell, "web1")
        self.addCleanup(terminal.__exit__)
        terminal.type("echo one\nsleep 1\necho two\necho three\nexit 7\n")
        self.assertEqual(terminal.wait(), 7)
        entries = self.entries(shell)
        self.assertEqual(self.texts(self.verified(entries)), ["echo one", "sleep 1", "echo two", "echo three", "exit 7"])
        self.assertEqual(len(self.notes(entries)), 1, self.notes(entries))
        self.assertEqual([e for e in entries if e["outcome"]["code"] == "inferred"], [])

    @each_shell
    def test_what_is_no_command_is_inferred(self, shell):
        terminal = self.terminal(shell)
        terminal.run("echo )")
        terminal.run("")
        terminal.type("abandoned\x03")
        terminal.expect(rb"\[ready\]. ")
        self.leave(terminal)
        entries = self.entries(shell)
        inferred = [e["command"]["text"] for e in entries if e["outcome"]["code"] == "inferred"]
        self.assertEqual((self.texts(self.verified(entries)), inferred), (["exit 0"], ["echo )"]))

    @each_shell
    def test_a_line_that_is_long_or_has_control_characters(self, shell):
        terminal = self.terminal(shell)
        long = "echo " + "x" * 3000
        terminal.run(long)
        terminal.run("echo \x16\x1b]0;t\x16\x07 end")
        self.leave(terminal)
        lines = self.texts(self.verified(self.entries(shell)))
        self.assertEqual(lines[:2], [long, "echo \x1b]0;t\x07 end"])

    def test_a_shell_that_keeps_no_history(self):
        terminal = self.terminal("bash")
        terminal.run("set +o history")
        terminal.run("(exit 9)")
        self.leave(terminal)
        entries = self.entries("bash")
        self.assertEqual(self.texts(self.verified(entries)), ["set +o history"])
        [line] = [e for e in entries if e["command"]["text"] == "(exit 9)"]
        # Its status is the shell's word, its text the screen's.
        self.assertEqual((line["outcome"]["code"], line["outcome"]["exit"]), ("inferred", 9))


class Unchanged(Integrated):
    """What a person notices of it: nothing."""

    @each_shell
    def test_the_shell_is_the_same(self, shell):
        questions = {
            "files": "echo \"<$MINE/$PROFILE/$FIRST>\"", "name": "echo \"<$0>\"", "level": "echo \"<$SHLVL>\"",
            "login": "shopt -q login_shell; echo \"<$?>\"" if shell == "bash" else "[[ -o login ]]; echo \"<$?>\"",
            "environment": "env | grep -v '^_=\\|^SSH_\\|SHLVL' | sort | sed 's/.*/<&>/'", "options": "echo \"<$->\"",
            "more options": "shopt | sed 's/.*/<&>/'; set -o | sed 's/.*/<&>/'" if shell == "bash" else "setopt | sed 's/.*/<&>/'",
            "prompt": "false", "status": "echo \"<$prompted>\"", "echo": "stty -a | sed 's/.*/<&>/'",
            "histories": "echo \"<$HISTFILE $HISTCONTROL $HISTIGNORE $ENV $ZDOTDIR>\"", "home": "pwd | sed 's/.*/<&>/'",
            "functions": "alias | sed 's/.*/<&>/'", "fds": "ls -l /dev/fd/ | grep -c '[0-9] ->' | sed 's/.*/<&>/'",
        }  # fmt: skip
        answers = {}
        for target in (f"plain-{shell}", shell):
            terminal = self.terminal(target)
            answers[target] = {}
            for name, question in questions.items():
                terminal.seen = b""
                begin = len(terminal.all)
                terminal.run(question)
                answer = re.sub(rb"\x1b\[[?0-9;]*[A-Za-z]|\r", b"", terminal.all[begin:]).decode()
                answers[target][name] = [line for line in answer.split("\n") if line.startswith("<")]
            terminal.type("logout\r" if shell == "bash" else "exit\r")
            terminal.wait()
        self.assertEqual(answers[shell], answers[f"plain-{shell}"])
        self.assertTrue(all(answers[shell][name] for name in ("files", "name", "environment", "echo")))
        self.assertTrue((self.house.accounts.home / shell / "logged-out").exists())

    @each_shell
    def test_the_history_is_the_same(self, shell):
        home = self.house.accounts.home / shell
        history = home / (".bash_history" if shell == "bash" else ".zsh_history")
        kept = {}
        for target in (f"plain-{shell}", shell):
            history.unlink(missing_ok=True)
            terminal = self.terminal(target)
            for line in ("echo a", "echo a", " echo secret", "echo b", "# remark", "echo )", "echo a", " false", "HISTCONTROL=erasedups",
                         "echo a", "echo c", "echo a", "HISTIGNORE='echo d*'", "echo d", "echo e", "HISTCONTROL=", " echo f", "true"):  # fmt: skip
                terminal.run(line)
            self.leave(terminal)
            kept[target] = history.read_text()
        self.assertEqual(kept[shell], kept[f"plain-{shell}"])

    @each_shell
    def test_nothing_of_it_shows(self, shell):
        terminal = self.terminal(shell)
        terminal.run("set -x; echo traced; set +x")
        terminal.run("ps -ef | cat; echo; cat /proc/*/cmdline /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | cat -v")
        self.leave(terminal)
        seen = terminal.all
        self.assertNotIn(b"7313", seen)
        self.assertNotIn(b"__trailgate_prompt", seen.replace(b"{ __trailgate_prompt; }", b""))
        [whole] = [entry for entry in self.entries(shell) if entry["command"]["text"] == "shell"]
        header, events = read(self.house.gateway.run("trail", "replay", whole["session"], "--export", "cast"))
        output = cast_text(events)
        self.assertNotIn("7313", output)
        # What the client saw is what was recorded; the lines are marked in it.
        self.assertEqual(output, seen.decode(errors="replace"))
        self.assertIn("set -x; echo traced; set +x", [data for _, code, data in events if code == "m"])

    @each_shell
    def test_no_file_is_left(self, shell):
        def files():
            found = set(Path("/tmp").iterdir()) | set(Path("/dev/shm").iterdir())
            for home in self.house.accounts.home.iterdir():
                found |= set(home.iterdir())
            return {path for path in found if path.exists() and path.owner().startswith("tg-")}

        before = files()
        terminal = self.terminal(shell)
        self.assertEqual({path.name for path in files() - before} - {".zcompdump"}, set())
        self.leave(terminal)
        extra = {path.name for path in files() - before}
        self.assertLessEqual(extra, {".bash_history", ".zsh_history", "logged-out"})

    def test_another_shell_is_only_read_off_its_screen(self):
        terminal = self.terminal("dash")
        terminal.run("echo $0 $-")
        self.leave(terminal, 4)
        entries = self.entries("dash")
        self.assertIn("echo $0 $-", self.texts(entries))
        self.assertEqual(self.verified(entries), [])
        self.assertTrue(self.notes(entries)[0].startswith("shell markers stopped: "), self.notes(entries))

    def test_a_forced_command_is_sent_nothing(self):
        name = self.house.accounts.names["bash"]
        with House(ForceCommand="cat") as house:
            house.gateway.run("target", "add", "forced", house.sshd.url(name) + "&shell_integration=on")
            with Terminal(house, "-tt", "-l", "forced", "web1") as terminal:
                terminal.type("hello\r")
                terminal.expect("hello\r\nhello")
                terminal.type("\x04")
                self.assertEqual(terminal.wait(), 0)
                self.assertNotIn(b"trailgate", terminal.all)


class Stopping(Integrated):
    """The markers stop, and the trail says so."""

    def after(self, shell, *lines, exit=0):
        terminal = self.terminal(shell)
        for line in lines:
            terminal.run(line)
        self.leave(terminal, exit)
        return self.entries(shell)

    @each_shell
    def test_a_nested_shell(self, shell):
        terminal = self.terminal(shell)
        terminal.type("PS1='[inner]$ ' sh\r")
        terminal.expect(rb"[\r\n]\[inner\]. ")
        for line in ("echo inside", "exit"):
            terminal.type(line + "\r")
            terminal.expect(rb"\[(inner|ready)\]. ")
        terminal.run("echo outside")
        self.leave(terminal)
        entries = self.entries(shell)
        self.assertEqual(self.texts(self.verified(entries)), ["PS1='[inner]$ ' sh", "echo outside", "exit 0"])
        told = [(e["command"]["text"], e["outcome"]["code"]) for e in entries if e["command"]["text"] != "shell"]
        began, stopped = told[0], (STOPPED.format("PS1='[inner]$ ' sh"), None)
        order = [text for text in told if text[1] != "verified"]
        self.assertEqual(order, [began, stopped, ("echo inside", "inferred"), ("exit", "inferred"), began])

    @each_shell
    def test_exec(self, shell):
        terminal = self.terminal(shell)
        terminal.type("PS1='[inner]$ ' exec sh\r")
        terminal.expect(rb"[\r\n]\[inner\]. ")
        terminal.type("echo inside\r")
        terminal.expect(rb"\ninside\r\n\[inner\]. ")
        self.leave(terminal, 6)
        entries = self.entries(shell)
        [line] = self.verified(entries)
        self.assertEqual((line["command"]["text"], line["outcome"]["exit"]), ("PS1='[inner]$ ' exec sh", 6))
        self.assertEqual(self.notes(entries)[1:], [STOPPED.format("PS1='[inner]$ ' exec sh")])
        inferred = [e["command"]["text"] for e in entries if e["outcome"]["code"] == "inferred"]
        self.assertEqual(inferred, ["echo inside", "exit 6"])

    def test_a_hook_that_is_taken_away(self):
        for shell, line in (("bash", "unset PROMPT_COMMAND"), ("bash", "PROMPT_COMMAND="), ("zsh", "precmd_functions=()")):
            with self.subTest(shell=shell, line=line):
                entries = self.after(shell, "echo before", line, "echo after", "echo more", exit=2)
                notes = self.notes(entries)
                self.assertEqual(len(notes), 2, notes)
                self.assertTrue(notes[1].startswith("shell markers stopped: "), notes)
                # Nothing that ran is missing, and each stands there once.
                lines = [e for e in entries if e["outcome"]["code"] in ("verified", "inferred")]
                self.assertEqual(self.texts(lines)[:3], ["echo before", line, "echo after"])
                self.assertEqual(sorted(self.texts(lines)), sorted(["echo before", line, "echo after", "echo more", "exit 2"]))

    def test_both_hooks_taken_away(self):
        for shell, line in (("bash", "unset PS0 PROMPT_COMMAND"), ("zsh", "precmd_functions=() preexec_functions=()")):
            with self.subTest(shell=shell):
                entries = self.after(shell, line, "echo after", "echo more")
                notes = self.notes(entries)
                self.assertEqual(len(notes), 2, notes)
                inferred = [e["command"]["text"] for e in entries if e["outcome"]["code"] == "inferred"]
                self.assertEqual(inferred, ["echo after", "echo more", "exit 0"])

    def test_a_hook_that_comes_back_by_itself(self):
        for shell, line in (("bash", "PS0="), ("zsh", "preexec_functions=()")):
            with self.subTest(shell=shell):
                entries = self.after(shell, line, "echo after")
                self.assertEqual(self.texts(self.verified(entries)), [line, "echo after", "exit 0"])

    def test_a_program_that_reads_lines(self):
        terminal = self.terminal("bash")
        terminal.type("cat > /dev/null\r")
        time.sleep(0.5)
        terminal.type("what cat reads\r")
        terminal.expect("what cat reads")
        terminal.type("\x04")
        terminal.expect(rb"\[ready\]. ")
        self.leave(terminal)
        entries = self.entries("bash")
        [line] = [e for e in entries if e["command"]["text"] == "what cat reads"]
        self.assertEqual(line["outcome"]["code"], "inferred")
        self.assertEqual(self.texts(self.verified(entries)), ["cat > /dev/null", "exit 0"])

    @each_shell
    def test_a_full_screen_program_that_reads_no_lines(self, shell):
        terminal = self.terminal(shell)
        terminal.type("printf '\\033[?1049h'; cat >/dev/null; printf '\\033[?1049l'\r")
        terminal.expect(rb"\x1b\[\?1049h")
        terminal.type("text\rof an editor\r")
        time.sleep(2.5)
        terminal.type("\x04")
        terminal.expect(rb"\[ready\]. ")
        self.leave(terminal)
        entries = self.entries(shell)
        self.assertEqual([e for e in entries if e["outcome"]["code"] == "inferred"], [])
        self.assertEqual(len(self.notes(entries)), 1)


class Forging(Integrated):
    """What looks like a marker and is none."""

    @each_shell
    def test_without_the_key_it_is_output(self, shell):
        terminal = self.terminal(shell)
        forged = "\\033]7313;%032d;99;C;5;rm -rf\\007"
        terminal.run(f"printf '{forged}{forged}' 1 2; echo")
        terminal.run("echo after")
        self.leave(terminal)
        self.assertEqual(terminal.all.count(b"\x1b]7313;" + b"0" * 31), 2)
        entries = self.entries(shell)
        self.assertNotIn("rm -rf", self.texts(entries))
        self.assertEqual(self.texts(self.verified(entries))[1:], ["echo after", "exit 0"])
        self.assertEqual(len([note for note in self.notes(entries) if note.startswith("shell marker forged")]), 1)

    def test_a_file_with_many_markers(self):
        terminal = self.terminal("bash")
        path = self.house.accounts.home / "bash" / "forged"
        path.write_bytes(b"".join(b"\x1b]7313;%032x;%d;D;0\x07\x1b]7313;hello;/bin/bash\x07\x1b]7313;" % (n, n) for n in range(2000)))
        path.chmod(0o644)
        begin = len(terminal.all)
        terminal.run("cat forged; echo")
        self.assertIn(path.read_bytes(), terminal.all[begin:])
        self.leave(terminal)
        self.assertEqual(self.texts(self.verified(self.entries("bash"))), ["cat forged; echo", "exit 0"])

    @each_shell
    def test_a_key_that_was_shown_is_worth_nothing(self, shell):
        terminal = self.terminal(shell)
        terminal.run("echo $__trailgate_key")
        terminal.run("echo after")
        self.leave(terminal)
        entries = self.entries(shell)
        self.assertEqual(self.texts(self.verified(entries)), ["echo $__trailgate_key"])
        self.assertIn("key was shown", self.notes(entries)[-1])
        self.assertIn(("echo after", "inferred"), [(e["command"]["text"], e["outcome"]["code"]) for e in entries])

    @each_shell
    def test_a_child_with_the_key_is_found_out(self, shell):
        terminal = self.terminal(shell)
        line = "bash -c 'printf \"\\033]7313;%s;%d;C;7;echo ok\\007\\033]7313;%s;%d;D;0\\007\" $0 $1 $0 $(($1+1))' $__trailgate_key $((__trailgate_n+1))"
        terminal.run(line)
        terminal.run("echo after")
        self.leave(terminal)
        entries = self.entries(shell)
        # The line that did it stands there before what it made up, and from then on nothing is believed.
        self.assertIn(line, self.texts(self.verified(entries)))
        self.assertNotIn("echo after", self.texts(self.verified(entries)))
        self.assertIn("same number", self.notes(entries)[-1])

    def test_set_does_not_end_the_session(self):
        terminal = self.terminal("bash")
        terminal.run("set | tail -3; declare -p > /dev/null")
        terminal.run("echo still here")
        self.leave(terminal)
        self.assertIn(b"still here", terminal.all)


class Permission(Integrated):
    def test_a_shell_is_a_permission_of_its_own(self):
        with House() as house:
            name = self.house.accounts.names["bash"]
            house.gateway.run("target", "add", "told", house.sshd.url(name) + "&shell_integration=on")
            policy = house.home / "no-shells.cedar"
            policy.write_text(
                'permit (principal, action, resource);\n'
                'forbid (principal, action == Action::"call", resource == Function::"told.shell");\n'
            )
            house.gateway.run("policy", "apply", policy)
            with Terminal(house, "-tt", "-l", "told", "web1") as terminal:
                self.assertEqual(terminal.wait(), 77)
            self.assertEqual(house.ssh("echo fine", options=("-l", "told"), check=0).stdout, b"fine\n")

    def test_the_parameter_is_on_or_off(self):
        done = self.house.gateway.try_run("target", "add", "x", self.house.sshd.url() + "&shell_integration=maybe")
        self.assertEqual(done.returncode, 1)
        self.assertIn("`shell_integration` has to be on or off", done.stderr)


class Crash(Integrated):
    def test_a_line_that_ran_when_the_gateway_was_killed_is_unknown(self):
        name = self.house.accounts.names["bash"]
        with House() as house:
            house.gateway.run("target", "add", "told", house.sshd.url(name) + "&shell_integration=on")
            with Terminal(house, "-tt", "-l", "told", "web1") as terminal:
                terminal.expect(rb"\[ready\]. ")
                terminal.run("echo done")
                terminal.type("sleep 300\r")
                until(lambda: any(e["command"]["text"] == "sleep 300" for e in house.entries("--kind", "command.started")), 20)
                house.gateway.kill()
            house.gateway.start()
            entries = {entry["command"]["text"]: entry for entry in house.entries("--kind", "command")}
            self.assertEqual(entries["echo done"]["outcome"]["code"], "verified")
            for text in ("sleep 300", "shell"):
                self.assertEqual(entries[text]["outcome"]["status"], "unknown", text)
            self.assertTrue(house.gateway.verify())

