"""Files: sftp, scp in both its modes, rsync and git; every operation with its path, bytes and digest."""

import os
import struct
import subprocess

from house import Case, mark, sha256, until

SIZE = 3_000_001

# SFTP's flags of files, kinds of answers, and the status of a failure.
READ, WRITE, CREATE = 0x1, 0x2, 0x8
STATUS, HANDLE, DATA, ATTRIBUTES = 101, 102, 103, 105
FAILURE = 4


class Raw:
    """A client of SFTP that may do what it should not."""

    def __init__(self, house):
        self.client = house.popen("sftp", options=("-s",))
        self.number = 0

    def __enter__(self):
        self.write(struct.pack(">IBI", 5, 1, 3))
        self.read()
        return self

    def __exit__(self, *_):
        self.client.stdin.close()
        self.client.wait(30)
        self.client.stdout.close()
        self.client.stderr.close()

    def write(self, data):
        self.client.stdin.write(data)
        self.client.stdin.flush()

    def read(self):
        [length] = struct.unpack(">I", self.client.stdout.read(4))
        return self.client.stdout.read(length)

    @staticmethod
    def string(data):
        return struct.pack(">I", len(data)) + data

    def packet(self, kind, rest):
        self.number += 1
        return struct.pack(">IBI", len(rest) + 5, kind, self.number) + rest

    def send(self, kind, rest):
        self.write(self.packet(kind, rest))

    def answer(self):
        """Kind and content of the next answer, whatever it answers."""
        packet = self.read()
        return packet[0], packet[5:]

    def status(self):
        kind, rest = self.answer()
        assert kind == STATUS, (kind, rest)
        return struct.unpack(">I", rest[:4])[0]


