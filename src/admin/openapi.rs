//! `GET /openapi.json`: the local API described for programs, OpenAPI 3.1, made of the table below and
//! the files of `schemas/`.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::schemas::{SCHEMA_URN, SCHEMAS};

/// The description as it is served, made once.
pub(super) static OPENAPI: LazyLock<String> = LazyLock::new(|| describe().to_string() + "\n");

/// One operation. The order of the table is that of the router.
struct Operation {
    path: &'static str,
    method: &'static str,
    id: &'static str,
    about: &'static str,
    /// Parameters of the query, each with what it means.
    query: &'static [(&'static str, &'static str)],
    /// Headers that it reads.
    headers: &'static [(&'static str, &'static str)],
    /// Media types that it reads, each with its schema.
    takes: &'static [(&'static str, Body)],
    /// It does without a body too.
    may_be_empty: bool,
    /// The status of success with its media types.
    gives: &'static [(u16, &'static str, Body)],
}

/// What a body is.
#[derive(Clone, Copy)]
enum Body {
    /// One of `schemas/`.
    Schema(&'static str),
    /// An object: the members that it must have, and all that it may have, each with its kind.
    Object(&'static [&'static str], &'static [(&'static str, Kind)]),
    /// Text, or lines of JSON: a schema says nothing of it.
    Text,
}

/// The kind of a member.
#[derive(Clone, Copy)]
enum Kind {
    /// Whatever JSON has.
    Any,
    Flag,
    Number,
    String,
    /// A string, or null for none.
    StringOrNull,
    Strings,
}

use Body::{Object, Schema, Text};
use Kind::{Any, Flag, Number, StringOrNull, Strings};

const NONE: Operation = Operation {
    path: "",
    method: "get",
    id: "",
    about: "",
    query: &[],
    headers: &[],
    takes: &[],
    may_be_empty: false,
    gives: &[],
};
const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";

/// What is read of an event; every other member is an attribute of its own.
const EVENT: &[(&str, Kind)] = &[("type", Kind::String), ("data", Any), ("id", Kind::String), ("time", Kind::String)];
/// The same of a CloudEvent.
const CLOUDEVENT: &[(&str, Kind)] = &[
    ("specversion", Kind::String),
    ("id", Kind::String),
    ("source", Kind::String),
    ("type", Kind::String),
    ("time", StringOrNull),
    ("data", Any),
];

