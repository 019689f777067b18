"""Two runs of one suite, test by test, against the reviewed list of differences."""

import tomllib
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """What one test did: its outcome in the suite's own words, and what else must be the same on both roads (the
    test's output, a trace of the protocol; empty where the suite gives nothing that is stable)."""

    outcome: str
    evidence: str = ""


MISSING = Result("missing")


@dataclass(frozen=True)
class Difference:
    test: str
    direct: Result
    through: Result

    def line(self):
        if self.direct.outcome == self.through.outcome:
            return f"{self.test}: {self.direct.outcome} on both, with different output"
        return f"{self.test}: {self.direct.outcome} direct, {self.through.outcome} through"


def compare(direct, through):
    """Every test whose result is not the same on both roads, by name."""
    pairs = ((test, direct.get(test, MISSING), through.get(test, MISSING)) for test in direct.keys() | through.keys())
    return sorted((Difference(*pair) for pair in pairs if pair[1] != pair[2]), key=lambda found: found.test)


class ListError(Exception):
    """The list of differences does not say what it must."""


class Sometimes(str):
    """The reason of a difference that timing decides: it may be there or not."""


def read_list(path):
    """The reviewed list: {suite: {test: reason}}. The reason is a `Sometimes` where the entry says `sometimes = true`."""
    with open(path, "rb") as file:
        entries = tomllib.load(file).get("difference", [])
    listed = {}
    for entry in entries:
        sometimes = entry.pop("sometimes", False)
        if set(entry) != {"suite", "test", "reason"} or not isinstance(sometimes, bool) or not all(str(value).strip() for value in entry.values()):
            raise ListError(f"{path}: an entry has suite, test and reason, none empty, and perhaps `sometimes`: {entry}")
        suite = listed.setdefault(entry["suite"], {})
        if entry["test"] in suite:
            raise ListError(f"{path}: {entry['suite']} {entry['test']} is listed twice")
        suite[entry["test"]] = Sometimes(entry["reason"]) if sometimes else entry["reason"]
    return listed


@dataclass(frozen=True)
class Verdict:
    """A suite's two runs, judged. `unlisted` and `stale` (listed, but the same on both roads) are failures."""

    tests: int
    direct: Counter
    through: Counter
    listed: list
    unlisted: list
    stale: list

    @property
    def failed(self):
        return len(self.unlisted) + len(self.stale)

    @property
    def passed(self):
        return self.tests - len(self.unlisted) - len(set(self.stale))


def judge(direct, through, reasons):
    """Compares two runs against the list's entries for this suite ({test: reason})."""
    found = compare(direct, through)
    differing = {difference.test for difference in found}
    # What timing decides need not differ, but it has to be a test that runs.
    differing |= {test for test, reason in reasons.items() if isinstance(reason, Sometimes) and test in direct}
    return Verdict(
        tests=len(direct.keys() | through.keys() | set(reasons)),
        direct=Counter(result.outcome for result in direct.values()),
        through=Counter(result.outcome for result in through.values()),
        listed=[difference for difference in found if difference.test in reasons],
        unlisted=[difference for difference in found if difference.test not in reasons],
        stale=sorted(set(reasons) - differing),
    )
