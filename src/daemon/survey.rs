//! A survey: the tiers are asked because a person wants to know, and what they name is dialled for that.
//!
//! ```text
//!   zones, seeds, neighbours, what was typed in -> Asked, one for each source
//!        -> each place: ours? connected? allowed? -> dialled, a few at a time -> Place
//! ```
//!
//! It decides nothing: what a tier names goes to the core as ever, which dials for its own reasons. A dial
//! of a survey ends with the handshake, proves whose key is there, and leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::tiers::{Answer, Tiers, ms, tiers_of};
use crate::admin::tiers::{Discovery, Failed, Place, PlaceOutcome, Source, TierAnswer, TierName, TierState};
use crate::config::Settings;
use crate::core::tier::Tier;
use crate::net::dns::Forbidden;
use crate::net::{self, Miss, Unmet};
use crate::time::Wall;
use crate::wire::{HostPort, NodeId, Profile, Word};

/// Dials of one survey.
pub const SURVEY_DIALS_MAX: usize = 32;
/// Places of one survey that are looked at.
pub const SURVEY_PLACES_MAX: usize = 256;
/// A whole survey: what is not done by then is left out, and said.
pub const SURVEY_MAX: Duration = Duration::from_secs(35);
/// Places looked at at once.
const AT_ONCE: usize = 8;
/// How long a neighbour may take to answer.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// What is known of this node and its peers: a copy.
pub(super) struct Known {
    /// `None` = it has no key yet.
    pub(super) me: Option<NodeId>,
    pub(super) profile: Profile,
    /// Where this node is itself.
    pub(super) own: BTreeSet<HostPort>,
    /// Everybody it has heard of.
    pub(super) heard: BTreeSet<NodeId>,
    /// Those with which there is nothing to do.
    pub(super) blocked: Arc<BTreeSet<NodeId>>,
    /// Peers with a lane, and its round trip in milliseconds.
    pub(super) connected: BTreeMap<NodeId, Option<f64>>,
}

/// A place that somebody names.
struct Nominee {
    id: Option<NodeId>,
    at: HostPort,
    word: Word,
}

/// What one source answered, and the places that it names.
pub(super) struct Asked {
    tier: TierName,
    source: Source,
    nominees: Vec<Nominee>,
}

impl Asked {
    /// A zone or a list.
    pub(super) fn of_answer(answer: &Answer, at: Wall) -> Vec<Asked> {
        let tier = if answer.tier == Tier::Dns { TierName::Dns } else { TierName::Seeds };
        let asked = |report: &super::tiers::Report| {
            let nominees = report
                .finds
                .iter()
                .flat_map(|find| find.at.iter().map(|at| Nominee { id: find.id, at: at.clone(), word: Word::Near }));
            let places = report.refused.iter().map(forbidden).collect();
            Asked { tier, source: Source { places, ..report.source(at) }, nominees: nominees.collect() }
        };
        answer.reports.iter().map(asked).collect()
    }

    /// A neighbour, by the name that it has here.
    pub(super) async fn of_neighbour(name: String, answer: oneshot::Receiver<net::Told>, at: Wall) -> Asked {
        let told = timeout(TOLD_WITHIN, answer).await.ok().and_then(Result::ok);
        let failure = told.is_none().then(|| Failed {
            class: "no_answer".to_owned(),
            why: "it did not say whom it knows".to_owned(),
            next: format!("afferent ping {name}; it may be busy, or be asked just now: try again"),
        });
        let records = told.as_ref().map(|told| &told.records[..]).unwrap_or_default();
        let nominees = records.iter().filter(|record| !record.bye).flat_map(|record| {
            let id = Some(record.id());
            record.addresses.iter().map(move |at| Nominee { id, at: at.clone(), word: Word::Far })
        });
        let nominees = nominees.collect();
        let source = Source {
            source: name,
            at: Some(at),
            ms: told.as_ref().map(|told| ms(told.took)),
            found: records.len() as u64,
            refused: 0,
            ignored: 0,
            failure,
            places: Vec::new(),
        };
        Asked { tier: TierName::Exchange, source, nominees }
    }

    /// A peer that a person typed in.
    pub(super) fn of_friend(id: NodeId, alias: Option<&str>, at: &[HostPort], now: Wall) -> Asked {
        let nominees = at.iter().map(|at| Nominee { id: Some(id), at: at.clone(), word: Word::Typed }).collect();
        let source = Source {
            source: alias.map_or_else(|| id.short(), str::to_owned),
            at: Some(now),
            ms: None,
            found: 1,
            refused: 0,
            ignored: 0,
            failure: None,
            places: Vec::new(),
        };
        Asked { tier: TierName::Manual, source, nominees }
    }
}

fn forbidden(Forbidden { id, at, why }: &Forbidden) -> Place {
    let unmet = Unmet { class: Miss::Forbidden, why: format!("{at} is not dialled: it is {why}") };
    Place {
        id: *id,
        address: at.clone(),
        known: false,
        outcome: PlaceOutcome::Refused,
        ms: None,
        failure: Some(failed(&unmet)),
    }
}

