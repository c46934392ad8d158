#!/usr/bin/env python3
"""TeleClaude's reader and writer of its stream, written from the list of fields in
`src/bus/layout/teleclaude.rs` and from nothing else of ours: the same names, types and enums as its
`EventEnvelope`, on pydantic 1.10 or 2.

  teleclaude_reader.py write COUNT SEED   entries for `teleclaude:events`, one JSON object a line
  teleclaude_reader.py read               reads entries, one JSON object of text fields a line, exactly as
                                          the consumer does; stops at the first it would raise on; then
                                          prints the fields it would write for the same event
"""

import json
import random
import sys
from datetime import datetime, timedelta, timezone
from enum import Enum, IntEnum
from typing import Any, Dict, Optional

import pydantic


class Visibility(str, Enum):
    LOCAL = "local"
    CLUSTER = "cluster"
    PUBLIC = "public"


class Level(IntEnum):
    INFRASTRUCTURE = 0
    OPERATIONAL = 1
    WORKFLOW = 2
    BUSINESS = 3


class Action(pydantic.BaseModel):
    description: str
    produces: str
    outcome_shape: Optional[Dict[str, str]] = None


class Envelope(pydantic.BaseModel):
    event: str
    version: int = 1
    source: str
    timestamp: datetime
    idempotency_key: Optional[str] = None
    level: Level
    domain: str = ""
    entity: Optional[str] = None
    description: str = ""
    visibility: Visibility = Visibility.LOCAL
    payload: Dict[str, Any] = {}
    actions: Optional[Dict[str, Action]] = None
    terminal_when: Optional[str] = None
    resolution_shape: Optional[Dict[str, str]] = None

    if pydantic.VERSION.startswith("1."):

        class Config:
            extra = "allow"
    else:
        model_config = pydantic.ConfigDict(extra="allow")


DECLARED = [
    "event", "version", "source", "timestamp", "idempotency_key", "level", "domain", "entity", "description",
    "visibility", "payload", "actions", "terminal_when", "resolution_shape",
]


def dump(model):
    return model.model_dump() if hasattr(model, "model_dump") else model.dict()


def to_stream(envelope):
    every = dump(envelope)
    fields = {
        "event": envelope.event,
        "version": str(envelope.version),
        "source": envelope.source,
        "timestamp": envelope.timestamp.isoformat(),
        "idempotency_key": envelope.idempotency_key or "",
        "level": str(int(envelope.level)),
        "domain": envelope.domain,
        "entity": envelope.entity or "",
        "description": envelope.description,
        "visibility": envelope.visibility.value,
        "payload": json.dumps(envelope.payload),
        "actions": json.dumps({name: dump(one) for name, one in envelope.actions.items()}) if envelope.actions else "",
        "terminal_when": envelope.terminal_when or "",
        "resolution_shape": json.dumps(envelope.resolution_shape) if envelope.resolution_shape else "",
    }
    extra = {name: value for name, value in every.items() if name not in DECLARED}
    if extra:
        # pydantic 1 forgets their order.
        fields["_extra"] = json.dumps(extra, sort_keys=True)
    return fields


def from_stream(fields):
    actions = fields.get("actions", "")
    shape = fields.get("resolution_shape", "")
    extra = fields.get("_extra", "")
    return Envelope(
        event=fields["event"],
        version=int(fields.get("version", "1")),
        source=fields["source"],
        timestamp=datetime.fromisoformat(fields["timestamp"]),
        idempotency_key=fields.get("idempotency_key") or None,
        level=Level(int(fields["level"])),
        domain=fields.get("domain", ""),
        entity=fields.get("entity") or None,
        description=fields.get("description", ""),
        visibility=Visibility(fields.get("visibility", "local")),
        payload=json.loads(fields["payload"]) if fields.get("payload") else {},
        actions={name: Action(**one) for name, one in json.loads(actions).items()} if actions else None,
        terminal_when=fields.get("terminal_when") or None,
        resolution_shape=json.loads(shape) if shape else None,
        **(json.loads(extra) if extra else {}),
    )


LETTERS = "abcXYZ 019_-./:\u00e9\u00df\u6c34\U0001f41d\"\\'{}[]<>&%"


class Writer:
    """Events of every shape that the fields allow."""

    def __init__(self, seed):
        self.chance = random.Random(seed)

    def text(self, most, more=""):
        return "".join(self.chance.choice(LETTERS + more) for _ in range(self.chance.randrange(most)))

    def value(self, depth=0):
        kind = self.chance.randrange(12 if depth < 4 else 10)
        if kind == 10:
            return [self.value(depth + 1) for _ in range(self.chance.randrange(4))]
        if kind == 11:
            return {self.text(8): self.value(depth + 1) for _ in range(self.chance.randrange(4))}
        whole = self.chance.randrange(-(2**53) + 1, 2**53)
        return [None, True, False, whole, self.chance.random(), -0.0, 1e-7, 1e300, "", self.text(30, "\n\t\u2028")][kind]

    def shape(self):
        return {self.text(6): self.text(6) for _ in range(self.chance.randrange(3))}

    def maybe(self, value):
        return value if self.chance.random() < 0.5 else None

    def envelope(self, number):
        zone = timezone(timedelta(minutes=self.chance.choice([0, 0, 60, -330, 345])))
        now = datetime.now(zone) - timedelta(seconds=self.chance.randrange(3600))
        action = {"description": self.text(20), "produces": "a.b", "outcome_shape": self.maybe(self.shape())}
        return Envelope(
            event=self.chance.choice(["deployment.failed", "node.alive", "system.worker-2.crashed", "a.b.c.d.e.f.g.h"]),
            version=self.chance.choice([1, 1, 2, 999999999]),
            source=self.text(20) or "worker",
            timestamp=self.chance.choice([now, now.replace(microsecond=0), now.replace(microsecond=120000)]),
            idempotency_key=self.maybe("key:%d" % number),
            level=self.chance.randrange(4),
            domain=self.text(12),
            entity=self.maybe(self.text(40)),
            description=self.text(60, "\n\r\t\x00\u202e"),
            visibility=self.chance.choice(["cluster", "public"]),
            payload={self.text(8): self.value() for _ in range(self.chance.randrange(6))},
            actions=self.maybe({self.text(8): action for _ in range(self.chance.randrange(3))}),
            terminal_when=self.maybe(self.text(20, "\n")),
            resolution_shape=self.maybe(self.shape()),
            **(self.maybe({"x_" + self.text(5): self.value() for _ in range(1 + self.chance.randrange(2))}) or {}),
        )


def main():
    if sys.argv[1] == "write":
        writer = Writer(int(sys.argv[3]))
        for number in range(int(sys.argv[2])):
            print(json.dumps(to_stream(writer.envelope(number))))
        return
    for line in sys.stdin:
        print(json.dumps(to_stream(from_stream(json.loads(line)))))


if __name__ == "__main__":
    main()
