//! Our own node record: what it says, when it is renewed, and where everybody finds the newest.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::store::{DataDir, StoreError};
use crate::time::{Mono, Now, Wall};
use crate::wire::record::ADDRESSES_MAX;
use crate::wire::{
    Draft, Envelope, Host, HostPort, Interests, Keypair, Network, Profile, Record, RecordDraft, Rejection, Verified,
    envelope,
};

/// A record is signed anew after 8 to 12 hours, each time another: long before its 24 hours are over,
/// rarely enough to be no traffic, and not by all nodes that were started together at once.
const RENEW_LEAST: Duration = Duration::from_secs(8 * 3_600);
/// See [`RENEW_LEAST`].
const RENEW_SPREAD: Duration = Duration::from_secs(4 * 3_600);
/// Changes that are signed at once; then one a minute, with all that changed meanwhile.
pub const CHANGES_MAX: u32 = 5;
/// See [`CHANGES_MAX`].
const CHANGE_EVERY: Duration = Duration::from_secs(60);
/// Furthest above the seconds of now that a number of somebody else with our key is outdone.
const OUTDONE_AHEAD: Duration = Duration::from_secs(24 * 3_600);
/// An address learned from a peer is believed this often at most, so that no peer can make us sign
/// and spread records as fast as it likes.
const LEARN_PAUSE: Duration = Duration::from_secs(60);

/// The record of this node, as its neighbours are told.
pub(super) struct OwnRecord {
    key: Arc<Keypair>,
    dir: DataDir,
    network: Network,
    profile: Profile,
    /// What the operator says; nothing else is published when it is not empty.
    configured: Vec<HostPort>,
    /// Specific addresses we listen on.
    listening: Vec<HostPort>,
    /// The port that goes with an address learned from a peer; `None` = we listen on specific ones.
    wildcard_port: Option<u16>,
    learned: Vec<HostPort>,
    learned_by_trust: bool,
    learned_at: Option<Now>,
    interests: Interests,
    signed: Wall,
    /// When it is signed anew if nothing changes: so long after `signed`.
    lasts: Duration,
    changes: Changes,
    /// Something changed that no record says yet.
    is_owed: bool,
    /// Goodbye was said: nothing more is signed in this life.
    has_left: bool,
    /// Signed, and not yet told to the core.
    news: Option<Verified<Record>>,
    line: watch::Sender<Arc<str>>,
}

/// The same, and where the operator says that we are.
pub(super) fn own_places(listening: &[SocketAddr], configured: &[HostPort]) -> BTreeSet<HostPort> {
    places(listening).into_iter().chain(configured.iter().cloned()).collect()
}

/// Where this machine finds us: what we listen on, and the loopback of it where we listen everywhere. The
/// other addresses of the machine are known once the record names them.
pub(super) fn places(listening: &[SocketAddr]) -> BTreeSet<HostPort> {
    let of = |address: &SocketAddr| match address.ip() {
        ip if !ip.is_unspecified() => vec![*address],
        IpAddr::V4(_) => vec![(Ipv4Addr::LOCALHOST, address.port()).into()],
        IpAddr::V6(_) => [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()]
            .map(|ip| SocketAddr::new(ip, address.port()))
            .to_vec(),
    };
    listening.iter().flat_map(of).map(HostPort::from_socket).collect()
}

/// How many more changes may be signed at once.
struct Changes {
    left: u32,
    since: Mono,
}

impl Changes {
    fn admit(&mut self, now: Mono) -> bool {
        let more = now.since(self.since).as_micros() / CHANGE_EVERY.as_micros();
        if more > 0 {
            self.left = self.left.saturating_add(u32::try_from(more).unwrap_or(u32::MAX)).min(CHANGES_MAX);
            self.since = now;
        }
        let admitted = self.left > 0;
        self.left = self.left.saturating_sub(1);
        admitted
    }
}

/// What the record is made of.
pub(super) struct Basis<'a> {
    pub(super) key: Arc<Keypair>,
    pub(super) dir: DataDir,
    pub(super) network: Network,
    pub(super) profile: Profile,
    pub(super) configured: Vec<HostPort>,
    pub(super) listening: &'a [SocketAddr],
    pub(super) interests: Interests,
}

