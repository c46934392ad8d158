//! Everybody's newest record: what is news, who said goodbye, who says two things under one number.
//!
//! | heard | held | news |
//! |---|---|---|
//! | of our own key, older than ours or ours | ours | own |
//! | of our own key otherwise | ours | own key elsewhere |
//! | expired, or of a lower `seq` | whatever | stale |
//! | the same `seq`, the same bytes | that one | known |
//! | the same `seq`, other bytes | another | equivocation |
//! | a higher `seq`, or nothing is held | | fresh, or a goodbye |
//!
//! A goodbye is a record like any other, so only the node's own key says it, and only a higher `seq`
//! takes it back. It is held for [`LEFT_FOR`], longer than any older record can live: a stale copy that
//! somebody still hands round revives nobody. A restart says none.

use std::collections::BTreeMap;

use super::Node;
use super::params::LEFT_FOR;
use super::ports::{Note, Output};
use crate::time::{Now, Wall};
use crate::wire::{Digest, NodeId, Record, Verified, Word};

/// Records remembered by number and digest, some 150 bytes each. Beyond it the one that ends first is
/// forgotten: then an older copy of that record could pass for news once more.
pub const HELD_MAX: usize = 8_192;

/// What a record means to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum News {
    /// The newest so far.
    Fresh,
    /// The newest so far, and it says goodbye.
    Goodbye,
    /// The very record that is held.
    Known,
    /// Expired, or older than what is held.
    Stale,
    /// Its node signed another one with the same number.
    Equivocation,
    /// Our own, handed round.
    Own,
    /// Signed by our key, and not by us.
    OwnKeyElsewhere,
}

/// What is remembered of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Held {
    seq: u64,
    digest: Digest,
    until: Wall,
}

impl Held {
    fn of(record: &Record, now: Wall) -> Held {
        let until = if record.bye { record.expires().max(now + LEFT_FOR) } else { record.expires() };
        Held { seq: record.seq, digest: record.envelope().digest(), until }
    }
}

/// What a record of somebody else means beside the one that is `held` of its node.
pub(super) fn judge(held: Option<&Held>, heard: &Record, now: Wall) -> News {
    if heard.expires() <= now {
        return News::Stale;
    }
    match held {
        Some(held) if heard.seq < held.seq => News::Stale,
        Some(held) if heard.seq == held.seq && heard.envelope().digest() == held.digest => News::Known,
        Some(held) if heard.seq == held.seq => News::Equivocation,
        _ if heard.bye => News::Goodbye,
        _ => News::Fresh,
    }
}

/// What is remembered of records.
#[derive(Default)]
pub(super) struct Records {
    own: Option<Held>,
    held: BTreeMap<NodeId, Held>,
}

impl Records {
    /// We signed this one: the newest of our own.
    pub(super) fn sign(&mut self, record: &Record, now: Wall) {
        self.own = Some(Held::of(record, now));
    }

    /// What this record means. Nothing changes by that.
    pub(super) fn judge(&self, me: &NodeId, record: &Record, now: Wall) -> News {
        if record.id() != *me {
            return judge(self.held.get(&record.id()), record, now);
        }
        match &self.own {
            // An older one is of an earlier life, and nobody heeds it.
            Some(own) => match judge(Some(own), record, now) {
                News::Known | News::Stale => News::Own,
                _ => News::OwnKeyElsewhere,
            },
            None => News::Own,
        }
    }

    /// Is this record of our own key the one that we signed last, or one of an earlier life?
    pub(super) fn is_ours(&self, record: &Record) -> bool {
        let is_same = |own: &Held| record.seq == own.seq && record.envelope().digest() == own.digest;
        self.own.is_none_or(|own| record.seq < own.seq || is_same(&own))
    }

    /// Remembers a record that was taken.
    pub(super) fn hold(&mut self, record: &Record, now: Wall) {
        self.keep(record.id(), Held::of(record, now), now);
    }

    fn keep(&mut self, id: NodeId, held: Held, now: Wall) {
        self.held.insert(id, held);
        if self.held.len() > HELD_MAX {
            self.held.retain(|_, held| now < held.until);
        }
        if self.held.len() > HELD_MAX {
            let soonest = self.held.iter().min_by_key(|(_, held)| held.until).map(|(id, _)| *id);
            soonest.map(|id| self.held.remove(&id));
        }
    }
}

