//! What people and local programs ask of the driver.

use tokio::sync::oneshot;
use tokio::task::block_in_place;

use super::driver::{Driver, Waiting};
use super::{facts, metrics, neighbours, record};
use crate::admin::answers::{Identified, InterestsView, Matched, Matches, Peer, PeerState, Pinged, Status, Unreached};
use crate::admin::{Fault, FaultCode, InterestsChange, Request};
use crate::core::ports::{Input, Log as _, Origin};
use crate::core::{self, Prospect, View};
use crate::net;
use crate::store::{Stats, interests};
use crate::wire::{Digest, EventType, HostPort, NodeId, PeerAddress, Word};

impl Driver {
    /// Answers at once, or hands the question on and answers later. An asker that is gone is no loss.
    pub(super) fn on_request(&mut self, request: Request) {
        match request {
            Request::Status { answer } => {
                let stats = block_in_place(|| self.hands.journal.stats());
                let _ = answer.send(self.status(&self.node.view(), &stats));
            }
            Request::Id { answer } => {
                let _ = answer.send(self.facts.identity(self.hands.net.id(), &self.record.addresses()));
            }
            Request::Peers { all, answer } => drop(answer.send(self.known(all))),
            Request::History { id, answer } => drop(answer.send(self.history(&id))),
            Request::Order { id, order, answer } => self.decide(id, order, answer),
            Request::Identify { at, answer } => self.identify(at, answer),
            Request::AddPeer { id, at, alias, answer } => self.add_peer(id, at, alias, answer),
            Request::NamePeer { id, alias, answer } => self.name_peer(id, alias, answer),
            Request::Ping { id, answer } => self.ping(id, answer),
            Request::Match { kind, answer } => {
                let prospects = self.node.prospects(&kind, self.clock.now().wall);
                let _ = answer.send(matches(&kind, self.node.wants(&kind), prospects, &self.node.view()));
            }
            Request::Discovery { answer } => {
                let _ = answer.send(self.last_discovery());
            }
            Request::Discover { tiers, dry_run, answer } => self.discover(tiers, dry_run, answer),
            Request::Leave { answer } => self.leave(answer),
            Request::RemovePeer { id, answer } => self.remove_peer(id, answer),
            Request::Publish { emitted, taken, answer } => self.publish(emitted, taken, answer),
            Request::Reach { to, causation, answer } => drop(answer.send(self.reach(to, causation))),
            Request::Interests { answer } => {
                let _ = answer.send(self.interests_view());
            }
            Request::Metrics { answer } => {
                let _ = answer.send(self.metrics_page());
            }
            Request::Trust { answer } => {
                let _ = answer.send(self.trust_view());
            }
            Request::SetMuted { mute, unmute, answer } => {
                let _ = answer.send(self.change_mutes(&mute, &unmute));
            }
            Request::SetInterests { change, answer } => {
                let _ = answer.send(self.change_interests(&change));
            }
            Request::Letters { .. }
            | Request::Letter { .. }
            | Request::RetryLetter { .. }
            | Request::DropLetter { .. }
            | Request::MendBus { .. } => self.on_bus_request(request),
        }
    }

    pub(super) fn status(&self, view: &View, stats: &Stats) -> Status {
        let mut status = self.facts.status(view, stats, &self.record.addresses(), &self.clock);
        let now = self.clock.now();
        let first = self.notes.warning(now.wall).into_iter().chain(self.clocks.warning(now.mono));
        status.warnings = first.chain(status.warnings).collect();
        status.discovery = self.tier_statuses(view);
        status
    }

    fn metrics_page(&self) -> String {
        let stats = block_in_place(|| self.hands.journal.stats());
        let view = self.node.view();
        let bus = self.facts.bus_state();
        let seen = metrics::Seen {
            status: &self.status(&view, &stats),
            states: &view.peers.iter().map(facts::state_of).collect::<Vec<_>>(),
            bus: bus.as_ref(),
            view: &view,
            stats: &stats,
            net: self.hands.net.counters(),
            tiers: self.hands.tiers.counts,
            muted: self.trust.policy.borrow().muted().len(),
            alone: view.alone_for(self.clock.mono()).is_some(),
            turns: &self.turns,
        };
        self.metrics.page(&seen)
    }