impl OwnRecord {
    /// Signs the first record of this process and sends it to `line`.
    ///
    /// # Errors
    /// [`StoreError`] when the record's number cannot be drawn.
    pub(super) fn new(basis: Basis<'_>, line: watch::Sender<Arc<str>>, now: Now) -> Result<OwnRecord, StoreError> {
        let is_specific = |address: &&SocketAddr| !address.ip().is_unspecified();
        let specific = basis.listening.iter().filter(is_specific);
        let mut record = OwnRecord {
            key: basis.key,
            dir: basis.dir,
            network: basis.network,
            profile: basis.profile,
            configured: basis.configured,
            listening: specific.map(|address| HostPort::from_socket(*address)).collect(),
            wildcard_port: basis.listening.iter().find(|address| address.ip().is_unspecified()).map(SocketAddr::port),
            learned: Vec::new(),
            learned_by_trust: false,
            learned_at: None,
            interests: basis.interests,
            signed: now.wall,
            lasts: RENEW_LEAST,
            changes: Changes { left: CHANGES_MAX, since: now.mono },
            is_owed: false,
            has_left: false,
            news: None,
            line,
        };
        record.renew(now.wall)?;
        Ok(record)
    }

    /// Where others are told to dial.
    pub(super) fn addresses(&self) -> Vec<HostPort> {
        let mut addresses = match self.configured.is_empty() {
            false => self.configured.clone(),
            true => self.listening.iter().chain(&self.learned).cloned().collect(),
        };
        addresses.truncate(ADDRESSES_MAX);
        addresses
    }

    /// Where the operator says that we are.
    pub(super) fn configured(&self) -> &[HostPort] {
        &self.configured
    }

    /// Says something new about where we are.
    ///
    /// # Errors
    /// [`StoreError`]; the record stays as it was.
    pub(super) fn set_addresses(&mut self, configured: Vec<HostPort>, now: Now) -> Result<(), StoreError> {
        if configured == self.configured {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.configured, configured);
        self.change(now).inspect_err(|_| self.configured = before)
    }

    pub(super) fn interests(&self) -> &Interests {
        &self.interests
    }

    /// Says something new about what we want.
    ///
    /// # Errors
    /// [`StoreError`]; the record stays as it was.
    pub(super) fn set_interests(&mut self, interests: Interests, now: Now) -> Result<(), StoreError> {
        if interests == self.interests {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.interests, interests);
        self.change(now).inspect_err(|_| self.interests = before)
    }

    /// A peer says from which address it sees us. Believed when we listen everywhere, nobody
    /// configured an address, and the policy would let others dial it. A peer that a person typed in
    /// is believed before any other: what others said is forgotten then.
    ///
    /// # Errors
    /// [`StoreError`] when the record's number cannot be drawn.
    pub(super) fn learn(&mut self, observed: &HostPort, is_trusted: bool, now: Now) -> Result<(), StoreError> {
        let (Some(port), Host::Ip(ip)) = (self.wildcard_port, &observed.host) else { return Ok(()) };
        let address = SocketAddr::new(*ip, port);
        let seen = HostPort::from_socket(address);
        let is_pause = self.learned_at.is_some_and(|at| now.mono.since(at.mono) < LEARN_PAUSE);
        let is_wanted = is_trusted || self.learned.is_empty();
        let is_new = !self.learned.contains(&seen) || (is_trusted && !self.learned_by_trust);
        let is_useful = self.configured.is_empty() && is_wanted && is_new && self.learned.len() < ADDRESSES_MAX;
        if !is_useful || is_pause || !is_routable(*ip) || self.profile.allows(address).is_err() {
            return Ok(());
        }
        if is_trusted && !std::mem::replace(&mut self.learned_by_trust, true) {
            self.learned.clear();
        }
        self.learned.push(seen);
        self.learned_at = Some(now);
        self.change(now)
    }