impl Node {
    /// A node gave us its own record over a connection that proved its key.
    pub(super) fn on_met(&mut self, record: Verified<Record>, word: Word, now: Now, out: &mut Vec<Output>) {
        let peer = record.id();
        if self.peers.is_shunned(&peer, now.wall) {
            return;
        }
        self.peers.on_heard_from(&peer, word);
        match self.records.judge(&self.me, &record, now.wall) {
            News::Known if record.bye => {} // it is told everybody, and said again until they have it
            // We call on it to hand it something, not to make it a peer.
            News::Fresh | News::Known if self.tree.is_linking(&peer) && !self.peers.knows(&peer) => {
                self.peers.on_met_by_link(&record, now);
            }
            News::Fresh | News::Known => {
                let held = Held::of(&record, now.wall);
                let is_new = self.peers.on_met(record, word, now, out);
                if self.peers.knows(&peer) {
                    self.records.keep(peer, held, now.wall);
                }
                self.close_forgotten(out);
                if is_new && self.peers.is_served(&peer) {
                    self.open_account(peer, out);
                }
            }
            News::Stale => self.peers.on_contact(peer, now),
            news => self.on_no_record(news, record, now, out),
        }
    }

    /// Somebody carried a record of another node to us.
    pub(super) fn on_record_heard(
        &mut self,
        record: Verified<Record>,
        teller: Option<NodeId>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        if self.peers.is_shunned(&record.id(), now.wall) {
            return;
        }
        match self.records.judge(&self.me, &record, now.wall) {
            News::Fresh => {
                if self.peers.knows(&record.id()) {
                    self.records.hold(&record, now.wall);
                }
                if let Some(teller) = teller
                    && !self.peers.on_heard(record, teller, now, out)
                {
                    self.counts.records_ignored += 1;
                }
            }
            News::Known | News::Stale => {}
            news => self.on_no_record(news, record, now, out),
        }
    }

    /// What a record says that makes nobody better known.
    fn on_no_record(&mut self, news: News, record: Verified<Record>, now: Now, out: &mut Vec<Output>) {
        let peer = record.id();
        match news {
            News::Goodbye => {
                self.records.hold(&record, now.wall);
                if self.peers.on_left(record, now, out) {
                    self.outbox.on_broken(&peer);
                    self.tree.lost.push(peer);
                    out.push(Output::Note(Note::PeerLeft(peer)));
                }
            }
            News::Equivocation => {
                let is_exempt = self.peers.is_manual(&peer);
                if self.peers.quarantine(peer, "it signed two records with one number", now, out) {
                    out.push(Output::Note(Note::PeerEquivocates { peer, is_exempt }));
                }
            }
            News::OwnKeyElsewhere => {
                let (event, seq) = (record.envelope().digest(), Some(record.seq));
                out.push(Output::Note(Note::OwnKeyElsewhere { event, seq }));
            }
            News::Fresh | News::Known | News::Stale | News::Own => {}
        }
    }

    /// The record that we hold of a node, when it is newer than the one of this number that the node itself
    /// showed: somebody else signs with its key, and whoever is behind learns of it by nothing else.
    pub fn newer_record(&self, of: &NodeId, than: u64, now: Now) -> Option<String> {
        let held = self.peers.record_of(of).filter(|held| held.seq > than && now.wall < held.expires())?;
        let is_told = !self.peers.is_shunned(of, now.wall) && !self.peers.is_closed_to(of);
        is_told.then(|| held.envelope().line(0, false))
    }

