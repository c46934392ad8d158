"""Every system call that was made is one that the unit allows: syscalls.py UNIT STRACE_LOG."""

import re
import subprocess
import sys


def sets_of_systemd():
    sets, name = {}, None
    listing = subprocess.run(["systemd-analyze", "syscall-filter", "--no-pager"], capture_output=True, text=True, check=True)
    for line in listing.stdout.splitlines():
        if line.startswith("@"):
            name = line.strip()
            sets[name] = set()
        elif name and line.startswith("    ") and not line.strip().startswith("#"):
            sets[name].add(line.strip())
    return sets


def main(unit, log):
    sets = sets_of_systemd()

    def calls(item):
        return set().union(*map(calls, sets[item])) if item.startswith("@") else {item}

    allowed = set()
    for line in open(unit):
        if line.startswith("SystemCallFilter="):
            words = line.split("=", 1)[1].strip()
            listed = set().union(*map(calls, words.lstrip("~").split()))
            allowed = allowed - listed if words.startswith("~") else allowed | listed
    made = {found[1] for line in open(log) if (found := re.match(r"(?:\d+ +)?(\w+)\(", line))}
    assert len(made) > 40, made
    assert made <= allowed, f"not allowed by the unit: {sorted(made - allowed)}"


main(*sys.argv[1:])