    /// Signs a new record when the old one is getting old, was signed by a clock that was ahead, or
    /// lacks a change that had to wait.
    ///
    /// # Errors
    /// [`StoreError`]; the old record stays.
    pub(super) fn renew_if_due(&mut self, now: Now) -> Result<(), StoreError> {
        let is_old = now.wall < self.signed || now.wall.since(self.signed) >= self.lasts;
        if self.is_owed {
            self.change(now)
        } else if is_old {
            self.renew(now.wall)
        } else {
            Ok(())
        }
    }

    /// Signs what this node tells its own programs.
    ///
    /// # Errors
    /// The rule that the draft breaks.
    pub(super) fn sign(&self, draft: Draft) -> Result<Verified<Envelope>, Rejection> {
        envelope::seal(&draft.in_network(&self.network), &self.key)
    }

    /// Signs a new record with a number above `seq`, which somebody else used with our key. Numbers follow the
    /// seconds, so one far above them was chosen to use them up, and is let stand.
    ///
    /// # Errors
    /// [`StoreError`]; the old record stays.
    pub(super) fn outdo(&mut self, seq: u64, now: Wall) -> Result<(), StoreError> {
        let latest = u64::try_from((now + OUTDONE_AHEAD).as_secs()).unwrap_or(0);
        if seq <= latest { self.renew_above(seq, now) } else { Ok(()) }
    }

    /// Says goodbye: the last record of this life. Gives its line, which lanes tell every neighbour.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is said then.
    pub(super) fn leave(&mut self, now: Wall) -> Result<Arc<str>, StoreError> {
        let goodbye = self.draft(0, now)?.seal_goodbye(now, &self.key).expect("a goodbye breaks no limit");
        self.has_left = true;
        Ok(self.publish(goodbye, now))
    }

    /// The newest record, once after it was signed.
    pub(super) fn take_news(&mut self) -> Option<Verified<Record>> {
        self.news.take()
    }

    /// When a change that had to wait has its turn; `None` = none waits.
    pub(super) fn owed_at(&self) -> Option<Mono> {
        (self.is_owed && !self.has_left).then(|| self.changes.since + CHANGE_EVERY)
    }

    /// Signs what changed, now or when its turn has come.
    fn change(&mut self, now: Now) -> Result<(), StoreError> {
        self.is_owed = true;
        if self.changes.admit(now.mono) { self.renew(now.wall) } else { Ok(()) }
    }

    fn renew(&mut self, now: Wall) -> Result<(), StoreError> {
        self.renew_above(0, now)
    }

    fn renew_above(&mut self, seq: u64, now: Wall) -> Result<(), StoreError> {
        if self.has_left {
            return Ok(());
        }
        let record = self.draft(seq, now)?.seal(now, &self.key).expect("settings are within the limits of a record");
        self.publish(record, now);
        Ok(())
    }

    fn draft(&self, above: u64, now: Wall) -> Result<RecordDraft, StoreError> {
        Ok(RecordDraft {
            seq: self.dir.next_record_seq(above, now)?,
            addresses: self.addresses(),
            interests: self.interests.published(),
            network: self.network.clone(),
        })
    }

    fn publish(&mut self, record: Verified<Record>, now: Wall) -> Arc<str> {
        let line: Arc<str> = record.envelope().line(0, false).into();
        self.signed = now;
        self.lasts = RENEW_LEAST + RENEW_SPREAD.mul_f64(fastrand::f64());
        self.is_owed = false;
        self.news = Some(record);
        self.line.send_replace(Arc::clone(&line));
        line
    }
}