fn failed(unmet: &Unmet) -> Failed {
    Failed { class: unmet.class.word().to_owned(), why: unmet.why.clone(), next: unmet.class.remedy().to_owned() }
}

/// One survey.
pub(super) struct Survey {
    pub(super) known: Known,
    /// Who dials; `None` = nobody: a dry run.
    pub(super) dialler: Option<net::Context>,
}

impl Survey {
    /// Looks at every place that was named, dials those that may be, and fills in what came of it. Places
    /// that a tier names twice are looked at once.
    pub(super) async fn visit(&self, asked: Vec<Asked>, end: Instant) -> BTreeMap<TierName, Vec<Source>> {
        let (mut seen, mut visits) = (BTreeSet::new(), Vec::new());
        let mut sources: Vec<(TierName, Source)> = Vec::new();
        for Asked { tier, source, nominees } in asked {
            for nominee in nominees {
                let is_new = seen.insert((tier, nominee.id, nominee.at.clone()));
                if is_new && visits.len() < SURVEY_PLACES_MAX {
                    visits.push((sources.len(), nominee));
                }
            }
            sources.push((tier, source));
        }
        let dials = AtomicUsize::new(0);
        let mut visiting: Vec<BoxFuture<'_, Place>> = Vec::new();
        for (_, nominee) in &visits {
            visiting.push(Box::pin(self.look_at(nominee, &dials)));
        }
        let mut visiting = stream::iter(visiting).buffered(AT_ONCE);
        let mut places = Vec::new();
        while let Ok(Some(place)) = timeout_at(end, visiting.next()).await {
            places.push(place);
        }
        drop(visiting);
        for (number, (source, nominee)) in visits.iter().enumerate() {
            let late = || self.place(nominee, PlaceOutcome::Skipped);
            let place = places.get(number).cloned().unwrap_or_else(late);
            let source = &mut sources[*source].1;
            source.refused += u64::from(place.outcome == PlaceOutcome::Refused);
            source.places.push(place);
        }
        let mut by_tier: BTreeMap<TierName, Vec<Source>> = BTreeMap::new();
        for (tier, source) in sources {
            by_tier.entry(tier).or_default().push(source);
        }
        by_tier
    }

    fn place(&self, nominee: &Nominee, outcome: PlaceOutcome) -> Place {
        let known = nominee.id.is_some_and(|id| self.known.heard.contains(&id));
        Place { id: nominee.id, address: nominee.at.clone(), known, outcome, ms: None, failure: None }
    }

    async fn look_at(&self, nominee: &Nominee, dials: &AtomicUsize) -> Place {
        let place = |outcome| self.place(nominee, outcome);
        if nominee.id.is_some() && nominee.id == self.known.me || self.known.own.contains(&nominee.at) {
            return place(PlaceOutcome::Itself);
        }
        if nominee.id.is_some_and(|id| self.known.blocked.contains(&id)) {
            return place(PlaceOutcome::Blocked);
        }
        if let Some(rtt) = nominee.id.and_then(|id| self.known.connected.get(&id)) {
            return Place { ms: *rtt, ..place(PlaceOutcome::Connected) };
        }
        let is_own = |at| self.known.own.contains(&HostPort::from_socket(at));
        match net::dialled_at(&nominee.at, self.known.profile, nominee.word).await {
            Ok(places) if places.iter().copied().any(is_own) => return place(PlaceOutcome::Itself),
            Ok(_) => {}
            Err(unmet) => return self.missed(nominee, &unmet),
        }
        match &self.dialler {
            None => place(PlaceOutcome::Found),
            Some(_) if dials.fetch_add(1, Ordering::Relaxed) >= SURVEY_DIALS_MAX => place(PlaceOutcome::Skipped),
            Some(dialler) => self.dial(dialler, nominee).await,
        }
    }

    async fn dial(&self, dialler: &net::Context, nominee: &Nominee) -> Place {
        let place = |outcome| self.place(nominee, outcome);
        let begun = Instant::now();
        let met = net::meet(dialler, &nominee.at, nominee.word).await;
        match met {
            Ok(found) if nominee.id.is_none_or(|id| id == found) => {
                let known = self.known.heard.contains(&found);
                let took = Some(ms(begun.elapsed()));
                Place { id: Some(found), known, ms: took, ..place(PlaceOutcome::Verified) }
            }
            Ok(found) => Place { failure: Some(another(found, &nominee.at)), ..place(PlaceOutcome::Failed) },
            Err(unmet) => self.missed(nominee, &unmet),
        }
    }

    fn missed(&self, nominee: &Nominee, unmet: &Unmet) -> Place {
        let outcome = match unmet.class {
            Miss::Itself => return self.place(nominee, PlaceOutcome::Itself),
            Miss::Forbidden => PlaceOutcome::Refused,
            Miss::Unresolved | Miss::Refused | Miss::Silent | Miss::NoRoute | Miss::Closed | Miss::NotANode => {
                PlaceOutcome::Failed
            }
        };
        Place { failure: Some(failed(unmet)), ..self.place(nominee, outcome) }
    }
}

