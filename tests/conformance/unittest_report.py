"""Runs a package's unittest suite and writes {test: [outcome, why skipped]} as JSON.

Run in the package's directory as: unittest_report.py PACKAGE REPORT
"""

import importlib
import json
import os
import sys
import unittest


class Recorder(unittest.TextTestResult):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.outcomes = {}

    def record(self, test, outcome, evidence=""):
        self.outcomes[test.id()] = [outcome, evidence]

    def addSuccess(self, test):
        super().addSuccess(test)
        self.record(test, "passed")

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.record(test, "failure")

    def addError(self, test, error):
        super().addError(test, error)
        self.record(test, "error")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.record(test, "skipped", reason)

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.record(subtest, "failure")


def main():
    package, report = sys.argv[1:]
    sys.path.insert(0, os.getcwd())
    suite = importlib.import_module(package).test_suite()
    result = unittest.TextTestRunner(verbosity=2, resultclass=Recorder).run(suite)
    with open(report, "w") as file:
        json.dump(result.outcomes, file)


if __name__ == "__main__":
    main()
