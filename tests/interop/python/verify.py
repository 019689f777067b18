#!/usr/bin/env python3
"""Verifies a trail, from docs/ledger-format.md alone: shares no code with Trailgate.

    verify.py DATA [VKEY]

Needs Python 3.11 and the package `cryptography` (Ed25519, AES-GCM); `zstd` where bundles are compressed. Opens payloads if
DATA/node.key is there. Prints what it counted as JSON; says what is wrong on standard error and exits with 1.
"""

import base64
import hashlib
import hmac
import json
import re
import subprocess
import sys
from pathlib import Path

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KINDS = {
    1: "session.start", 2: "session.end", 3: "command.started", 4: "command", 5: "review.requested",
    6: "review.decided", 7: "auth.failed", 8: "control.changed", 9: "trail.read", 10: "erasure", 11: "gap",
    12: "escape", 13: "capture", 14: "heartbeat",
}  # fmt: skip
SLOT, INDEX = 512, 44
NONE = 2**64 - 1


class Wrong(Exception):
    """Something does not hold; the message says what and where."""


def check(holds, problem):
    if not holds:
        raise Wrong(problem)


# --- "Hashing", "Tiles", "Entry bundles" -----------------------------------------------------------------------------


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def leaf_hash(entry):
    return sha256(b"\0", entry)


def node_hash(left, right):
    return sha256(b"\1", left, right)


def tree_hash(hashes):
    """MTH over leaf hashes or over roots of equal complete trees."""
    if not hashes:
        return sha256(b"")
    if len(hashes) == 1:
        return hashes[0]
    k = 1 << ((len(hashes) - 1).bit_length() - 1)
    return node_hash(tree_hash(hashes[:k]), tree_hash(hashes[k:]))


def tile_name(number):
    digits = f"{number:03}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    return "/".join(["x" + group for group in groups[:-1]] + groups[-1:])