    fn identify(&self, at: HostPort, answer: oneshot::Sender<Result<Identified, Fault>>) {
        let (net, me) = (self.hands.net.clone(), self.hands.net.id());
        tokio::spawn(async move {
            let found = match net::identify(&net, &at, Word::Typed).await {
                Ok(id) if id == me => Err(Fault::new(FaultCode::OwnAddress, format!("{at} leads to this very node"))),
                Ok(id) => Ok(Identified { address: PeerAddress { id: Some(id), at }, id }),
                Err(why) => Err(Fault::new(FaultCode::Unreachable, why)),
            };
            let _ = answer.send(found);
        });
    }

    fn add_peer(
        &mut self,
        id: NodeId,
        at: HostPort,
        alias: Option<String>,
        answer: oneshot::Sender<Result<(), Fault>>,
    ) {
        if let Err(fault) = self.may_add(id, &at, alias.as_deref()) {
            let _ = answer.send(Err(fault));
            return;
        }
        let ticket = self.ticket(Waiting::Saved(answer));
        self.feed(Input::PeerAdded { ticket, id, at, alias });
    }

    fn may_add(&self, id: NodeId, at: &HostPort, alias: Option<&str>) -> Result<(), Fault> {
        if id == self.hands.net.id() {
            return Err(Fault::new(FaultCode::OwnAddress, "this is the id of this very node"));
        }
        if self.node.is_blocked(&id) {
            return Err(neighbours::blocked());
        }
        if record::own_places(&self.facts.listen, self.record.configured()).contains(at) {
            return Err(Fault::new(FaultCode::OwnAddress, format!("{at} is an address of this very node")));
        }
        let peers = self.node.view().peers;
        let holder = peers.iter().find(|peer| alias.is_some() && peer.alias.as_deref() == alias && peer.id != id);
        if let Some(holder) = holder {
            return Err(Fault::new(FaultCode::Alias, format!("this alias means {} already", holder.id.short())));
        }
        let manual = peers.iter().filter(|peer| peer.origin == Origin::Manual && peer.id != id).count();
        if manual >= self.facts.peers_max {
            let why = format!("{manual} peers were added by hand, the limit of discovery.max_peers; remove one first");
            return Err(Fault::new(FaultCode::PeersFull, why));
        }
        Ok(())
    }

    fn name_peer(&mut self, id: NodeId, alias: Option<String>, answer: oneshot::Sender<Result<(), Fault>>) {
        let fault = match self.node.view().peers {
            peers if !peers.iter().any(|peer| peer.id == id) => Some((FaultCode::NoSuchPeer, "no such peer")),
            peers if alias.is_some() && peers.iter().any(|peer| peer.alias == alias && peer.id != id) => {
                Some((FaultCode::Alias, "this alias means another peer already"))
            }
            _ => None,
        };
        if let Some((code, why)) = fault {
            let _ = answer.send(Err(Fault::new(code, why)));
            return;
        }
        let ticket = self.ticket(Waiting::Saved(answer));
        self.feed(Input::PeerNamed { ticket, id, alias });
    }

    fn ping(&self, id: NodeId, answer: oneshot::Sender<Result<Pinged, Fault>>) {
        let peers = self.known(false).peers;
        let peer = peers.into_iter().find(|peer| peer.id == id);
        let stands = |peer: &Peer| peer.state == PeerState::Connected;
        let Some((peer, lane)) = peer.filter(stands).zip(self.lanes.get(&id)) else {
            let _ = answer.send(Err(Fault::new(FaultCode::Unreachable, "no lane to this peer stands now")));
            return;
        };
        let echo = lane.1.ping();
        tokio::spawn(async move {
            let broke = |_| Fault::new(FaultCode::Unreachable, "the peer gave no answer");
            let ms = |span: std::time::Duration| (span.as_secs_f64() * 1e6).round() / 1e3;
            let pinged = echo.await.map_err(broke).map(|net::Echo { waited, rtt, clock_ahead_ms }| Pinged {
                id,
                alias: peer.alias,
                rtt_ms: ms(rtt),
                waited_ms: ms(waited),
                clock_ahead_ms,
            });
            let _ = answer.send(pinged);
        });
    }

