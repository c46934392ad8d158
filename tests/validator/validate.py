"""Validates JSON against JSON Schema 2020-12, by the library `jsonschema` (Debian: python3-jsonschema).

Reads from standard input {"schemas": [schema, ...], "cases": [{"schema": id, "instance": text, "good": bool}, ...],
"closed": bool} and prints one line for each case that is not as it should be. With "closed" a member
that a schema does not describe is wrong too.
"""
import json
import sys

from jsonschema import Draft202012Validator, FormatChecker, RefResolver


def close(node):
    """Allows described members alone, at every level."""
    if isinstance(node, list):
        return [close(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed = {key: value if key == "examples" else close(value) for key, value in node.items()}
    if isinstance(node.get("properties"), dict) and "type" in node:
        closed.setdefault("additionalProperties", False)
    return closed


asked = json.load(sys.stdin)
schemas = [close(schema) if asked["closed"] else schema for schema in asked["schemas"]]
store = {schema["$id"]: schema for schema in schemas}
for schema in schemas:
    Draft202012Validator.check_schema(schema)
for case in asked["cases"]:
    schema = store[case["schema"]]
    resolver = RefResolver.from_schema(schema, store=store)
    validator = Draft202012Validator(schema, resolver=resolver, format_checker=FormatChecker())
    errors = [error.message for error in validator.iter_errors(json.loads(case["instance"]))]
    if bool(errors) == case["good"]:
        print(case["schema"], "takes" if case["good"] is False else "refuses", case["instance"][:300], *errors[:3])
