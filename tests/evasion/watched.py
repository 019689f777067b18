"""A road to a server on which every statement is watched: what did it change, and what was it called?

Clients connect to `Road.endpoint`. Their bytes go to the server as they are; behind each statement the server itself is
asked, on a connection of our own, what there is now that was not there before (`Evidence`), and the classifier, in a
process of its own (`Judge`), is asked what class it gives. Statements run one at a time, whoever sends them, so that what
the server shows between two of them belongs to one.
"""

import contextlib
import json
import os
import socket
import struct
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2

from harness import Endpoint, HarnessError, raw

HARMLESS = ("session", "read")
READ_SIZE = 65536
# The server takes so long, at most, to read its settings anew, and says that it has no sooner.
RELOAD_S = 0.3

# Log records of the server's own housekeeping, which a mere read can set off: pruning of pages, bits of hints and
# visibility, snapshots for standbys, and the ends of transactions.
HOUSEKEEPING = {
    "Heap2/PRUNE", "Heap2/VACUUM", "Heap2/VISIBLE", "Heap2/FREEZE_PAGE", "Heap2/PRUNE_ON_ACCESS", "XLOG/FPI_FOR_HINT",
    "XLOG/FPI", "XLOG/CHECKPOINT_ONLINE", "XLOG/NOOP", "Standby/RUNNING_XACTS", "Standby/LOCK", "Transaction/COMMIT",
    "Transaction/ABORT", "Transaction/INVALIDATION", "Transaction/ASSIGNMENT", "LogicalMessage/MESSAGE",
}  # fmt: skip

# One look at the server: where its log is, which transaction numbers are spent, which sessions there are, and the traces
# of what is not data: settings read anew, statistics reset, replication.
LOOK = """
PREPARE look AS SELECT pg_current_wal_insert_lsn(), pg_snapshot_xmax(pg_current_snapshot())::text,
  (SELECT json_object_agg(pid, coalesce(backend_xid::text, '')) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()),
  ARRAY[pg_conf_load_time()::text,
    (SELECT max(stats_reset)::text FROM pg_stat_database), (SELECT stats_reset::text FROM pg_stat_bgwriter),
    (SELECT stats_reset::text FROM pg_stat_archiver), (SELECT stats_reset::text FROM pg_stat_wal),
    (SELECT max(stats_reset)::text FROM pg_stat_slru),
    (SELECT string_agg(slot_name || coalesce(restart_lsn::text, ''), ',') FROM pg_replication_slots),
    (SELECT string_agg(local_id::text || remote_lsn, ',') FROM pg_show_replication_origin_status())]
"""
TRACES = (
    "settings read anew", "statistics reset", "statistics reset", "statistics reset", "statistics reset", "statistics reset",
    "replication slots", "replication origins",
)  # fmt: skip

# What a session can be asked between its statements. In a role without rights on the sequence, `lastval` fails.
SETTINGS = (
    "search_path", "role", "session_authorization", "session_replication_role", "standard_conforming_strings",
    "client_encoding", "default_transaction_read_only", "lock_timeout", "statement_timeout", "row_security",
)  # fmt: skip
ASK = "SELECT " + ", ".join(f"pg_catalog.current_setting('{name}')" for name in SETTINGS)
ASK += ", pg_catalog.pg_my_temp_schema(); SELECT pg_catalog.lastval()"
# What the gateway asks behind code, which may have set anything (`classify::postgres::QUESTION`).
BEHIND_CODE = "SHOW search_path; SHOW role"


@dataclass
class Tried:
    """One text that a client sent."""

    source: str
    text: bytes
    judged: dict
    status: str  # ReadyForQuery's, behind it
    error: str | None
    evidence: list = field(default_factory=list)
    has_temporary: bool = False  # whether the session has temporary tables
    beyond: bool = False  # a case that shows what the text can't tell

    @property
    def facts(self):
        return [statement["facts"] for statement in self.judged["statements"]]

    @property
    def class_(self):
        order = ("session", "read", "transfer", "write", "define", "administer", "execute", "unknown")
        return max((facts["class"] for facts in self.facts), key=order.index, default="session")

    @property
    def called_harmless(self):
        return self.class_ in HARMLESS

    @property
    def shown(self):
        return " ".join(self.text.decode(errors="replace").split())[:160]