const OPERATIONS: &[Operation] = &[
    Operation {
        path: "/livez",
        id: "live",
        about: "Is somebody driving?",
        gives: &[(200, "text/plain", Text)],
        ..NONE
    },
    Operation {
        path: "/readyz",
        id: "ready",
        about: "Does it take events, does the bus get them, is a peer there? 503 with the same body when not.",
        gives: &[(200, JSON, Schema("ready")), (503, JSON, Schema("ready"))],
        ..NONE
    },
    Operation { path: "/openapi.json", id: "openapi", about: "This description.", gives: &[(200, JSON, Text)], ..NONE },
    Operation {
        path: "/metrics",
        id: "metrics",
        about: "Every number, for Prometheus: OpenMetrics for whoever accepts it, else the text format 0.0.4. Served on `metrics.listen` too, where that is set.",
        gives: &[(200, "application/openmetrics-text", Text), (200, "text/plain", Text)],
        ..NONE
    },
    Operation {
        path: "/v1/status",
        id: "status",
        about: "How is this node?",
        gives: &[(200, JSON, Schema("status"))],
        ..NONE
    },
    Operation {
        path: "/v1/id",
        id: "id",
        about: "Who is this node, and how is it reached?",
        gives: &[(200, JSON, Schema("id"))],
        ..NONE
    },
    Operation {
        path: "/v1/peers",
        id: "peers",
        about: "Who is known, and who is blocked?",
        query: &[("all", "`true` adds those that were only heard of; else `strangers` counts them.")],
        gives: &[(200, JSON, Schema("peers"))],
        ..NONE
    },
    Operation {
        path: "/v1/peers",
        method: "post",
        id: "add_peer",
        about: "Add a peer, or give a known one another address or alias. Answered once it is durable.",
        takes: &[(
            JSON,
            Object(&["address"], &[("address", Kind::String), ("alias", StringOrNull), ("trust_first_use", Flag)]),
        )],
        gives: &[(201, JSON, Schema("peer"))],
        ..NONE
    },
    Operation {
        path: "/v1/peers/{peer}",
        method: "delete",
        id: "remove_peer",
        about: "Forget a peer: alias, beginning of its id, or address. One that is blocked stays blocked.",
        gives: &[(200, JSON, Schema("peer"))],
        ..NONE
    },
    Operation {
        path: "/v1/peers/{peer}",
        id: "peer",
        about: "One peer, with what became of it: alias, beginning of its id, or address.",
        gives: &[(200, JSON, Schema("peer"))],
        ..NONE
    },
    Operation {
        path: "/v1/peers/{peer}",
        method: "post",
        id: "name_peer",
        about: "Call a peer something else; nothing, when `alias` is null.",
        takes: &[(JSON, Object(&["alias"], &[("alias", StringOrNull)]))],
        gives: &[(200, JSON, Schema("peer"))],
        ..NONE
    },
    Operation {
        path: "/v1/peers/{peer}/accept",
        method: "post",
        id: "accept_peer",
        about: "Let a node be a neighbour that came by itself and waits for it. Answered once it is durable.",
        gives: &[(200, JSON, Schema("peer"))],
        ..NONE
    },
    Operation {
        path: "/v1/peers/{peer}/block",
        method: "post",
        id: "block_peer",
        about: "Have nothing to do with a node: its requests are refused, nothing is sent to it, it is not called. Its \
                whole id will do for one that is not known. Answered once it is durable.",
        takes: &[(JSON, Object(&[], &[("reason", StringOrNull)]))],
        may_be_empty: true,
        gives: &[(200, JSON, Schema("peer"))],
        ..NONE
    },
    Operation {
        path: "/v1/peers/{peer}/unblock",
        method: "post",
        id: "unblock_peer",
        about: "Let a blocked node come again. Answered once it is durable.",
        gives: &[(200, JSON, Schema("peer"))],
        ..NONE
    },
    Operation {
        path: "/v1/peers/{peer}/ping",
        method: "post",
        id: "ping",
        about: "How long is the way to a peer and back, by the lane that events take?",
        gives: &[(200, JSON, Schema("ping"))],
        ..NONE
    },
    Operation {
        path: "/v1/match/{type}",
        id: "match",
        about: "Who would get an event of this type, were it published now? Nothing is sent.",
        gives: &[(200, JSON, Schema("match"))],
        ..NONE
    },
    Operation {
        path: "/v1/discovery",
        id: "discovery",
        about: "What did each tier of discovery answer last, and when is it asked next?",
        gives: &[(200, JSON, Schema("discovery"))],
        ..NONE
    },
    Operation {
        path: "/v1/discovery",
        method: "post",
        id: "discover",
        about: "Ask the tiers anew and dial what they name; `dry_run` dials nothing. `tiers` are `dns`, `exchange`, \
                `manual`, `seeds`: all when absent. Answered once every dial has ended.",
        takes: &[(JSON, Object(&[], &[("tiers", Strings), ("dry_run", Flag)]))],
        gives: &[(200, JSON, Schema("discovery"))],
        ..NONE
    },
    Operation {
        path: "/v1/leave",
        method: "post",
        id: "leave",
        about: "Say goodbye to the mesh and end the daemon. Answered once the connected peers and the registrar \
                have the goodbye, within 5 s in any case. The next start takes it back.",
        gives: &[(200, JSON, Schema("left"))],
        ..NONE
    },
    Operation {
        path: "/v1/identify",
        method: "post",
        id: "identify",
        about: "Who answers at this address? Trusts any key and keeps nothing.",
        takes: &[(JSON, Object(&["address"], &[("address", Kind::String)]))],
        gives: &[(200, JSON, Schema("identified"))],
        ..NONE
    },
    Operation {
        path: "/v1/events",
        id: "events",
        about: "Events as they are stored: one `arrival` a line, or server-sent events when `Accept` names them.",
        query: &[
            ("pattern", "Types that match any of these; may be repeated. All when absent."),
            ("since", "Begin at a time, a span ago, a position, or `all`. With what comes next when absent."),
            ("count", "End after so many."),
            ("causation", "Only what answers or follows from the event with this digest."),
            ("own", "`false` leaves out what was published here."),
            ("seq", "`true` adds the position of each."),
            ("withheld", "`true` adds what a rule keeps from local programs; `trust` says so."),
            ("group", "Begin after what this group acknowledged last."),
            (
                "progress",
                "`true` adds a `progress` line now and then where none of the events was asked for: what a group acknowledges then.",
            ),
        ],
        headers: &[("Last-Event-ID", "Where a stream of server-sent events goes on: counts before everything else.")],
        gives: &[(200, LINES, Text), (200, "text/event-stream", Text)],
        ..NONE
    },
    Operation {
        path: "/v1/events",
        method: "post",
        id: "publish",
        about: "Publish events. 202 once one is durable, 200 when it was before; lines and arrays are answered by \
                one `publish` a line, in order, with 200.",
        query: &[
            ("wait", "Answer when so many peers have stored it, and name them."),
            ("timeout", "How long to wait for peers: 10s when absent, 1h at most."),
        ],
        headers: &[(
            "Idempotency-Key",
            "For 24 h the same JSON value under it is the same event, another one is 409. A CloudEvent has one of its own: source and id.",
        )],
        takes: &[
            (JSON, Object(&["type"], EVENT)),
            (LINES, Text),
            ("application/cloudevents+json", Object(&["specversion", "id", "source", "type"], CLOUDEVENT)),
            ("application/cloudevents-batch+json", Text),
        ],
        gives: &[(202, JSON, Schema("publish")), (200, JSON, Schema("publish")), (200, LINES, Text)],
        ..NONE
    },
    Operation {
        path: "/v1/groups",
        id: "groups",
        about: "Which groups of subscribers are there, and how far are they? Those that acknowledged something.",
        gives: &[(200, JSON, Schema("groups"))],
        ..NONE
    },
    Operation {
        path: "/v1/groups/{group}",
        id: "group",
        about: "How far is a group of subscribers?",
        gives: &[(200, JSON, Schema("group"))],
        ..NONE
    },
    Operation {
        path: "/v1/groups/{group}",
        method: "post",
        id: "acknowledge",
        about: "Everything up to this position is done. A group never goes back.",
        takes: &[(JSON, Object(&["seq"], &[("seq", Number)]))],
        gives: &[(200, JSON, Schema("group"))],
        ..NONE
    },
    Operation {
        path: "/v1/groups/{group}",
        method: "delete",
        id: "forget_group",
        about: "Delete a group: its name is free, and whoever takes it begins anew.",
        gives: &[(200, JSON, Schema("group"))],
        ..NONE
    },
    Operation {
        path: "/v1/watch",
        id: "watch",
        about: "What changes, as it changes: one `change` a line, or server-sent events when `Accept` names them.",
        gives: &[(200, LINES, Text), (200, "text/event-stream", Text)],
        ..NONE
    },
    Operation {
        path: "/v1/interests",
        id: "interests",
        about: "What do we want, and who wants what from us?",
        gives: &[(200, JSON, Schema("interests"))],
        ..NONE
    },
    Operation {
        path: "/v1/interests",
        method: "post",
        id: "set_interests",
        about: "Want something else: `set` replaces everything, then `remove`, then `add`.",
        takes: &[(JSON, Object(&[], &[("set", Strings), ("add", Strings), ("remove", Strings)]))],
        gives: &[(200, JSON, Schema("interests"))],
        ..NONE
    },
    Operation {
        path: "/v1/trust",
        id: "trust",
        about: "Who is muted, and who may send which types?",
        gives: &[(200, JSON, Schema("trust"))],
        ..NONE
    },
    Operation {
        path: "/v1/trust",
        method: "post",
        id: "set_trust",
        about: "Mute sources, listen to others again: alias, id, or beginning of the id of a peer. Answered once it \
                is durable.",
        takes: &[(JSON, Object(&[], &[("mute", Strings), ("unmute", Strings)]))],
        gives: &[(200, JSON, Schema("trust"))],
        ..NONE
    },
    Operation {
        path: "/v1/dead",
        id: "letters",
        about: "What could not be delivered, and why? The newest first, without the originals.",
        query: &[("count", "How many at most, 1 to 500: 100 when absent.")],
        gives: &[(200, JSON, Schema("dead"))],
        ..NONE
    },
    Operation {
        path: "/v1/dead/{id}",
        id: "letter",
        about: "One dead letter with its original: its id, or `stream%2Fid` where letters of two streams share one.",
        gives: &[(200, JSON, Schema("letter"))],
        ..NONE
    },
    Operation {
        path: "/v1/dead/{id}",
        method: "delete",
        id: "drop_letter",
        about: "Throw a dead letter away.",
        gives: &[(200, JSON, Schema("letter"))],
        ..NONE
    },
    Operation {
        path: "/v1/dead/{id}/retry",
        method: "post",
        id: "retry_letter",
        about: "Deliver a dead letter after all, if it can be now; 409 and the reason when not.",
        gives: &[(200, JSON, Schema("retried"))],
        ..NONE
    },
    Operation {
        path: "/v1/bus/resume",
        method: "post",
        id: "resume",
        about: "Streams whose cursor was lost go on after the last event that is known to be bridged.",
        gives: &[(200, JSON, Schema("mended"))],
        ..NONE
    },
    Operation {
        path: "/v1/bus/replay",
        method: "post",
        id: "replay",
        about: "Streams whose cursor was lost get everything that the journal holds; it may repeat events.",
        gives: &[(200, JSON, Schema("mended"))],
        ..NONE
    },
];

