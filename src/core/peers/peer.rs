//! One peer of the table: a node that events are owed to, and that we keep a lane to.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::ports::{Origin, Welcome};
use super::super::position::Position;
use super::super::tier::Tier;
use super::own::Own;
use super::state::{Standing, State, Tally};
use crate::time::{Mono, Wall};
use crate::wire::{Host, HostPort, NodeId, Profile, Record, Verified, Word};

/// One peer.
pub(in crate::core) struct Peer {
    pub(in crate::core) origin: Origin,
    /// May it be a neighbour?
    pub(in crate::core) welcome: Welcome,
    pub(in crate::core) alias: Option<String>,
    /// Whether it spoke to us from near or far, last; `None` = not in this life.
    pub(super) word: Option<Word>,
    /// The same in its last life here, or of whoever brought its record, until it speaks itself.
    pub(super) was: Word,
    /// Where a person said it is.
    pub(in crate::core) typed: Vec<HostPort>,
    pub(in crate::core) record: Option<Verified<Record>>,
    pub(in crate::core) state: State,
    pub(in crate::core) rtt: Option<Duration>,
    pub(in crate::core) since: Wall,
    pub(in crate::core) seen: Option<Wall>,
    pub(in crate::core) events_in: u64,
    /// It holds one of our outbound slots: we chose it, whoever called first.
    pub(in crate::core) chosen: bool,
    /// What led to it.
    pub(in crate::core) tier: Tier,
    /// What led to whoever named it, in the end.
    pub(super) root: Tier,
    /// A lane to it stood once, in this life or an earlier one.
    pub(super) proven: bool,
    /// When a lane of ours to it stood last.
    pub(super) verified: Option<Wall>,
    pub(super) position: Position,
    pub(in crate::core) tally: Tally,
    pub(super) last_dial: Option<Mono>,
    /// Its steady lane broke then.
    pub(super) suspected: Option<Mono>,
    /// When it is asked for records next.
    pub(super) exchange_at: Mono,
    /// Nodes it told of that turned out to be somebody else.
    pub(super) mistakes: u32,
}

impl Peer {
    pub(super) fn new(id: NodeId, origin: Origin, since: Wall) -> Peer {
        let tier = if origin == Origin::Manual { Tier::Manual } else { Tier::Exchange };
        Peer {
            origin,
            welcome: Welcome::Open,
            alias: None,
            word: None,
            was: Word::Far,
            typed: Vec::new(),
            record: None,
            state: State::dial_at(Mono(0)),
            rtt: None,
            since,
            seen: None,
            events_in: 0,
            chosen: false,
            tier,
            root: tier,
            proven: false,
            verified: None,
            position: Position::of(&id),
            tally: Tally::default(),
            last_dial: None,
            suspected: None,
            exchange_at: Mono(0),
            mistakes: 0,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected { .. })
    }

    /// A person said so: it gives way to nobody who comes by himself.
    pub(super) fn is_kept(&self) -> bool {
        self.origin == Origin::Manual || self.welcome == Welcome::Accepted
    }

    pub(super) fn is_blocked(&self) -> bool {
        matches!(self.state, State::Shut { standing: Standing::Blocked, .. })
    }

    /// It counts as one that we looked for: by hand, or by choice.
    pub(super) fn is_ours(&self) -> bool {
        (self.chosen || self.origin == Origin::Manual) && !self.is_blocked()
    }

    /// Addresses that its record names and the policy lets us dial. A peer that spoke to us from far means
    /// another machine by a private address than we would reach there. One that has not spoken yet in this
    /// life is taken at its word of the last one, or of whoever brought its record, but for names: those may lead
    /// elsewhere by now.
    pub(super) fn told(&self, profile: Profile, own: &Own) -> Vec<HostPort> {
        let told = self.record.iter().flat_map(|record| &record.addresses);
        let word = self.word.unwrap_or(self.was);
        told.filter(|at| may_tell(profile, word, at) && own.allows(at, profile)).cloned().collect()
    }

    /// Where to dial next, and on whose word. What was typed comes first; every other failure tries what
    /// the peer itself says. Where we are ourselves is nowhere, whoever says it.
    pub(super) fn next_address(&self, profile: Profile, own: &Own) -> Option<(Vec<HostPort>, Word)> {
        let told = self.told(profile, own);
        let typed: Vec<HostPort> = self.typed.iter().filter(|at| !own.holds(at)).cloned().collect();
        let typed_turn = !typed.is_empty() && (self.tally.tries.is_multiple_of(2) || told.is_empty());
        if typed_turn {
            return Some((typed, Word::Typed));
        }
        (!told.is_empty()).then_some((told, self.word.unwrap_or(Word::Far)))
    }

    /// Does it speak from a private network, or from this machine?
    pub(super) fn is_near(&self) -> bool {
        self.word.unwrap_or(self.was) != Word::Far
    }

    /// Every address worth showing.
    pub(in crate::core) fn addresses(&self) -> Vec<HostPort> {
        let told = self.record.iter().flat_map(|record| record.addresses.clone());
        let mut all = self.typed.clone();
        for at in told {
            if !all.contains(&at) {
                all.push(at);
            }
        }
        all
    }
}

/// Is this a place that somebody may tell us of whose word is this? Of names he may: they are judged when they
/// are dialled, by the same word.
pub(super) fn may_tell(profile: Profile, word: Word, at: &HostPort) -> bool {
    match at.host {
        Host::Ip(ip) => profile.may_dial(word, SocketAddr::new(ip, at.port)).is_ok(),
        Host::Name(_) => profile.allows_host(at).is_ok(),
    }
}
