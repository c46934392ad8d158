//! `[[trust.rule]]`: who may send which types, as it is written.

use super::document::Section;
use super::settings::Peer;
use crate::core::trust::{Rule, Sources, Verdict};
use crate::wire::pattern::PATTERNS_MAX;
use crate::wire::{NodeId, Pattern};

/// One rule; `None` when something is wrong with it, which has been said then. `peers` are those of the
/// configuration: their aliases may stand for ids.
pub(super) fn read(rule: &mut Section<'_, '_>, peers: &[Peer]) -> Option<Rule> {
    for key in ["source", "types", "action"] {
        if !rule.has(key) {
            rule.needs(key);
        }
    }
    let named = rule.list("source", |text| source(text, peers));
    let types = rule.list("types", str::parse::<Pattern>);
    let verdict = rule.text("action", action);
    let (named, types, verdict) = (named?, types?, verdict?);
    if named.is_empty() || types.is_empty() || types.len() > PATTERNS_MAX {
        rule.refuse(
            "a [[trust.rule]] is about nothing, or about too much".to_owned(),
            "it names at least one source and 1 to 64 types",
            "write `source = [\"*\"]` for everybody and `types = [\"*\"]` for everything".to_owned(),
        );
        return None;
    }
    let sources = match named.iter().copied().collect::<Option<_>>() {
        Some(ids) => Sources::These(ids),
        None => Sources::Any,
    };
    Some(Rule { sources, types, verdict })
}

/// An id, the alias of a configured peer, or `None` for `*`.
fn source(text: &str, peers: &[Peer]) -> Result<Option<NodeId>, &'static str> {
    if text == "*" {
        return Ok(None);
    }
    if let Some(peer) = peers.iter().find(|peer| peer.alias.as_deref() == Some(text)) {
        return Ok(Some(peer.id));
    }
    let id = text.strip_prefix("mesh:").unwrap_or(text).parse().map(Some);
    id.map_err(|_| "a node id is expected, the alias of one of the [[peers]] in this file, or \"*\" for everybody")
}

fn action(text: &str) -> Result<Verdict, &'static str> {
    Verdict::of_action(text).ok_or("the actions are accept, flag, quarantine and drop")
}