fn describe() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = operation.describe();
    }
    let schemas: Map<String, Value> =
        SCHEMAS.iter().map(|(name, text)| ((*name).to_owned(), component(text))).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "afferent, local API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "HTTP/1.1 over the Unix socket `admin.socket`. Who may connect may read; changes take root, \
                            the user of the daemon, or the group of the socket.",
            "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
        },
        "servers": [{ "url": "http://localhost", "description": "curl --unix-socket /run/afferent/afferent.sock" }],
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

impl Operation {
    fn describe(&self) -> Value {
        let parameter = |place: &str, is_required: bool, name: &str, about: &str| json!({ "name": name, "in": place, "required": is_required, "description": about, "schema": { "type": "string" } });
        let names = self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let mut parameters: Vec<Value> = names.map(|name| parameter("path", true, name, "Which one.")).collect();
        parameters.extend(self.query.iter().map(|(name, about)| parameter("query", false, name, about)));
        parameters.extend(self.headers.iter().map(|(name, about)| parameter("header", false, name, about)));
        let mut operation = json!({ "operationId": self.id, "summary": self.about, "parameters": parameters });
        if !self.takes.is_empty() {
            let content: Map<String, Value> =
                self.takes.iter().map(|(kind, body)| ((*kind).to_owned(), body.describe())).collect();
            operation["requestBody"] = json!({ "required": !self.may_be_empty, "content": content });
        }
        let problem = json!({
            "description": "What is wrong, and a code that `afferent explain` knows.",
            "content": { "application/problem+json": Schema("problem").describe() },
        });
        let mut responses = json!({ "default": problem });
        for (status, kind, body) in self.gives {
            let response = &mut responses[status.to_string()];
            response["description"] = "Done.".into();
            response["content"][*kind] = body.describe();
        }
        operation["responses"] = responses;
        operation
    }
}

