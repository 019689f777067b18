"""What an asciicast of version 3 has to be (docs.asciinema.org/manual/asciicast/v3), checked without any code of the gateway's."""

import json
import re

HEADER = {
    "version": int, "term": dict, "timestamp": int, "idle_time_limit": (int, float), "command": str, "title": str,
    "env": dict, "tags": list,
}  # fmt: skip
TERM = {"cols": int, "rows": int, "type": str, "version": str, "theme": dict}


class NotACast(AssertionError):
    """A line that the format does not allow."""


def need(holds, line, why):
    if not holds:
        raise NotACast(f"{why}: {line[:200]!r}")


def read(text):
    """Header and events; raises unless every line is as the format says."""
    need(text.endswith("\n"), text[-50:], "the last line is not ended")
    lines = text[:-1].split("\n")
    need(not lines[0].startswith("#"), lines[0], "the first line is a comment")
    header = json.loads(lines[0])
    need(isinstance(header, dict) and header.get("version") == 3, lines[0], "no header of version 3")
    for known, found in ((HEADER, header), (TERM, header.get("term", {}))):
        for name, value in found.items():
            need(name in known, lines[0], f"{name} is not in the format")
            need(isinstance(value, known[name]) and not isinstance(value, bool), lines[0], f"{name} is of another type")
    need({"cols", "rows"} <= header["term"].keys(), lines[0], "no size")
    need(min(header["term"]["cols"], header["term"]["rows"]) > 0, lines[0], "a size of nothing")
    need(all(isinstance(value, str) for value in header.get("env", {}).values()), lines[0], "env is not all text")
    events = []
    for line in lines[1:]:
        if line.startswith("#"):
            continue
        event = json.loads(line)
        need(isinstance(event, list) and len(event) == 3, line, "no event")
        interval, code, data = event
        need(isinstance(interval, (int, float)) and not isinstance(interval, bool), line, "the interval is no number")
        need(interval >= 0, line, "the interval is negative")
        need(code in ("o", "i", "m", "r", "x") and isinstance(data, str), line, "not one of the format's events")
        need(code != "r" or re.fullmatch(r"[1-9]\d*x[1-9]\d*", data), line, "no size")
        need(code != "x" or re.fullmatch(r"\d+", data), line, "no exit status")
        events.append(event)
    exits = [index for index, event in enumerate(events) if event[1] == "x"]
    need(exits in ([], [len(events) - 1]), "", "an exit status that is not the last event")
    return header, events


def text(events, code="o"):
    return "".join(data for _, found, data in events if found == code)


def seconds(events):
    return sum(interval for interval, _, _ in events)