class Ledger:
    def __init__(self, directory, vkey):
        self.directory, self.vkey = directory, vkey.strip()
        self.name, key_id, key = vkey.strip().split("+", 2)
        key = base64.b64decode(key, validate=True)
        check(key[0] == 1, "the vkey is not Ed25519")
        self.key_id = sha256(self.name.encode(), b"\n", key)[:4]
        check(self.key_id.hex() == key_id, "the vkey's key id is not that of its key")
        self.public = Ed25519PublicKey.from_public_bytes(key[1:])

    def signed(self, text, signature, where):
        try:
            self.public.verify(signature, text)
        except InvalidSignature:
            raise Wrong(f"the signature of {where} does not verify") from None

    def text(self, size, root):
        return f"{self.name}\n{size}\n{base64.b64encode(root).decode()}\n".encode()

    def checkpoint(self):
        note = (self.directory / "checkpoint").read_bytes()
        text, _, signatures = note.rpartition(b"\n\n")
        text += b"\n"
        origin, size, root, rest = text.decode().split("\n", 3)
        check(rest == "" and origin == self.name, "checkpoint: it has another origin, or extension lines")
        check(size == str(int(size)), "checkpoint: its size is not written as it should be")
        root = base64.b64decode(root, validate=True)
        for line in signatures.decode().splitlines():
            dash, name, signature = line.split(" ")
            signature = base64.b64decode(signature, validate=True)
            if dash == "\u2014" and name == self.name and signature[:4] == self.key_id:
                self.signed(text, signature[4:], "checkpoint")
                break
        else:
            raise Wrong("checkpoint: the log has not signed it")
        return int(size), root

    def file(self, *parts):
        return self.directory.joinpath("tile", *parts)

    def tile(self, level, number, width):
        """A tile of that width; a narrower one is the beginning of any wider one."""
        whole = self.file(str(level), tile_name(number))
        found = whole if whole.exists() else self.file(str(level), tile_name(number) + ".p", str(width))
        data = found.read_bytes()
        check(len(data) % 32 == 0 and len(data) >= 32 * width, f"{found}: it is not {width} hashes")
        return [data[at : at + 32] for at in range(0, 32 * width, 32)], found

    def bundle(self, number, width):
        whole, packed = self.file("entries", tile_name(number)), self.file("entries", tile_name(number) + ".zst")
        if whole.exists():
            found, data = whole, whole.read_bytes()
        elif packed.exists():
            found, file = packed, packed.read_bytes()
            trailer = file[-40:]
            check(trailer[:8].hex() == "502a4d1820000000", f"{packed}: its last frame is not the hash")
            check(trailer[8:] == sha256(file[:-40]), f"{packed}: it was changed")
            data = subprocess.run(["zstd", "-dcq", packed], stdout=subprocess.PIPE, check=True).stdout
        else:
            found = self.file("entries", tile_name(number) + ".p", str(width))
            data = found.read_bytes()
        entries, at = [], 0
        while at < len(data) and len(entries) < width:
            length = int.from_bytes(data[at : at + 2], "big")
            check(at + 2 + length <= len(data), f"{found}: entry {len(entries)} is cut short")
            entries.append(data[at + 2 : at + 2 + length])
            at += 2 + length
        check(len(entries) == width, f"{found}: it has {len(entries)} entries instead of {width}")
        return entries, found

    def verify(self):
        """Every entry, and how many checkpoints there were."""
        size, root = self.checkpoint()
        entries, hashes = [], []
        for number in range(-(-size // 256)):
            width = min(256, size - number * 256)
            found, file = self.bundle(number, width)
            of_entries = [leaf_hash(entry) for entry in found]
            of_tile, tile = self.tile(0, number, width)
            for at, (ours, theirs) in enumerate(zip(of_entries, of_tile, strict=True)):
                check(ours == theirs, f"entry {number * 256 + at}: {file} and {tile} disagree")
            entries += found
            hashes += of_tile
        level, below = 0, hashes
        while len(below) >= 256:
            level += 1
            above = [tree_hash(below[at : at + 256]) for at in range(0, len(below) // 256 * 256, 256)]
            for number in range(-(-len(above) // 256)):
                width = min(256, len(above) - number * 256)
                found, tile = self.tile(level, number, width)
                check(found == above[number * 256 : number * 256 + width], f"{tile}: it is not made of what is below")
            below = above
        check(tree_hash(hashes) == root, "the entries do not lead to the checkpoint's root")
        return entries, self.history(hashes, size, root)

    def history(self, hashes, size, root):
        data = (self.directory / "checkpoints").read_bytes()
        head, vkey, data = data.split(b"\n", 2)
        check(head == b"trailgate ledger history v1", "checkpoints: it is of another format")
        check(vkey.decode() == self.vkey, "checkpoints: it is another log's")
        check(len(data) % 104 == 0, "checkpoints: its last record is torn")
        before, last = -1, None
        # Roots of complete subtrees, so that the root of each prefix costs a few hashes.
        levels = [hashes]
        while len(levels[-1]) > 1:
            below = levels[-1]
            levels.append([node_hash(below[at], below[at + 1]) for at in range(0, len(below) // 2 * 2, 2)])
        for at in range(0, len(data), 104):
            record = data[at : at + 104]
            here, its_root = int.from_bytes(record[:8], "big"), record[8:40]
            self.signed(self.text(here, its_root), record[40:], f"checkpoints, byte {at}")
            check(here > before, f"checkpoints, byte {at}: the size does not rise")
            if here <= size:
                check(prefix_root(levels, here) == its_root, f"checkpoints, byte {at}: another history")
                last = (here, its_root)
            before = here
        check(last == (size, root), "the checkpoint is not the last of the history")
        return len(data) // 104


def prefix_root(levels, size):
    if size == 0:
        return sha256(b"")
    root, at = None, size
    # The complete subtrees of a prefix, from the smallest on the right to the largest on the left.
    for level in range(size.bit_length()):
        if size >> level & 1:
            at -= 1 << level
            subtree = levels[level][at >> level]
            root = subtree if root is None else node_hash(subtree, root)
    return root


# --- "Leaf" ----------------------------------------------------------------------------------------------------------


def cbor(data, at, where):
    """One item in deterministic encoding, and where it ends."""
    head = data[at]
    major, info = head >> 5, head & 31
    check(info < 28, f"{where}: an item of unknown length")
    length = {24: 1, 25: 2, 26: 4, 27: 8}.get(info, 0)
    value = int.from_bytes(data[at + 1 : at + 1 + length], "big") if length else info
    least = {0: 0, 1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}[length]
    check(major == 7 or value >= least, f"{where}: a number is not in its shortest form")
    at += 1 + length
    if major == 0:
        return value, at
    if major == 1:
        return -1 - value, at
    if major in (2, 3):
        check(at + value <= len(data), f"{where}: it is cut short")
        item = data[at : at + value]
        return (item if major == 2 else item.decode()), at + value
    if major == 4:
        items = []
        for _ in range(value):
            item, at = cbor(data, at, where)
            items.append(item)
        return items, at
    if major == 5:
        items, before = {}, -1
        for _ in range(value):
            key, at = cbor(data, at, where)
            check(isinstance(key, int) and key > before, f"{where}: keys are not in rising order")
            items[key], at = cbor(data, at, where)
            before = key
        return items, at
    check(major == 7 and info in (20, 21), f"{where}: a value that no leaf has")
    return info == 21, at


def leaf(entry, where):
    fields, end = cbor(entry, 0, where)
    check(isinstance(fields, dict) and end == len(entry), f"{where}: it is not a leaf")
    check(fields.get(0) == 1 and fields.get(1) in KINDS and 37 in fields, f"{where}: version, kind or key slot")
    for key, value in fields.items():
        # The only text is a SQLSTATE: no free text.
        is_code = key == 13 and isinstance(value, str) and re.fullmatch("[0-9A-Z]{5}", value)
        check(not isinstance(value, str) or is_code, f"{where}: key {key}")
    return fields


# --- "Payloads", "Index", "Key slots" --------------------------------------------------------------------------------

CRC_TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    CRC_TABLE.append(byte)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def little(data):
    return int.from_bytes(data, "little")


def leb128(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at


def lz4_block(data, length):
    out, at = bytearray(), 0
    while at < len(data):
        token, at = data[at], at + 1
        literals = token >> 4
        if literals == 15:
            while True:
                more, at = data[at], at + 1
                literals += more
                if more != 255:
                    break
        out += data[at : at + literals]
        at += literals
        if at >= len(data):
            break
        offset, at = little(data[at : at + 2]), at + 2
        match = token & 15
        if match == 15:
            while True:
                more, at = data[at], at + 1
                match += more
                if more != 255:
                    break
        for _ in range(match + 4):
            out.append(out[-offset])
    check(len(out) == length, "a compressed chunk has another length than it says")
    return bytes(out)


class Vault:
    def __init__(self, data, origin):
        self.directory, self.origin = data / "vault", origin.encode()
        self.index = (self.directory / "index").read_bytes()
        self.slots = (self.directory / "keys").read_bytes()
        self.payloads, self.keys = {}, {}
        self.wrapping = self.wrapping_id = None
        if (data / "node.key").exists():
            node = base64.b64decode((data / "node.key").read_text().strip(), validate=True)
            mac = lambda key, text: hmac.digest(key, text, "sha256")
            derived = mac(mac(node, b"trailgate node key: trail vault"), b"trailgate/vault/key-wrap/v1")
            self.wrapping = AESGCM(derived)
            self.wrapping_id = "node:" + mac(derived, b"trailgate/vault/key-id/v1")[:8].hex()

    def record(self, leaf_index):
        record = self.index[leaf_index * INDEX : (leaf_index + 1) * INDEX]
        check(len(record) == INDEX and little(record[40:]) == crc32c(record[:40]), f"index record {leaf_index}")
        names = ["file", "offset", "length", "slot"]
        fields = {name: little(record[at * 4 : at * 4 + 4]) for at, name in enumerate(names)}
        fields |= {"seq": little(record[16:24]), "ended_at": little(record[24:32])}
        return fields | {"kind": little(record[32:36]), "crc": little(record[36:40])}

    def slot(self, number):
        slot = self.slots[number * SLOT : (number + 1) * SLOT]
        check(len(slot) == SLOT and little(slot[508:]) == crc32c(slot[:508]), f"key slot {number}")
        number_or_none = lambda data: None if little(data) == NONE else little(data)
        state, class_length, id_length, _ = slot[32:36]
        check(state in (1, 2), f"key slot {number}: its state")
        return {
            "session": slot[:16], "digest": sha256(slot[:508]), "start": number_or_none(slot[16:24]), "erasure": number_or_none(slot[24:32]),
            "erased": state == 2, "class": slot[40 : 40 + class_length], "by": slot[72 : 72 + id_length].decode(),
            "wrapped": slot[136 : 136 + little(slot[36:38])],
        }  # fmt: skip

    def sealed(self, record):
        name = f"payload-{record['file']:08}"
        if name not in self.payloads:
            self.payloads[name] = (self.directory / name).read_bytes()
        sealed = self.payloads[name][record["offset"] : record["offset"] + record["length"]]
        check(len(sealed) == record["length"], f"{name}: byte {record['offset']}: the payload is missing")
        check(crc32c(sealed) == record["crc"], f"{name}: byte {record['offset']}: the payload was changed")
        return sealed

    def key(self, number, slot):
        if number not in self.keys:
            origin = len(self.origin).to_bytes(2, "little") + self.origin
            context = b"trailgate/key-slot/v2\0" + origin + slot["session"] + slot["class"]
            nonce, sealed = slot["wrapped"][:12], slot["wrapped"][12:]
            self.keys[number] = AESGCM(self.wrapping.decrypt(nonce, sealed, context))
        return self.keys[number]

    def open(self, key, fields, sealed):
        plain, at, chunk = b"", 0, 0
        while True:
            chunk += 1
            length, plain_length = little(sealed[at : at + 4]), little(sealed[at + 4 : at + 8])
            flags, nonce = sealed[at + 8], sealed[at + 9 : at + 21]
            aad = b"trailgate/sealed/v1\0" + fields[2] + fields[3].to_bytes(8, "little") + bytes([fields[1]])
            aad += chunk.to_bytes(4, "little") + bytes([flags]) + plain_length.to_bytes(4, "little")
            body = key.decrypt(nonce, sealed[at + 21 : at + 21 + length], aad)
            plain += lz4_block(body, plain_length) if flags & 1 else body
            at += 21 + length
            if flags & 2:
                check(at == len(sealed), "something stands behind a payload's last chunk")
                return plain

    def commitments(self, fields, plain):
        """The payload's fields, every commitment checked."""
        found, at = {}, 0
        while at < len(plain):
            field, r = plain[at], plain[at + 1 : at + 33]
            length, at = leb128(plain, at + 33)
            found[field] = plain[at : at + length]
            at += length
            message = b"trailgate/payload/v1\0" + len(self.origin).to_bytes(2, "little") + self.origin
            message += fields[2] + fields[3].to_bytes(8, "little") + bytes([fields[1], field]) + found[field]
            expected = fields.get(19, {}).get(field)
            check(expected == hmac.digest(r, message, "sha256"), f"field {field} is not what the leaf commits to")
        check(list(found) == list(fields.get(19, {})), "the payload has other fields than the leaf commits to")
        return found


# --- "State of the sealer" -------------------------------------------------------------------------------------------


class Postcard:
    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self):
        value, self.at = leb128(self.data, self.at)
        return value

    def raw(self, length):
        self.at += length
        return self.data[self.at - length : self.at]

    def bytes(self):
        return self.raw(self.number())

    def option(self, read):
        return read() if self.raw(1)[0] else None

    def list(self, read):
        return [read() for _ in range(self.number())]


def read_state(file):
    data = file.read_bytes()
    if data[:8] != b"tgseal\0\2" or little(data[8:12]) != crc32c(data[12:]):
        return None
    card = Postcard(data[12:])
    state = {"entries": card.number(), "next": card.number()}
    state["ends"] = [card.number() for _ in range(4)]

    def session():
        open_session = {"session": card.raw(16), "start": card.option(card.number)}
        card.bytes(), card.list(lambda: (card.number(), card.bytes()))
        card.list(lambda: (card.bytes(), card.number()))
        open_session["last"] = card.number()
        intent = lambda: (card.number(), card.number(), card.option(card.bytes), card.raw(1))
        open_session["pending"] = {intent[0] for intent in card.list(intent)}
        return open_session

    state["sessions"] = {found["session"]: found for found in card.list(session)}
    erasure = lambda: (
        card.number(), card.number(), card.raw(16), card.option(card.number), card.bytes(), card.bytes()
    )  # fmt: skip
    state["erasures"] = {found[0] for found in card.list(erasure)}
    capture = lambda: (
        card.raw(16), card.number(), card.number(), card.number(),
        card.option(lambda: (card.number(), card.number())), card.option(card.number),
    )  # fmt: skip
    state["captures"] = card.list(capture)
    state["holds"] = set(card.list(lambda: card.raw(16)))
    check(card.at == len(card.data), f"{file}: something stands behind the state")
    return state


# --- "What a verifier of the trail checks" ---------------------------------------------------------------------------


class Session:
    def __init__(self):
        self.numbers, self.starts, self.ends = [], 0, []
        self.parts, self.captured = {}, {}

    def add(self, index, fields):
        kind, seq = fields[1], fields[3]
        if kind == 13:
            self.parts.setdefault((seq, fields[31]), []).append((fields[32], fields[33], fields.get(34), index))
            return
        for field, captured in fields.get(30, {}).items():
            self.captured[(1 if kind == 2 else seq, field)] = captured
        if kind == 3:
            return
        self.numbers.append(seq)
        self.starts += kind == 1
        if kind == 2:
            self.ends.append((seq, fields[27]))

    def verify(self, name, under_way):
        check(self.starts == 1, f"session {name}: it has {self.starts} beginnings")
        numbers = sorted(self.numbers)
        check(len(numbers) == len(set(numbers)), f"session {name}: a number stands twice")
        missing = set(range(1, max(numbers) + 1)) - set(numbers) - under_way
        check(not missing, f"session {name}: the numbers {sorted(missing)[:5]} are missing")
        for seq, count in self.ends:
            check(seq == count == max(numbers), f"session {name}: its end counts {count} and has the number {seq}")
        for (seq, field), parts in self.parts.items():
            parts.sort()
            previous = None
            for number, (part, _, before, index) in enumerate(parts, 1):
                check((part, before) == (number, previous), f"session {name}: part {part} of field {field} of {seq}")
                previous = index
            claim = self.captured.get((seq, field))
            if claim is None:
                check(seq in under_way or seq == 1 and not self.ends, f"session {name}: parts that nothing names")
            else:
                total = sum(part[1] for part in parts)
                check(claim == [total, len(parts), previous], f"session {name}: field {field} of {seq}: {claim}")
        for key, claim in self.captured.items():
            check(len(claim) == 1 or key in self.parts, f"session {name}: the parts of {key} are missing")


def verify(data, vkey):
    ledger = Ledger(data / "ledger", vkey)
    entries, checkpoints = ledger.verify()
    states = [read_state(file) for file in sorted((data / "vault").glob("state-?"))]
    state = next((found for found in states if found and found["entries"] == len(entries)), None)
    check(state or not entries, "no state of the sealer belongs to the checkpoint")
    vault = Vault(data, ledger.name)
    slots = [vault.slot(number) for number in range(state["ends"][3])]
    counts = {"entries": len(entries), "checkpoints": checkpoints}
    counts |= {"verified": 0, "erased": 0, "sealed": 0, "bare": 0}
    sessions, erased_by, holds, begun = {}, {}, {}, {}
    for index, entry in enumerate(entries):
        where = f"leaf {index}"
        fields = leaf(entry, where)
        sessions.setdefault(fields[2], Session()).add(index, fields)
        for slot in fields.get(35, []):
            erased_by[slot] = index
        if 36 in fields:
            holds.setdefault(fields[29], []).append((index, fields[36]))
        if 38 in fields:
            begun[fields[37]] = fields[38]
        record = vault.record(index)
        same = (record["kind"], record["seq"], record["ended_at"]) == (fields[1], fields[3], fields[4] + fields.get(5, 0))
        check(same and record["slot"] == fields[37], f"{where}: its index record is another's")
        slot = slots[record["slot"]]
        check(slot["session"] == fields[2], f"{where}: its key is another session's")
        check(fields[1] != 1 or slot["start"] == index, f"{where}: its key slot names another first entry")
        if not fields.get(19):
            check(record["length"] == 0, f"{where}: a payload that it does not commit to")
            counts["bare"] += 1
            continue
        sealed = vault.sealed(record)
        if slot["erased"]:
            counts["erased"] += 1
        elif slot["by"] != vault.wrapping_id:
            counts["sealed"] += 1
        else:
            try:
                plain = vault.open(vault.key(record["slot"], slot), fields, sealed)
            except InvalidTag:
                raise Wrong(f"{where}: its payload does not open: it was changed or is another's") from None
            try:
                found = vault.commitments(fields, plain)
            except Wrong as wrong:
                raise Wrong(f"{where}: {wrong}") from None
            for field, captured in fields.get(30, {}).items():
                check(len(captured) > 1 or len(found.get(field, b"")) == captured[0], f"{where}: bytes of field {field}")
            check(fields[1] != 13 or list(map(len, found.values())) == [fields[33]], f"{where}: bytes of its part")
            counts["verified"] += 1
    for number, slot in enumerate(slots):
        check(slot["erased"] or slot["digest"] == begun.get(number), f"key slot {number}: it was changed")
        entry = erased_by.get(number)
        check(not slot["erased"] or slot["erasure"] == entry, f"key slot {number}: destroyed, and no erasure says so")
        check(slot["erased"] or entry is None or number in state["erasures"], f"key slot {number}: erased, yet there")
        before = [hold for index, hold in holds.get(slot["session"], []) if entry is not None and index < entry]
        check(not before or not before[-1], f"key slot {number}: erased under a hold")
    for name, session in sessions.items():
        open_session = state["sessions"].get(name)
        check(session.ends or open_session, f"session {name.hex()}: it has no end, and is not open")
        session.verify(name.hex(), open_session["pending"] if open_session else set())
    return counts | {"sessions": len(sessions), "holds": len(state["holds"])}


def main(arguments):
    data = Path(arguments[0])
    try:
        vkey = arguments[1] if len(arguments) > 1 else (data / "ledger" / "log.vkey").read_text()
        print(json.dumps(verify(data, vkey)))
    except (Wrong, OSError, ValueError, IndexError, KeyError) as wrong:
        print(f"{type(wrong).__name__}: {wrong}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