fn another(found: NodeId, at: &HostPort) -> Failed {
    Failed {
        class: "wrong_key".to_owned(),
        why: format!("another node answers at {at}: {found}"),
        next: "whoever names it is out of date, or wrong; the node there may be known under its own id".to_owned(),
    }
}

/// Puts the sources where they belong; `state` says how each tier stands by itself.
pub(super) fn answers(
    tiers: &BTreeSet<TierName>,
    mut sources: BTreeMap<TierName, Vec<Source>>,
    state: impl Fn(TierName) -> (TierState, Option<u64>),
    note: impl Fn(TierName) -> Option<String>,
) -> Vec<TierAnswer> {
    let answer = |tier: &TierName| {
        let (state, next_in_ms) = state(*tier);
        let sources = sources.remove(tier).unwrap_or_default();
        let note = if sources.is_empty() { note(*tier) } else { None };
        TierAnswer { tier: *tier, state, next_in_ms, note, sources }
    };
    tiers.iter().map(answer).collect()
}

/// Why a tier has nothing to ask, and what would change that.
pub(super) fn note(tier: TierName, is_on: bool) -> String {
    let words = match (tier, is_on) {
        (TierName::Dns, _) => "no zone is named; next: discovery.dns = [\"ZONE\"] in the configuration",
        (TierName::Seeds, _) => {
            "no list is named; next: discovery.seeds = a channel (stable, example) or a file, by a path with a `/`"
        }
        (TierName::Exchange, false) => "turned off by discovery.exchange = false",
        (TierName::Exchange, true) => "no peer is connected, so nobody can be asked; next: afferent peers",
        (TierName::Manual, _) => "nobody was added by hand; next: afferent peers add mesh://ID@HOST:PORT",
    };
    words.to_owned()
}

/// A dry run without a daemon: the configuration, the DNS and the seeds are asked, and nobody is dialled.
/// `me` = this node, if it has a key already.
pub async fn look(settings: &Settings, me: Option<NodeId>, tiers: &BTreeSet<TierName>, now: Wall) -> Discovery {
    let end = Instant::now() + SURVEY_MAX;
    let own: BTreeSet<HostPort> = settings.node.addresses.iter().cloned().collect();
    let own = own.into_iter().chain(super::record::places(&settings.node.listen)).collect();
    let sources = tiers_of(settings, me, settings.node.addresses.clone());
    let answered = futures_util::future::join_all(questions(&sources, tiers, now)).await;
    let mut asked: Vec<Asked> = answered.iter().flat_map(|answer| Asked::of_answer(answer, now)).collect();
    if tiers.contains(&TierName::Manual) {
        let friend = |peer: &crate::config::Peer| {
            Asked::of_friend(peer.id, peer.alias.as_deref(), std::slice::from_ref(&peer.at), now)
        };
        asked.extend(settings.peers.iter().map(friend));
    }
    let (heard, blocked, connected) = Default::default();
    let known = Known { me, profile: settings.node.profile, own, heard, blocked, connected };
    let visited = Survey { known, dialler: None }.visit(asked, end).await;
    let state = |tier| (if sources.is_on(tier) { TierState::Unknown } else { TierState::Off }, None);
    let offline_note = |tier| match tier {
        TierName::Exchange if sources.is_on(tier) => {
            Some("only a daemon that runs can ask its peers; next: afferent run".to_owned())
        }
        TierName::Manual => {
            Some("the configuration has no [[peers]]; whom `peers add` added, the daemon knows".to_owned())
        }
        _ => Some(note(tier, sources.is_on(tier))),
    };
    let tiers = answers(tiers, visited, state, offline_note);
    Discovery { asked: true, dry_run: true, standing: None, wanted: None, tiers }
}

/// What zones and seeds are asked, if they are among the tiers.
pub(super) fn questions(sources: &Tiers, tiers: &BTreeSet<TierName>, now: Wall) -> Vec<BoxFuture<'static, Answer>> {
    let wanted = [(TierName::Dns, Tier::Dns), (TierName::Seeds, Tier::Seed)];
    let wanted = wanted.into_iter().filter(|(name, _)| tiers.contains(name) && sources.is_on(*name));
    wanted.map(|(_, tier)| sources.asking(tier, now)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Keypair;

    #[tokio::test]
    async fn a_blocked_node_is_left_alone_whoever_names_it() {
        let ids = [1, 2].map(|seed| Keypair::from_seed(&[seed; 32]).id());
        let (own, heard, connected) = Default::default();
        let blocked = Arc::new([ids[0]].into());
        let known = Known { me: None, profile: Profile::Loopback, own, heard, blocked, connected };
        let survey = Survey { known, dialler: None };
        let at: HostPort = "127.9.0.1:7443".parse().expect("a place");
        let dials = AtomicUsize::new(0);
        for (id, expected) in ids.into_iter().zip([PlaceOutcome::Blocked, PlaceOutcome::Found]) {
            let nominee = Nominee { id: Some(id), at: at.clone(), word: Word::Near };
            assert_eq!(survey.look_at(&nominee, &dials).await.outcome, expected);
        }
    }
}
