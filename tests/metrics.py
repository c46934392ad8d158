"""Reads a page of metrics from standard input with Prometheus' own client library, strictly, and prints
it as JSON: {family: {"type": ..., "samples": [[name, labels, value], ...]}}. Fails when the page is no
OpenMetrics, or when a reader of the older text format would see other samples. With --classic the page is
of that older format, 0.0.4: each sample has a type and a help text there, and nothing is a mere comment.

    curl -H 'accept: application/openmetrics-text' --unix-socket SOCKET http://localhost/metrics \\
        | /usr/bin/python3 tests/metrics.py
"""

import json
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict
from prometheus_client.parser import text_string_to_metric_families as older

is_classic = sys.argv[1:] == ["--classic"]
page = sys.stdin.read()
families = {}
for family in (older if is_classic else strict)(page):
    assert family.documentation and family.name not in families, family.name
    assert family.type not in ("unknown", "untyped"), family.name
    samples = [[sample.name, sample.labels, sample.value] for sample in family.samples]
    families[family.name] = {"type": family.type, "unit": family.unit, "samples": samples}


def seen(samples):
    return sorted((name, sorted(labels.items()), value) for name, labels, value in samples)


if is_classic:
    comments = [line for line in page.splitlines() if line.startswith("#")]
    assert all(line.startswith(("# HELP ", "# TYPE ")) for line in comments), comments
else:
    both = [
        seen(sample for family in families.values() for sample in family["samples"]),
        seen((sample.name, sample.labels, sample.value) for family in older(page) for sample in family.samples),
    ]
    assert both[0] == both[1], "the older text format reads something else"
print(json.dumps(families))