    fn remove_peer(&mut self, id: NodeId, answer: oneshot::Sender<Result<(), Fault>>) {
        if self.node.is_blocked(&id) && !self.node.view().peers.iter().any(|peer| peer.id == id) {
            let _ = answer.send(Err(neighbours::blocked())); // it is no peer, and nothing else is known of it
            return;
        }
        // While the file still has it, removing it again writes the file again.
        if self.unsaved.is_none() && !self.node.view().peers.iter().any(|peer| peer.id == id) {
            let _ = answer.send(Err(Fault::new(FaultCode::NoSuchPeer, "no such peer")));
            return;
        }
        let ticket = self.ticket(Waiting::Saved(answer));
        self.feed(Input::PeerRemoved { ticket, id });
    }

    /// Who of these does not get what is addressed to them, and why.
    fn reach(&self, to: Vec<NodeId>, causation: Option<Digest>) -> Vec<Unreached> {
        let question = causation.and_then(|digest| block_in_place(|| self.hands.journal.question(&digest)));
        let is_late = question.is_some_and(|question| question.deadline <= self.clock.now().wall);
        let late = (is_late).then_some("the deadline of the question that it answers has passed");
        let why = |id: &NodeId| self.node.unreached(id).map(unreached).or(late.filter(|_| *id != self.hands.net.id()));
        to.into_iter().filter_map(|id| why(&id).map(|why| Unreached { id, why: why.to_owned() })).collect()
    }

    fn interests_view(&self) -> InterestsView {
        self.facts.interests(&self.node.view(), true)
    }

    /// Durable first, then signed into the record that neighbours get, then in force.
    fn change_interests(&mut self, change: &InterestsChange) -> Result<InterestsView, Fault> {
        let wanted = change.apply(self.record.interests())?;
        let now = self.clock.now();
        let storage = |error: crate::store::StoreError| Fault::new(FaultCode::Storage, error.to_string());
        block_in_place(|| {
            interests::save(&self.hands.dir, &self.facts.configured, &wanted)?;
            self.record.set_interests(wanted.clone(), now)
        })
        .map_err(storage)?;
        self.hands.interests.send_replace(wanted.clone());
        self.feed(Input::Interests(wanted));
        Ok(self.interests_view())
    }
}

/// Why what is addressed to a node goes to nobody, in words.
pub(super) fn unreached(why: core::Unreached) -> &'static str {
    match why {
        core::Unreached::Unknown => "it is no peer of this node, and nothing is known of it (afferent peers add)",
        core::Unreached::Asking => "it asks to be a neighbour, and nobody has accepted it yet (afferent peers accept)",
        core::Unreached::Outside => "it is not in trust.allow",
        core::Unreached::Blocked => "it is blocked (afferent peers unblock)",
    }
}

/// Who would get it first, then by id.
fn matches(kind: &EventType, own: bool, prospects: Vec<(NodeId, Prospect)>, view: &View) -> Matches {
    let matched = |(id, prospect): (NodeId, Prospect)| {
        let peer = view.peers.iter().find(|peer| peer.id == id);
        let why = match &prospect {
            Prospect::Wanted(pattern) => format!("it asks for `{pattern}`"),
            Prospect::Firehose(pattern) => {
                format!("it asks for `{pattern}`, which only peers added by hand or in trust.firehose get")
            }
            Prospect::Unwanted => "none of its patterns asks for it".to_owned(),
            Prospect::Unknown => "its patterns are not known, or no longer count".to_owned(),
            Prospect::Outside => "it is not in trust.allow".to_owned(),
            Prospect::Asking => "it asks to be a neighbour, and nobody has accepted it yet".to_owned(),
            Prospect::Blocked => "it is blocked".to_owned(),
            Prospect::Kept => "events of this type never leave this node".to_owned(),
        };
        Matched {
            id,
            alias: peer.and_then(|peer| peer.alias.clone()),
            connected: peer.is_some_and(|peer| matches!(peer.state, core::PeerState::Connected { .. })),
            wants: matches!(prospect, Prospect::Wanted(_)),
            why,
        }
    };
    let mut peers: Vec<Matched> = prospects.into_iter().map(matched).collect();
    peers.sort_by_key(|peer| !peer.wants);
    Matches { kind: kind.to_string(), own, peers }
}