class Files(Case):
    def setUp(self):
        super().setUp()
        self.name = mark()
        self.there = self.house.sshd.home / f"there-{self.name}"
        self.there.mkdir(mode=0o777)
        self.here = self.house.home / f"here-{self.name}"
        self.here.mkdir()
        self.data = os.urandom(SIZE)
        (self.here / "up").write_bytes(self.data)

    def operation(self, text, status="ok"):
        """The newest entry of a file operation."""

        def found():
            entries = self.house.entries("--kind", "command", "--grep", self.name)
            return next((e for e in entries if e["command"]["text"] == text), None)

        entry = until(found)
        self.assertEqual(entry["outcome"]["status"], status, entry)
        return entry

    def digest(self, entry):
        return entry["outcome"]["not_kept"]["digest"].removeprefix("sha256:")

    def both_ways(self, *options):
        scp = ("scp", "-F", self.house.config, *options)
        self.house.run(*scp, self.here / "up", f"web1:{self.there}/up", check=0)
        self.assertEqual((self.there / "up").read_bytes(), self.data)
        self.house.run(*scp, f"web1:{self.there}/up", self.here / "down", check=0)
        self.assertEqual((self.here / "down").read_bytes(), self.data)

    def test_scp(self):
        self.both_ways()
        for verb, direction in [("put", "bytes_in"), ("get", "bytes_out")]:
            entry = self.operation(f"{verb} {self.there}/up")
            self.assertEqual(entry["outcome"][direction], SIZE)
            self.assertEqual(self.digest(entry), sha256(self.data))
            self.assertEqual(entry["command"]["class"], "transfer")

    def test_scp_legacy(self):
        self.both_ways("-O")
        for text, direction in [(f"put up at {self.there}/up", "bytes_in"), (f"get {self.there}/up", "bytes_out")]:
            entry = self.operation(text)
            self.assertEqual(entry["outcome"][direction], SIZE)
            self.assertEqual(self.digest(entry), sha256(self.data))

    def test_scp_legacy_of_a_folder(self):
        tree = self.here / "tree"
        (tree / "sub").mkdir(parents=True)
        (tree / "a").write_bytes(b"a" * 10)
        (tree / "sub" / "b c").write_bytes(b"")
        self.house.run("scp", "-F", self.house.config, "-O", "-r", "-p", tree, f"web1:{self.there}", check=0)
        self.assertEqual((self.there / "tree" / "a").read_bytes(), b"a" * 10)
        self.assertTrue((self.there / "tree" / "sub" / "b c").exists())
        # Whether the folder was there already, only the target knew.
        for path in ("a", "sub/b c"):
            entry = self.operation(f"put tree/{path} at {self.there}")
            self.assertEqual(set(entry["command"]["objects"]), {f"{self.there}/{path}", f"{self.there}/tree/{path}"})

    def test_sftp(self):
        batch = f"""put {self.here}/up {self.there}/one
rename {self.there}/one {self.there}/two
chmod 600 {self.there}/two
mkdir {self.there}/folder
ls {self.there}
get {self.there}/two {self.here}/two
-get {self.there}/nothing {self.here}/nothing
symlink two {self.there}/link
rm {self.there}/two
rmdir {self.there}/folder
"""
        done = self.house.run("sftp", "-F", self.house.config, "-b", "-", "web1", data=batch.encode(), check=0)
        self.assertIn(b"folder", done.stdout)
        self.assertEqual((self.here / "two").read_bytes(), self.data)
        there = self.there
        for text in [f"put {there}/one", f"rename {there}/one {there}/two", f"setstat {there}/two",
                     f"mkdir {there}/folder", f"list {there}/", f"get {there}/two", f"remove {there}/two",
                     f"rmdir {there}/folder"]:  # fmt: skip
            self.operation(text)
        self.assertEqual(self.digest(self.operation(f"get {there}/two")), sha256(self.data))
        self.operation(f"stat {there}/nothing", "error")

    def test_sftp_of_a_tree_with_links_and_patterns(self):
        tree = self.here / "tree"
        for number in range(300):
            folder = tree / f"d{number % 7}" / "deep er"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"f {number}").write_bytes(self.data[: number * 37])
        done = self.sftp(f"put -r {tree} {self.there}/\nget -r {self.there}/tree {self.here}/back\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        subprocess.run(["diff", "-r", tree, self.there / "tree"], check=True)
        subprocess.run(["diff", "-r", tree, self.here / "back"], check=True)
        self.sftp(f"mkdir {self.there}/some\nput {tree}/d1/*/f* {self.there}/some/\nln -s d1 {self.there}/tree/link\n"
                  f"ln {self.there}/up {self.there}/hard\ndf {self.there}\nls -l {self.there}/some/f?1*\n")  # fmt: skip
        self.assertEqual((self.there / "tree" / "link").readlink().name, "d1")
        self.assertEqual(len(list((self.there / "some").iterdir())), len(list((tree / "d1" / "deep er").iterdir())))
        self.operation(f"symlink d1 {self.there}/tree/link")

    def sftp(self, batch, *options):
        return self.house.run("sftp", "-F", self.house.config, *options, "-b", "-", "web1", data=batch.encode())

    def test_sftp_of_a_large_folder(self):
        folder = self.there / "large"
        folder.mkdir()
        for number in range(5000):
            (folder / f"{number:05}-{'x' * 60}").touch()
        done = self.sftp(f"ls -1 {folder}\n")
        self.assertEqual(len(done.stdout.splitlines()), 5001)

    def test_sftp_goes_on_where_it_stopped(self):
        (self.there / "half").write_bytes(self.data[:1_234_567])
        (self.here / "half").write_bytes(self.data)
        done = self.sftp(f"reput {self.here}/half {self.there}/half\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((self.there / "half").read_bytes(), self.data)
        outcome = self.operation(f"put {self.there}/half")["outcome"]
        self.assertEqual(outcome["bytes_in"], SIZE - 1_234_567)
        self.assertIn("1234567", outcome["message"])
        (self.here / "half").write_bytes(self.data[:777_777])
        self.sftp(f"reget {self.there}/half {self.here}/half\n")
        self.assertEqual((self.here / "half").read_bytes(), self.data)

    def test_a_handle_that_is_not_open_is_answered_by_the_gateway(self):
        path = self.there / "raw"
        with Raw(self.house) as raw:
            # What OpenSSH's server calls the first file that it opens.
            guessed = raw.string(bytes(4))
            raw.send(3, raw.string(str(path).encode()) + struct.pack(">II", READ | WRITE | CREATE, 0))
            kind, answer = raw.answer()
            self.assertEqual((kind, answer), (HANDLE, guessed))
            raw.send(6, guessed + struct.pack(">Q", 0) + raw.string(b"12345"))
            self.assertEqual(raw.status(), 0)
            raw.send(5, guessed + struct.pack(">QI", 0, 3))
            self.assertEqual(raw.answer(), (DATA, raw.string(b"123")))
            # Behind its closing it is open no more, although nobody has said so yet.
            raw.send(4, guessed)
            raw.send(6, guessed + struct.pack(">Q", 5) + raw.string(b"678"))
            self.assertEqual(sorted([raw.status(), raw.status()]), [0, FAILURE])
            for kind, rest in [(5, struct.pack(">QI", 0, 3)), (6, struct.pack(">Q", 0) + raw.string(b"x")), (4, b""), (8, b""),
                               (10, struct.pack(">I", 0)), (12, b"")]:  # fmt: skip
                for handle in (guessed, raw.string(b"\0\0\0\7"), raw.string(b"")):
                    raw.send(kind, handle + rest)
                    kind_of_answer, answer = raw.answer()
                    self.assertEqual((kind_of_answer, answer[:4]), (STATUS, struct.pack(">I", FAILURE)), kind)
                    # The target has not heard of it.
                    self.assertIn(b"trailgate", answer)
            raw.send(17, raw.string(str(path).encode()))
            self.assertEqual(raw.answer()[0], ATTRIBUTES)
        self.assertEqual(path.read_bytes(), b"12345")
        entry = self.operation(f"put {path}")
        self.assertEqual((entry["outcome"]["bytes_in"], entry["outcome"]["bytes_out"]), (5, 3))
        self.assertEqual(self.digest(entry), sha256(b"12345"))
        self.assertIn(sha256(b"123"), entry["outcome"]["message"])

    def test_a_handle_that_is_guessed_before_its_file_is_open(self):
        path = self.there / "guessed"
        with Raw(self.house) as raw:
            handle = raw.string(bytes(4))
            opening = raw.packet(3, raw.string(str(path).encode()) + struct.pack(">II", WRITE | CREATE, 0))
            raw.write(opening + raw.packet(6, handle + struct.pack(">Q", 0) + raw.string(b"hello")) + raw.packet(4, handle))
            answers = sorted(raw.answer()[0] for _ in range(3))
            self.assertEqual(answers, [STATUS, STATUS, HANDLE])
        self.assertEqual(path.read_bytes(), b"")

    def test_rsync_of_a_tree_with_deletions(self):
        tree, there = self.here / "tree", self.there / "tree"
        for number in range(2000):
            folder = tree / f"{number % 40}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}").write_bytes(self.data[: number * 11])
        rsync = ("rsync", "-a", "-z", "--delete", "-e", f"ssh -F {self.house.config}")
        self.house.run(*rsync, f"{tree}/", f"web1:{there}/", check=0)
        subprocess.run(["diff", "-r", tree, there], check=True)
        subprocess.run(["rm", "-r", tree / "7"], check=True)
        (tree / "8" / "new").write_bytes(self.data)
        self.house.run(*rsync, f"{tree}/", f"web1:{there}/", check=0)
        subprocess.run(["diff", "-r", tree, there], check=True)
        self.house.run(*rsync, f"web1:{there}/", f"{self.here}/back/", check=0)
        subprocess.run(["diff", "-r", tree, self.here / "back"], check=True)

    def test_what_scp_can_not_do_is_told_as_always(self):
        for options in ((), ("-O",)):
            done = self.house.run("scp", "-F", self.house.config, *options, f"web1:{self.there}/none", self.here / "none")
            self.assertEqual(done.returncode, 1)
            self.assertIn(b"No such file or directory", done.stderr)

    def test_rsync(self):
        rsync = ("rsync", "-a", "-e", f"ssh -F {self.house.config}")
        self.house.run(*rsync, f"{self.here}/", f"web1:{self.there}/", check=0)
        self.assertEqual((self.there / "up").read_bytes(), self.data)
        self.house.run(*rsync, f"web1:{self.there}/", f"{self.here}/back/", check=0)
        self.assertEqual((self.here / "back" / "up").read_bytes(), self.data)
        until(lambda: [e for e in self.house.entries("--kind", "command", "--grep", self.name)
                       if e["command"]["text"].startswith("rsync --server")])  # fmt: skip

    def test_git(self):
        def git(*arguments):
            return self.house.run("git", "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments, check=0)

        bare = self.there / "repository.git"
        self.house.ssh(f"git init -q --bare {bare}", check=0)
        work = self.here / "work"
        git("clone", "-q", f"ssh://web1{bare}", work)
        (work / "file").write_bytes(self.data[:100_000])
        git("-C", work, "add", "file")
        git("-C", work, "commit", "-qm", "one")
        git("-C", work, "push", "-q", "origin", "HEAD:main")
        git("clone", "-q", "-b", "main", f"ssh://web1{bare}", self.here / "again")
        (work / "file").write_bytes(self.data)
        git("-C", work, "commit", "-qam", "two")
        git("-C", work, "push", "-q", "origin", "HEAD:main")
        git("-C", self.here / "again", "pull", "-q")
        self.assertEqual((self.here / "again" / "file").read_bytes(), self.data)
        (self.here / "again" / "file").write_bytes(self.data[:100_000])
        self.assertEqual((self.here / "again" / "file").read_bytes(), self.data[:100_000])
        until(lambda: [e for e in self.house.entries("--kind", "command", "--grep", self.name)
                       if e["command"]["text"].startswith("git-receive-pack")])  # fmt: skip

    def test_a_gigabyte_both_ways(self):
        large = self.here / "large"
        with open(large, "wb") as file:
            for _ in range(1024):
                file.write(os.urandom(1 << 20))
        digest = subprocess.run(["sha256sum", large], capture_output=True, check=True).stdout.split()[0].decode()
        scp = ("scp", "-F", str(self.house.config))
        for command in [(*scp, large, f"web1:{self.there}/large"), (*scp, f"web1:{self.there}/large", self.here / "back")]:
            subprocess.run([str(part) for part in command], check=True, env=self.house.environment(), timeout=600)
        for place in (self.there / "large", self.here / "back"):
            found = subprocess.run(["sha256sum", place], capture_output=True, check=True).stdout.split()[0].decode()
            self.assertEqual(found, digest)
        for verb in ("put", "get"):
            self.assertEqual(self.digest(self.operation(f"{verb} {self.there}/large")), digest)