class Judge:
    """The classifier, asked line by line (`crates/rules/classify/examples/judge.rs`)."""

    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)

    def ask(self, session, text):
        self._send({"session": session, "hex": text.hex()})
        line = self.process.stdout.readline()
        if not line:
            raise HarnessError(f"the classifier ended with {self.process.wait()} at {text[:200]!r}")
        return json.loads(line)

    def tell(self, session, **what):
        self._send({"session": session, **what})

    def _send(self, line):
        self.process.stdin.write(json.dumps(line).encode() + b"\n")
        self.process.stdin.flush()


def leaves_doubt(facts):
    """Whether only the server knows what settings there are behind a statement: it is code, or sets one without a name."""
    unnamed = any(change["name"] == "*" and change["value"] is not None for change in facts["settings"])
    return unnamed or facts["class"] in ("execute", "unknown")


class Watch:
    """The server as its superuser sees it, between two statements of others."""

    def __init__(self, endpoint, database, places):
        self.connection = psycopg2.connect(endpoint.url(database), application_name="watch")
        self.connection.autocommit = True
        self.cursor = self.connection.cursor()
        self.cursor.execute("SET statement_timeout = 0")  # whatever the database says for others
        self.places = [Path(place) for place in places]
        self.cursor.execute("CREATE SCHEMA IF NOT EXISTS watch; CREATE EXTENSION IF NOT EXISTS pg_walinspect SCHEMA watch")
        self.cursor.execute(LOOK)
        # Its going would show that a statement can end sessions of others.
        self.bystander = psycopg2.connect(endpoint.url(database), application_name="bystander")
        self.pid = self.bystander.get_backend_pid()

    def close(self):
        with contextlib.suppress(psycopg2.Error):
            self.bystander.close()
        self.connection.close()

    def look(self):
        self.cursor.execute("EXECUTE look")
        lsn, xmax, sessions, traces = self.cursor.fetchone()
        return {"lsn": lsn, "xmax": xmax, "sessions": sessions or {}, "traces": traces, "files": self._files()}

    def _files(self):
        """Names, sizes and times of files that no table keeps."""
        found = {}
        for place in self.places:
            with contextlib.suppress(OSError), os.scandir(place) as entries:
                for entry in entries:
                    # What psql and pg_regress write of the test that runs, and a cache of each new session.
                    if ".out" in entry.name or entry.name == "pg_internal.init":
                        continue
                    with contextlib.suppress(OSError):
                        about = entry.stat(follow_symlinks=False)
                        if entry.is_file(follow_symlinks=False):
                            found[entry.path] = (about.st_size, about.st_mtime_ns)
        return found

    def records(self, since):
        """Kinds of records in the log since then. What is not on disk yet gets there first."""
        self.cursor.execute("SELECT pg_current_wal_insert_lsn()")
        (until,) = self.cursor.fetchone()
        self.cursor.execute("SELECT pg_logical_emit_message(true, 'watch', '')")
        self.cursor.execute(
            "SELECT resource_manager || '/' || split_part(record_type, ' ', 1), count(*)"
            " FROM watch.pg_get_wal_records_info(%s, %s) GROUP BY 1 ORDER BY 1", (since, until),
        )  # fmt: skip
        return dict(self.cursor.fetchall())

    def changed(self, before, after, own):
        """What is other now, in words; cheap, and true of any statement. `own`: the pid of the session that ran it."""
        evidence = []
        if before["lsn"] != after["lsn"]:
            evidence.append("log")
        had, has = before["sessions"].get(str(own)), after["sessions"].get(str(own))
        # One that it had before, and that is spent now, was taken by an earlier statement of the transaction.
        if has != had and has or (before["xmax"] != after["xmax"] and not had):
            evidence.append("transaction number")
        if str(self.pid) not in after["sessions"]:
            evidence.append("ended another session")
            self.bystander = psycopg2.connect(self.connection.dsn, password=self.connection.info.password)
            self.pid = self.bystander.get_backend_pid()
        evidence += {
            name for name, one, other in zip(TRACES, before["traces"], after["traces"], strict=True) if one != other
        }
        files = {Path(path).name for path, about in after["files"].items() if before["files"].get(path) != about}
        files |= {Path(path).name for path in before["files"] if path not in after["files"]}
        if files:
            evidence.append("files: " + ", ".join(sorted(files)[:3]))
        return evidence