fn is_routable(ip: IpAddr) -> bool {
    !ip.is_unspecified() && !ip.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Wall = Wall::from_millis(1_795_262_400_000);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn at(span: Duration) -> Now {
        Now { mono: Mono(0) + span, wall: NOON + span }
    }

    fn patterns(text: &str) -> Interests {
        Interests::new([text.parse().expect("a pattern")]).expect("interests")
    }

    fn record(home: &tempfile::TempDir) -> OwnRecord {
        let basis = Basis {
            key: Arc::new(Keypair::from_seed(&[1; 32])),
            dir: DataDir::open(home.path()).expect("a directory"),
            network: Network::default(),
            profile: Profile::Public,
            configured: vec!["birch.example:7443".parse().expect("an address")],
            listening: &[],
            interests: Interests::default(),
        };
        OwnRecord::new(basis, watch::Sender::new("".into()), at(Duration::ZERO)).expect("a record")
    }

    #[test]
    fn a_wildcard_is_the_loopback_of_this_machine_as_far_as_is_known() {
        let of = |listening: &[&str]| {
            let listening: Vec<SocketAddr> = listening.iter().map(|text| text.parse().expect("an address")).collect();
            places(&listening).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of(&["10.0.0.1:1", "0.0.0.0:2"]), ["10.0.0.1:1", "127.0.0.1:2"]);
        assert_eq!(of(&["[::]:7443"]), ["127.0.0.1:7443", "[::1]:7443"]);
    }

    fn news(record: &mut OwnRecord) -> Option<u64> {
        record.take_news().map(|record| record.seq)
    }

    #[test]
    fn a_record_is_signed_anew_after_8_to_12_hours_and_never_with_the_same_number() {
        let home = tempfile::tempdir().expect("a directory");
        let mut record = record(&home);
        let first = news(&mut record).expect("signed at the start");
        let lasts = record.lasts;
        assert!(lasts >= 8 * HOUR && lasts <= 12 * HOUR, "{lasts:?}");
        let renewed = |record: &mut OwnRecord, after: Duration| {
            record.renew_if_due(at(after)).expect("a disk");
            news(record)
        };
        assert_eq!(renewed(&mut record, lasts - Duration::from_secs(1)), None);
        let second = renewed(&mut record, lasts + Duration::from_secs(1)).expect("it is old");
        assert!(second > first);
        record.signed = NOON + 48 * HOUR;
        assert!(renewed(&mut record, lasts).expect("signed in the future") > second);
    }

    #[test]
    fn changes_in_a_row_are_signed_together_a_minute_later() {
        let home = tempfile::tempdir().expect("a directory");
        let mut record = record(&home);
        news(&mut record);
        let mut signed = 0;
        for number in 0..20 {
            record.set_interests(patterns(&format!("a.b{number}")), at(Duration::from_secs(1))).expect("a disk");
            signed += usize::from(news(&mut record).is_some());
        }
        assert_eq!(signed, 5);
        record.renew_if_due(at(Duration::from_secs(59))).expect("a disk");
        assert!(record.take_news().is_none(), "not before its minute");
        record.renew_if_due(at(Duration::from_secs(61))).expect("a disk");
        assert_eq!(record.take_news().expect("its turn").interests, patterns("a.b19"));
        record.renew_if_due(at(Duration::from_secs(300))).expect("a disk");
        assert!(record.take_news().is_none(), "nothing is owed any more");
    }

    #[test]
    fn a_copy_of_this_node_is_outdone_whatever_number_it_took() {
        let home = tempfile::tempdir().expect("a directory");
        let mut record = record(&home);
        let first = news(&mut record).expect("signed at the start");
        record.outdo(first + 1_000, NOON).expect("a disk");
        assert_eq!(news(&mut record), Some(first + 1_001));
        record.renew(NOON).expect("a disk");
        assert_eq!(news(&mut record), Some(first + 1_002), "and no number is drawn twice");
        for absurd in [first + 90_000, (1 << 53) - 2, u64::MAX] {
            record.outdo(absurd, NOON).expect("a disk");
            assert_eq!(news(&mut record), None, "{absurd}");
        }
    }

    #[test]
    fn after_a_goodbye_nothing_is_signed_until_the_next_start() {
        let home = tempfile::tempdir().expect("a directory");
        let mut first = record(&home);
        let line = first.leave(NOON).expect("a disk");
        let goodbye = first.take_news().expect("signed");
        assert!(goodbye.bye && *line == *goodbye.envelope().line(0, false) && *first.line.borrow() == line);
        first.set_interests(patterns("a.b"), at(HOUR)).expect("a disk");
        first.renew_if_due(at(48 * HOUR)).expect("a disk");
        assert!(first.take_news().is_none());
        drop(first);
        let again = record(&home).take_news().expect("signed at the start");
        assert!(again.seq > goodbye.seq && !again.bye);
    }
}
