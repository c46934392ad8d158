//! What people see of the tiers of discovery, and the surveys that they ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::driver::Driver;
use super::record;
use super::survey::{self, Asked, Known, SURVEY_MAX, Survey};
use super::tiers;
use crate::admin::tiers::{Discovery, Source, TierAnswer, TierName, TierState, TierStatus};
use crate::core::ports::{Input, Origin};
use crate::core::tier::Tier;
use crate::core::{Due, PeerState, PeerView, Search, View};
use crate::net;
use crate::time::{Mono, Wall};
use crate::wire::{HostPort, NodeId, Record, Verified, Word};

impl Driver {
    pub(super) fn look_up(&self, tier: Tier) {
        let answered = self.answered.0.clone();
        // The driver has ended: nobody is left to care.
        self.hands.tiers.ask(tier, self.clock.now().wall, move |answer| drop(answered.send(answer)));
    }

    pub(super) fn on_tier(&mut self, answer: tiers::Answer) {
        let tier = answer.tier;
        let result = self.hands.tiers.hear(answer, self.clock.now().wall);
        self.feed(Input::Found { tier, result });
    }

    /// Learns whose key answers there.
    pub(super) fn introduce(&self, at: HostPort, tier: Tier, word: Word) {
        let (context, answer) = (self.hands.net.clone(), self.introduced.0.clone());
        tokio::spawn(async move {
            let result = net::identify(&context, &at, word).await;
            // The driver has ended: nobody is left to care.
            let _ = answer.send(Input::Introduced { at, tier, result });
        });
    }

    /// A neighbour said whom it knows.
    pub(super) fn on_heard(&mut self, teller: NodeId, records: Vec<Verified<Record>>) {
        let teller_name = self.node.alias(&teller).map_or_else(|| teller.short(), str::to_owned);
        self.hands.tiers.hear_told(&teller_name, records.len(), self.clock.now().wall);
        if !records.is_empty() {
            self.feed(Input::Heard { teller, asked: true, records });
        }
    }

    /// Each tier in one line.
    pub(super) fn tier_statuses(&self, view: &View) -> Vec<TierStatus> {
        let search = self.node.search();
        TierName::ALL.map(|tier| self.tier_status(tier, &search, view)).into()
    }

    fn tier_status(&self, tier: TierName, search: &Search, view: &View) -> TierStatus {
        let (state, next_in_ms) = self.tier_state(tier, search, view);
        if tier == TierName::Manual {
            let at = friends(view).filter_map(|peer| peer.seen).max();
            return TierStatus { tier, state, at, found: friends(view).count() as u64, why: None, next_in_ms };
        }
        let last = || self.hands.tiers.last(tier);
        let failed = |source: &Source| {
            let failure = source.failure.as_ref()?;
            Some(format!("{}: {}", tiers::title(tier, &source.source), failure.why))
        };
        let failed: Vec<String> = last().filter_map(failed).collect();
        TierStatus {
            tier,
            state,
            at: last().filter_map(|source| source.at).max(),
            found: last().map(|source| source.found).sum(),
            why: (!failed.is_empty()).then(|| failed.join("; ")),
            next_in_ms,
        }
    }

    /// How a tier stands by itself, and the milliseconds until it is asked.
    fn tier_state(&self, tier: TierName, search: &Search, view: &View) -> (TierState, Option<u64>) {
        let due = match tier {
            TierName::Dns => search.dns,
            TierName::Exchange => search.exchange,
            TierName::Seeds => search.seeds,
            TierName::Manual => manual_due(view),
        };
        let now = self.clock.mono();
        match due {
            Due::Off => (TierState::Off, None),
            Due::Asked => (TierState::Asking, None),
            Due::Resting => (TierState::Resting, None),
            Due::At(at) => (TierState::Waiting, Some(u64::try_from(at.since(now).as_millis()).unwrap_or(u64::MAX))),
        }
    }

    /// What each tier answered last. Nothing is asked.
    pub(super) fn last_discovery(&self) -> Discovery {
        let (view, search) = (self.node.view(), self.node.search());
        let answer = |tier| {
            let (state, next_in_ms) = self.tier_state(tier, &search, &view);
            let sources: Vec<Source> = match tier {
                TierName::Manual => friends(&view).map(last_of_friend).collect(),
                _ => self.hands.tiers.last(tier).cloned().collect(),
            };
            let is_on = state != TierState::Off;
            let note = (sources.is_empty() && !is_on).then(|| survey::note(tier, is_on));
            TierAnswer { tier, state, next_in_ms, note, sources }
        };
        let tiers = TierName::ALL.map(answer).into();
        let (standing, wanted) = (Some(search.standing as u64), Some(search.wanted as u64));
        Discovery { asked: false, dry_run: true, standing, wanted, tiers }
    }