class Road:
    """Listens for clients, one database. Use as a context manager; `source` names what comes now."""

    def __init__(self, server, database, judge_program, places=(), follow_settings=True):
        self.server, self.database = server, database
        self.judge = Judge(judge_program)
        self.watch = Watch(server.endpoint(), database, places)
        self.follow_settings = follow_settings
        self.lock = threading.Lock()
        self.tried = []
        self.source = ""
        self.failures = []
        self.sessions = 0
        self.closed = False
        self.listener = socket.create_server(("127.0.0.1", 0))
        direct = server.endpoint()
        self.endpoint = Endpoint("127.0.0.1", self.listener.getsockname()[1], direct.user, direct.password)
        self.last = self.watch.look()

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()
        with self.lock:
            self.closed = True
            self.watch.close()
            self.judge.close()

    def refresh(self):
        """Others have changed the server; what comes next is compared with what there is now."""
        with self.lock:
            self.last = self.watch.look()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.sessions += 1
            threading.Thread(target=self._serve, args=(client, self.sessions), daemon=True).start()

    def _serve(self, client, number):
        with client, socket.create_connection((self.server.endpoint().host, self.server.port)) as target:
            try:
                Session(self, number, Side(client), Side(target)).run()
            except (OSError, EOFError):
                pass  # one of the two went away
            except Exception as error:
                self.failures.append(repr(error))
                raise
            finally:
                self._let_go(target)

    def _let_go(self, target):
        """Ends a session and waits until it has cleared up behind it: what that changes belongs to no statement."""
        with self.lock, contextlib.suppress(OSError):
            if self.closed:
                return
            target.settimeout(30)
            target.sendall(raw.TERMINATE)
            while target.recv(READ_SIZE):
                pass
            self.last = self.watch.look()


