//! Which events go to which stream. An event goes to every stream that a route of it names, and with
//! no route to `bus.stream`, or to the shard of that which belongs to its source.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::settings::Settings;
use crate::core::ports::Seq;
use crate::wire::{Digest, Event, NodeId, Pattern};

/// What one stream takes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Takes {
    patterns: Vec<Pattern>,
    /// It takes what matches none of these, too.
    rest: Option<Vec<Pattern>>,
    /// It takes of that only the sources of this shard: its number, and how many there are.
    shard: Option<(u16, u16)>,
}

impl Takes {
    fn takes(&self, event: &Event) -> bool {
        let matches = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(&event.kind));
        let is_rest = || self.rest.as_deref().is_some_and(|routed| !matches(routed));
        let is_mine = || self.shard.is_none_or(|(number, of)| shard_of(event.source, of) == number);
        matches(&self.patterns) || (is_rest() && is_mine())
    }

    /// One of them replaces the other where only the name of the stream was changed.
    pub(super) fn has_the_place_of(&self, other: &Takes) -> bool {
        match (&self.rest, &other.rest) {
            (Some(_), Some(_)) => self.shard == other.shard,
            (None, None) => self.patterns == other.patterns,
            _ => false,
        }
    }
}

/// Which stream takes what: those of `bus.stream` first.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Routing(pub(super) Vec<(String, Takes)>);

impl Routing {
    /// As these settings say.
    pub fn of(settings: &Settings) -> Routing {
        let routed: Vec<Pattern> = settings.routes.iter().map(|route| route.pattern.clone()).collect();
        let mut by_stream: BTreeMap<&str, Vec<Pattern>> = BTreeMap::new();
        for route in &settings.routes {
            by_stream.entry(&route.stream).or_default().push(route.pattern.clone());
        }
        let names = streams_of(&settings.stream, settings.shards);
        let number = |at: usize| u16::try_from(at).expect("as many as there are shards");
        let mut streams: Vec<(String, Takes)> = Vec::new();
        for (at, stream) in names.into_iter().enumerate() {
            let patterns = by_stream.remove(stream.as_str()).unwrap_or_default();
            let shard = (settings.shards > 0).then(|| (number(at), settings.shards));
            streams.push((stream, Takes { patterns, rest: Some(routed.clone()), shard }));
        }
        let routes = by_stream.into_iter();
        streams
            .extend(routes.map(|(stream, patterns)| (stream.to_owned(), Takes { patterns, rest: None, shard: None })));
        Routing(streams)
    }

    /// What this stream takes; `None` = nothing, it is none of these.
    pub(super) fn of_stream(&self, stream: &str) -> Option<&Takes> {
        self.0.iter().find(|(name, _)| name == stream).map(|(_, takes)| takes)
    }

    pub(super) fn rename(&mut self, old: &str, new: &str) {
        for (name, _) in self.0.iter_mut().filter(|(name, _)| name == old) {
            new.clone_into(name);
        }
    }
}

/// One stream, and what it takes of which part of the journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Outlet {
    /// Its key in Redis.
    pub(super) stream: String,
    /// Up to these positions, one after the other; `None` = nothing.
    former: Vec<(Seq, Option<Takes>)>,
    /// From then on.
    now: Option<Takes>,
}

impl Outlet {
    /// Is this event for this stream?
    pub(super) fn takes(&self, event: &Event, seq: Seq) -> bool {
        let former = self.former.iter().find(|(upto, _)| seq <= *upto);
        let takes = former.map_or(&self.now, |(_, takes)| takes);
        takes.as_ref().is_some_and(|takes| takes.takes(event))
    }

    /// The last position of which it takes anything; `None` = it has no end.
    pub(super) fn ends(&self) -> Option<Seq> {
        let last = self.former.iter().rev().find(|(_, takes)| takes.is_some());
        if self.now.is_some() { None } else { Some(last.map_or(Seq(0), |(upto, _)| *upto)) }
    }
}

/// Every stream of these settings, those of `bus.stream` first, those that are bridged to their end last.
pub(super) fn outlets(settings: &Settings) -> Vec<Outlet> {
    let now = Routing::of(settings);
    let mut outlets: Vec<Outlet> = Vec::new();
    for routing in std::iter::once(&now).chain(settings.former.iter().map(|era| &era.routing)) {
        for (stream, _) in &routing.0 {
            if outlets.iter().any(|outlet| outlet.stream == *stream) {
                continue;
            }
            let in_era = |routing: &Routing| routing.of_stream(stream).cloned();
            let former = settings.former.iter().map(|era| (era.upto, in_era(&era.routing))).collect();
            outlets.push(Outlet { stream: stream.clone(), former, now: in_era(&now) });
        }
    }
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
            .filter(|outlet| outlet.takes(sealed.event(), Seq(1)))
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