    /// A node with a proved key called on us.
    pub(super) fn on_contact(&mut self, peer: NodeId, now: Now) {
        self.on_called(&peer, now);
        if !self.peers.is_shunned(&peer, now.wall) {
            self.peers.on_contact(peer, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::params::DAY;
    use super::*;
    use crate::wire::{Keypair, RecordDraft};

    const NOW: Wall = Wall::from_millis(1_795_243_262_123);

    fn id(seed: u8) -> NodeId {
        Keypair::from_seed(&[seed; 32]).id()
    }

    /// Record `seq` of node `seed`, one of many with that number, signed `age` ago.
    fn record(seed: u8, seq: u64, variant: u16, age: Duration) -> Verified<Record> {
        let addresses = vec![format!("birch.example:{}", 1_024 + variant).parse().expect("an address")];
        let draft = RecordDraft { seq, addresses, ..RecordDraft::default() };
        draft.seal(NOW - age, &Keypair::from_seed(&[seed; 32])).expect("a record")
    }

    fn goodbye(seed: u8, seq: u64) -> Verified<Record> {
        let draft = RecordDraft { seq, ..RecordDraft::default() };
        draft.seal_goodbye(NOW, &Keypair::from_seed(&[seed; 32])).expect("a record")
    }

    fn holding(record: &Record) -> Records {
        let mut records = Records::default();
        records.hold(record, NOW);
        records
    }

    #[test]
    fn a_goodbye_outlives_every_older_record_and_a_higher_number_takes_it_back() {
        let records = holding(&goodbye(2, 8));
        let at = |record: &Record, later: Duration| records.judge(&id(1), record, NOW + later);
        assert_eq!(at(&record(2, 7, 0, Duration::ZERO), DAY / 2), News::Stale, "a copy of yesterday");
        assert_eq!(at(&record(2, 8, 0, Duration::ZERO), DAY / 2), News::Equivocation);
        assert_eq!(at(&record(2, 9, 0, Duration::ZERO), Duration::ZERO), News::Fresh, "it came back");
        assert_eq!(at(&goodbye(2, 9), Duration::ZERO), News::Goodbye);
        assert_eq!(at(&goodbye(2, 8), Duration::ZERO), News::Known);
    }

    #[test]
    fn our_own_key_on_another_machine_is_noticed_and_our_own_past_is_not() {
        let mut records = Records::default();
        let of_us = |seq, variant| record(1, seq, variant, Duration::ZERO);
        assert_eq!(records.judge(&id(1), &of_us(5, 0), NOW), News::Own, "before we know better");
        records.sign(&of_us(7, 0), NOW);
        let news = |seq, variant| records.judge(&id(1), &of_us(seq, variant), NOW);
        assert_eq!([news(7, 0), news(6, 3)], [News::Own, News::Own]);
        assert_eq!([news(7, 1), news(8, 0)], [News::OwnKeyElsewhere, News::OwnKeyElsewhere]);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_ends_last_stays() {
        let mut records = holding(&goodbye(2, 1));
        let template = records.held[&id(2)];
        for number in 0..u64::try_from(HELD_MAX).expect("small") {
            let mut seed = [9; 32];
            seed[..8].copy_from_slice(&number.to_le_bytes());
            let until = NOW + Duration::from_secs(1 + number);
            records.held.insert(Keypair::from_seed(&seed).id(), Held { until, ..template });
        }
        records.hold(&record(3, 1, 0, Duration::ZERO), NOW);
        records.hold(&record(4, 1, 0, Duration::ZERO), NOW);
        assert!(records.held.len() <= HELD_MAX + 1, "{}", records.held.len());
        assert!([2, 3, 4].iter().all(|seed| records.held.contains_key(&id(*seed))));
    }

    proptest! {
        /// Whatever order copies come in: the highest number wins, nothing is taken twice, and two
        /// records with one number are never both taken.
        #[test]
        fn the_highest_number_wins_in_every_order(heard in prop::collection::vec((0u64..6, 0u16..2, any::<bool>()), 1..24)) {
            let mut records = Records::default();
            let mut taken: Vec<(u64, Digest)> = Vec::new();
            for (seq, variant, bye) in heard {
                let record = if bye { goodbye(2, seq) } else { record(2, seq, variant, Duration::ZERO) };
                let digest = record.envelope().digest();
                let newest = taken.last().copied();
                let expected = match newest {
                    Some((held, _)) if seq < held => News::Stale,
                    Some((held, same)) if seq == held => if same == digest { News::Known } else { News::Equivocation },
                    _ => if bye { News::Goodbye } else { News::Fresh },
                };
                let news = records.judge(&id(1), &record, NOW);
                prop_assert_eq!(news, expected);
                if matches!(news, News::Fresh | News::Goodbye) {
                    records.hold(&record, NOW);
                    taken.push((seq, digest));
                }
            }
            prop_assert!(taken.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }

        /// An expired record is never news, whatever is held.
        #[test]
        fn what_expired_is_stale(seq in 0u64..4, held in 0u64..4, late in 0u64..1_000_000) {
            let records = holding(&record(2, held, 0, Duration::ZERO));
            let news = records.judge(&id(1), &record(2, seq, 1, Duration::ZERO), NOW + DAY + Duration::from_secs(late));
            prop_assert_eq!(news, News::Stale);
        }
    }
}