    /// Asks these tiers now. What they name is told to the core as ever, and dialled here to say what came of
    /// it; neither in a dry run. One survey after the other.
    pub(super) fn discover(&self, tiers: BTreeSet<TierName>, is_dry: bool, answer: oneshot::Sender<Discovery>) {
        let now = self.clock.now().wall;
        let (view, search) = (self.node.view(), self.node.search());
        let questions = survey::questions(&self.hands.tiers, &tiers, now);
        let neighbours = self.ask_neighbours(&tiers, is_dry, &view, now);
        let is_asked = tiers.contains(&TierName::Manual);
        let typed = friends(&view).filter(|_| is_asked);
        let typed: Vec<Asked> = typed
            .map(|peer| {
                Asked::of_friend(peer.id, peer.alias.as_deref(), peer.addresses.get(..1).unwrap_or_default(), now)
            })
            .collect();
        let states: BTreeMap<TierName, TierState> =
            tiers.iter().map(|tier| (*tier, self.tier_state(*tier, &search, &view).0)).collect();
        let survey = Survey { known: self.known_places(&view), dialler: (!is_dry).then(|| self.hands.net.clone()) };
        let (answered, turns) = (self.answered.0.clone(), self.surveys.clone());
        tokio::spawn(async move {
            let Ok(_turn) = turns.acquire().await else { return };
            let end = Instant::now() + SURVEY_MAX;
            let (answers, told) = tokio::join!(join_all(questions), join_all(neighbours));
            let mut asked = Vec::new();
            for answer in answers {
                asked.extend(Asked::of_answer(&answer, now));
                if !is_dry {
                    // The driver has ended: nobody is left to care.
                    let _ = answered.send(answer);
                }
            }
            asked.extend(told);
            asked.extend(typed);
            let visited = Box::pin(survey.visit(asked, end)).await;
            let state = |tier| (states[&tier], None);
            let note = |tier| Some(survey::note(tier, states[&tier] != TierState::Off));
            let tiers = survey::answers(&tiers, visited, state, note);
            let (standing, wanted) = (Some(search.standing as u64), Some(search.wanted as u64));
            // Whoever asked may be gone.
            let _ = answer.send(Discovery { asked: true, dry_run: is_dry, standing, wanted, tiers });
        });
    }

    /// Asks every connected peer whom else it knows.
    fn ask_neighbours(
        &self,
        tiers: &BTreeSet<TierName>,
        is_dry: bool,
        view: &View,
        now: Wall,
    ) -> Vec<impl Future<Output = Asked> + Send + 'static> {
        let is_asked = tiers.contains(&TierName::Exchange) && self.hands.tiers.exchange;
        let connected = view.peers.iter().filter(|peer| is_asked && is_connected(peer));
        let ask = |peer: &PeerView| {
            let (_, lane) = self.lanes.get(&peer.id)?;
            let name = peer.alias.clone().unwrap_or_else(|| peer.id.short());
            Some(Asked::of_neighbour(name, lane.ask_others(is_dry), now))
        };
        connected.filter_map(ask).collect()
    }

    fn known_places(&self, view: &View) -> Known {
        let strangers = self.node.strangers(self.clock.now());
        let heard = view.peers.iter().chain(&strangers).map(|peer| peer.id).collect();
        let ms = |peer: &PeerView| peer.rtt.map(tiers::ms);
        let connected: BTreeMap<NodeId, Option<f64>> =
            view.peers.iter().filter(|peer| is_connected(peer)).map(|peer| (peer.id, ms(peer))).collect();
        let own = record::places(&self.facts.listen).into_iter().chain(self.record.addresses()).collect();
        let blocked = Arc::clone(&self.hands.blocked.borrow());
        Known { me: Some(view.me), profile: self.facts.profile, own, heard, blocked, connected }
    }
}

fn friends(view: &View) -> impl Iterator<Item = &PeerView> {
    view.peers.iter().filter(|peer| peer.origin == Origin::Manual)
}

fn is_connected(peer: &PeerView) -> bool {
    matches!(peer.state, PeerState::Connected { .. })
}

/// Those that were typed in are called until they answer.
fn manual_due(view: &View) -> Due {
    let retry = |peer: &PeerView| match peer.state {
        PeerState::Backoff { until, .. } | PeerState::Suspect { until, .. } => Some(until),
        _ => None,
    };
    let next: Option<Mono> = friends(view).filter_map(retry).min();
    match (next, friends(view).next()) {
        (Some(at), _) => Due::At(at),
        (None, Some(_)) if friends(view).any(|peer| peer.state == PeerState::Dialling) => Due::Asked,
        (None, Some(_)) => Due::Resting,
        (None, None) => Due::Off,
    }
}

fn last_of_friend(peer: &PeerView) -> Source {
    Source {
        source: peer.alias.clone().unwrap_or_else(|| peer.id.short()),
        at: peer.seen,
        ms: peer.rtt.map(tiers::ms),
        found: 1,
        refused: 0,
        ignored: 0,
        failure: None,
        places: Vec::new(),
    }
}