class Session:
    """One connection on the road."""

    def __init__(self, road, number, client, target):
        self.road, self.number, self.client, self.target = road, number, client, target
        self.pid = 0
        self.status = "I"
        self.asked = None
        self.in_doubt = False

    def run(self):
        if not self._login():
            return
        self.asked = self._ask()
        while True:
            tag, body = self.client.receive()
            if tag == b"X":
                return
            if tag == b"Q":
                with self.road.lock:
                    self._statement(tag, body)
                continue
            # psql describes statements for \gdesc, which run nothing, and calls functions of large objects by OID, past
            # SQL: those the gateway knows by their OIDs.
            with self.road.lock:
                self.target.send(raw.message(tag, body))
                if tag in (b"S", b"F"):
                    self._relay_until_ready([])
                    self.road.last = self.road.watch.look()

    def _login(self):
        while True:
            (length,) = struct.unpack("!I", self.client.exactly(4))
            body = self.client.exactly(length - 4)
            (code,) = struct.unpack("!I", body[:4])
            if code in (raw.SSL_REQUEST, raw.GSSENC_REQUEST):
                self.client.send(b"N")
                continue
            self.target.send(struct.pack("!I", length) + body)
            if code == raw.CANCEL_REQUEST:
                return False
            break
        parameters = {}
        while True:
            tag, body = self.target.receive()
            self.client.send(raw.message(tag, body))
            if tag == b"S":
                name, value, _ = body.split(b"\0")
                parameters[name.decode()] = value.decode(errors="replace")
            elif tag == b"K":
                (self.pid,) = struct.unpack("!I", body[:4])
            elif tag == b"R" and struct.unpack("!I", body[:4])[0] in (3, 5, 10, 11):
                tag, body = self.client.receive()
                self.target.send(raw.message(tag, body))
            elif tag == b"E":
                return False
            elif tag == b"Z":
                self.status = body.decode()
                break
        self.road.judge.tell(self.number, parameters=parameters, starts=True)
        return True

    def _statement(self, tag, body):
        road = self.road
        text = body.removesuffix(b"\0")
        tried = Tried(road.source, text, road.judge.ask(self.number, text), "", None)
        before = road.last
        inside = self.status != "I"
        self.target.send(raw.message(tag, body))
        answers = []
        try:
            tried.error = self._relay_until_ready(answers)
        finally:
            tried.status = self.status
            if any(use["name"] == "pg_reload_conf" for facts in tried.facts for use in facts["functions"]):
                time.sleep(RELOAD_S)
            road.last = road.watch.look()
            tried.evidence = road.watch.changed(before, road.last, self.pid)
            road.tried.append(tried)
        completed = sum(answer in (b"C", b"I") for answer, _ in answers)
        reported = dict(value for answer, value in answers if answer == b"S")
        road.judge.tell(
            self.number, ran=completed, failed=tried.error is not None, transaction=self.status, parameters=reported
        )
        self.in_doubt |= any(leaves_doubt(facts) for facts in tried.facts)
        if self.in_doubt and self.status != "E":
            self._tell_what_code_left()
        if tried.called_harmless:
            self._examine(tried, before, inside)
        if road.follow_settings and self.status == "I":
            self._compare(tried)

    def _examine(self, tried, before, inside):
        """Looks closer at what a statement changed that was called harmless."""
        if "log" in tried.evidence:
            records = self.road.watch.records(before["lsn"])
            self.road.last = self.road.watch.look()
            kinds = sorted(kind for kind in records if kind not in HOUSEKEEPING)
            tried.evidence.remove("log")
            tried.evidence += [f"log: {kind} × {records[kind]}" for kind in kinds]

    def _compare(self, tried):
        """Whether the session's settings are those that were followed."""
        now = self._ask()
        if now[0] is None:
            return  # a timeout that the session has set hit our own question
        if now[-1] not in (None, self.asked[-1]):
            tried.evidence.append("drew from a sequence")
        settings = {change["name"] for facts in tried.facts for change in facts["settings"]}
        for name, old, new in zip(SETTINGS, self.asked, now, strict=False):
            expected = settings & {name, "*"} or ended(tried)
            if old not in (None, new) and not (tried.called_harmless and expected):
                tried.evidence.append(f"{name}: {old} became {new}")
        tried.has_temporary = now[-2] not in (None, "0")
        self.asked = now

    def _ask(self):
        """Values of `SETTINGS` and the last number that the session drew from a sequence."""
        values = self._values(ASK)
        return values + [None] * (len(SETTINGS) + 2 - len(values))

    def _tell_what_code_left(self):
        answers = self._values(BEHIND_CODE)
        if len(answers) == 2:
            self.road.judge.tell(self.number, told=dict(zip(("search_path", "role"), answers, strict=True)))
            # What a transaction has may end with it.
            self.in_doubt = self.status != "I"

    def _values(self, question):
        """What the server answers. The client does not see it."""
        self.target.send(raw.query(question))
        values = []
        while True:
            tag, body = self.target.receive()
            if tag == b"D":
                at = 2
                for _ in range(struct.unpack("!H", body[:2])[0]):
                    (length,) = struct.unpack("!i", body[at : at + 4])
                    values.append(body[at + 4 : at + 4 + max(length, 0)].decode(errors="replace"))
                    at += 4 + max(length, 0)
            elif tag == b"Z":
                return values

    def _relay_until_ready(self, answers):
        """Passes on what the server answers; returns the SQLSTATE of an error."""
        error = None
        out = bytearray()
        while True:
            tag, body = self.target.receive()
            out += raw.message(tag, body)
            if tag == b"E":
                error = next((part[1:].decode() for part in body.split(b"\0") if part[:1] == b"C"), "XX000")
            elif tag == b"S":
                name, value, _ = body.split(b"\0")
                answers.append((tag, (name.decode(), value.decode(errors="replace"))))
                continue
            elif tag == b"Z":
                self.status = body.decode()
            if tag in (b"C", b"I"):
                answers.append((tag, body))
            if tag in (b"G", b"W", b"Z") or len(out) > READ_SIZE:
                self.client.send(out)
                out.clear()
            if tag == b"G":
                self._copy_in()
            elif tag == b"Z":
                return error

    def _copy_in(self):
        while True:
            tag, body = self.client.receive()
            self.target.send(raw.message(tag, body))
            if tag in (b"c", b"f"):
                return


def ended(tried):
    """Whether the text ends a transaction: what then changes, earlier statements have asked for."""
    return any(facts["transaction"] in ("commit", "rollback", "savepoint") for facts in tried.facts)


class Side:
    """A connection that is read message by message."""

    def __init__(self, connection):
        self.connection = connection
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()

    def exactly(self, count):
        while len(self.buffer) < count:
            part = self.connection.recv(READ_SIZE)
            if not part:
                raise EOFError
            self.buffer += part
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def receive(self):
        """The next message, as tag and body."""
        tag, length = struct.unpack("!cI", self.exactly(5))
        return tag, self.exactly(length - 4)

    def send(self, data):
        self.connection.sendall(data)
