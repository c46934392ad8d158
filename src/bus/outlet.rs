//! Which events go to which stream. An event goes to every stream that a route of it names, and with
//! no route to `bus.stream`, or to the shard of that which belongs to its source.

use std::collections::BTreeMap;

use super::settings::Settings;
use crate::wire::{Digest, Event, NodeId, Pattern};

/// One stream, and what it takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Outlet {
    /// Its key in Redis.
    pub(super) stream: String,
    patterns: Vec<Pattern>,
    /// It takes what matches none of these, too.
    rest: Option<Vec<Pattern>>,
    /// It takes of that only the sources of this shard: its number, and how many there are.
    shard: Option<(u16, u16)>,
}

impl Outlet {
    /// Is this event for this stream?
    pub(super) fn takes(&self, event: &Event) -> bool {
        let matches = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(&event.kind));
        let is_rest = || self.rest.as_deref().is_some_and(|routed| !matches(routed));
        let is_mine = || self.shard.is_none_or(|(number, of)| shard_of(event.source, of) == number);
        matches(&self.patterns) || (is_rest() && is_mine())
    }
}

/// Every stream of these settings, those of `bus.stream` first.
pub(super) fn outlets(settings: &Settings) -> Vec<Outlet> {
    let routed: Vec<Pattern> = settings.routes.iter().map(|route| route.pattern.clone()).collect();
    let mut by_stream: BTreeMap<&str, Vec<Pattern>> = BTreeMap::new();
    for route in &settings.routes {
        by_stream.entry(&route.stream).or_default().push(route.pattern.clone());
    }
    let names = streams_of(&settings.stream, settings.shards);
    let number = |at: usize| u16::try_from(at).expect("as many as there are shards");
    let mut outlets: Vec<Outlet> = names
        .into_iter()
        .enumerate()
        .map(|(at, stream)| Outlet {
            patterns: by_stream.remove(stream.as_str()).unwrap_or_default(),
            rest: Some(routed.clone()),
            shard: (settings.shards > 0).then(|| (number(at), settings.shards)),
            stream,
        })
        .collect();
    outlets.extend(by_stream.into_iter().map(|(stream, patterns)| Outlet {
        stream: stream.to_owned(),
        patterns,
        rest: None,
        shard: None,
    }));
    outlets
}

/// The keys of every stream that is bridged to with these settings.
pub fn streams(settings: &Settings) -> Vec<String> {
    outlets(settings).into_iter().map(|outlet| outlet.stream).collect()
}

fn streams_of(stream: &str, shards: u16) -> Vec<String> {
    match shards {
        0 => vec![stream.to_owned()],
        count => (0..count).map(|number| stream.replace("{n}", &number.to_string())).collect(),
    }
}

/// A source keeps its shard, and so its order: the first two bytes of SHA-256 of its key.
fn shard_of(source: NodeId, of: u16) -> u16 {
    let digest = Digest::of(source.as_bytes());
    u16::from_be_bytes([digest.as_bytes()[0], digest.as_bytes()[1]]) % of
}

#[cfg(test)]
mod tests {
    use super::super::settings::Route;
    use super::super::tests::settings;
    use super::*;
    use crate::time::Wall;
    use crate::wire::{Draft, Keypair, envelope};

    fn route(pattern: &str, stream: &str) -> Route {
        Route { pattern: pattern.parse().expect("a pattern"), stream: stream.to_owned() }
    }

    fn takers(settings: &Settings, kind: &str, seed: u8) -> Vec<String> {
        let draft = Draft::new("1", kind, Wall::from_millis(1_795_262_400_000));
        let sealed = envelope::seal(&draft, &Keypair::from_seed(&[seed; 32])).expect("a good draft");
        outlets(settings)
            .into_iter()
            .filter(|outlet| outlet.takes(sealed.event()))
            .map(|outlet| outlet.stream)
            .collect()
    }

    #[test]
    fn an_event_goes_to_every_matching_route_and_with_none_to_the_bus() {
        let mut settings = settings();
        settings.routes =
            vec![route("a.*", "first"), route("a.b", "second"), route("c.+", "first"), route("d.*", "mesh:events")];
        assert_eq!(streams(&settings), ["mesh:events", "first", "second"]);
        assert_eq!(takers(&settings, "a.b", 1), ["first", "second"]);
        assert_eq!(takers(&settings, "a.c", 1), ["first"]);
        assert_eq!(takers(&settings, "c.x", 1), ["first"]);
        assert_eq!(takers(&settings, "d.x", 1), ["mesh:events"]);
        assert_eq!(takers(&settings, "e.x", 1), ["mesh:events"]);
    }

    #[test]
    fn a_source_has_one_shard_and_all_are_used() {
        let mut settings = settings();
        (settings.stream, settings.shards) = ("s:{n}".into(), 4);
        assert_eq!(streams(&settings), ["s:0", "s:1", "s:2", "s:3"]);
        let mut used = std::collections::BTreeSet::new();
        for seed in 0..40 {
            let mine = takers(&settings, "a.b", seed);
            assert_eq!(mine.len(), 1);
            assert_eq!(takers(&settings, "c.d", seed), mine, "whatever the type");
            used.extend(mine);
        }
        assert_eq!(used.len(), 4);
    }
}