impl Body {
    fn describe(self) -> Value {
        match self {
            Schema(name) => json!({ "schema": { "$ref": format!("#/components/schemas/{name}") } }),
            Object(required, members) => {
                let properties: Map<String, Value> =
                    members.iter().map(|(name, kind)| ((*name).to_owned(), kind.describe())).collect();
                json!({ "schema": { "type": "object", "required": required, "properties": properties } })
            }
            Text => json!({}),
        }
    }
}

impl Kind {
    fn describe(self) -> Value {
        match self {
            Any => json!({}),
            Flag => json!({ "type": "boolean" }),
            Number => json!({ "type": "integer", "minimum": 0 }),
            Kind::String => json!({ "type": "string" }),
            StringOrNull => json!({ "type": ["string", "null"] }),
            Strings => json!({ "type": "array", "items": { "type": "string" } }),
        }
    }
}

/// A schema as a component: named by its place, and its references with it.
fn component(text: &str) -> Value {
    let text = SCHEMAS.iter().fold(text.to_owned(), |text, (name, _)| {
        text.replace(
            &format!("\"$ref\": \"{SCHEMA_URN}{name}:1\""),
            &format!("\"$ref\": \"#/components/schemas/{name}\""),
        )
    });
    let mut schema: Value = serde_json::from_str(&text).expect("a file of ours, checked by a test");
    if let Some(members) = schema.as_object_mut() {
        members.remove("$id");
        members.remove("$schema");
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::super::live::Wish;
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    use crate::time::Wall;

    /// `.route("/v1/x", get(a).post(b))` in the sources of this room, as path and method.
    fn routed() -> BTreeSet<(String, String)> {
        let room = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin");
        let files = std::fs::read_dir(room).expect("the room").map(|file| file.expect("a file").path());
        let routers = files.filter(|file| file.is_file() && !file.ends_with("openapi.rs"));
        let mut routes = BTreeSet::new();
        for source in routers.map(|file| std::fs::read_to_string(file).expect("a source")) {
            for rest in source.split(".route(\"").skip(1) {
                let (path, rest) = rest.split_once('"').expect("a path");
                let ends = [".fallback(", "\n}"].iter().filter_map(|end| rest.find(end));
                let end = ends.min().unwrap_or(rest.len());
                for method in ["get", "post", "put", "delete"] {
                    if rest[..end].contains(&format!("{method}(")) {
                        routes.insert((path.to_owned(), method.to_owned()));
                    }
                }
            }
        }
        routes
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let described: BTreeSet<(String, String)> =
            OPERATIONS.iter().map(|operation| (operation.path.to_owned(), operation.method.to_owned())).collect();
        assert_eq!(described.len(), OPERATIONS.len(), "none twice");
        assert_eq!(described, routed());
    }

    /// The reader names all that it takes when it is asked for something else.
    #[test]
    fn every_parameter_of_events_is_described() {
        let fault = Wish::parse(&[("x".to_owned(), String::new())], Wall::default()).expect_err("no parameter");
        let (_, taken) = fault.why.rsplit_once(" are ").expect("a list");
        let taken: BTreeSet<&str> = taken.split(", ").flat_map(|names| names.split(" and ")).collect();
        let events = OPERATIONS.iter().find(|operation| operation.id == "events").expect("there");
        assert_eq!(taken, events.query.iter().map(|(name, _)| *name).collect());
    }

    #[test]
    fn a_node_is_blocked_without_a_reason_and_nobody_is_added_without_an_address() {
        let description: Value = serde_json::from_str(OPENAPI.as_str()).expect("JSON");
        let body = |path: &str| description["paths"][path]["post"]["requestBody"]["required"].clone();
        assert_eq!([body("/v1/peers/{peer}/block"), body("/v1/peers")], [false, true]);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let text = OPENAPI.as_str();
        let description: Value = serde_json::from_str(text).expect("JSON");
        let mut count = 0;
        for rest in text.split("\"$ref\":\"").skip(1) {
            let reference = rest.split('"').next().expect("a reference");
            let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} leads outside"));
            assert!(description.pointer(pointer).is_some(), "{reference}");
            count += 1;
        }
        assert!(count > 20);
    }
}
