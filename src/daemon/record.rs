//! Our own node record: what it says, when it is renewed, and where everybody finds the newest.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::store::{DataDir, StoreError};
use crate::time::{Now, Wall};
use crate::wire::record::ADDRESSES_MAX;
use crate::wire::{Host, HostPort, Interests, Keypair, Network, Profile, RecordDraft};

/// Long before a record's 24 hours are over, and rarely enough to be no traffic.
const RENEW_AFTER: Duration = Duration::from_secs(8 * 3_600);
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
    line: watch::Sender<Arc<str>>,
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

    /// Says something new about where we are.
    ///
    /// # Errors
    /// [`StoreError`]; the record stays as it was.
    pub(super) fn set_addresses(&mut self, configured: Vec<HostPort>, now: Wall) -> Result<(), StoreError> {
        if configured == self.configured {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.configured, configured);
        self.renew(now).inspect_err(|_| self.configured = before)
    }

    pub(super) fn interests(&self) -> &Interests {
        &self.interests
    }

    /// Says something new about what we want.
    ///
    /// # Errors
    /// [`StoreError`]; the record stays as it was.
    pub(super) fn set_interests(&mut self, interests: Interests, now: Wall) -> Result<(), StoreError> {
        if interests == self.interests {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.interests, interests);
        self.renew(now).inspect_err(|_| self.interests = before)
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
        self.renew(now.wall)
    }

    /// Signs a new record when the old one is getting old, or was signed by a clock that was ahead.
    ///
    /// # Errors
    /// [`StoreError`]; the old record stays.
    pub(super) fn renew_if_due(&mut self, now: Wall) -> Result<(), StoreError> {
        if now < self.signed || now.since(self.signed) >= RENEW_AFTER { self.renew(now) } else { Ok(()) }
    }

    fn renew(&mut self, now: Wall) -> Result<(), StoreError> {
        let draft = RecordDraft {
            seq: self.dir.next_record_seq(now)?,
            addresses: self.addresses(),
            interests: self.interests.clone(),
            network: self.network.clone(),
        };
        let record = draft.seal(now, &self.key).expect("settings are within the limits of a record");
        self.signed = now;
        self.line.send_replace(record.envelope().line(0, false).into());
        Ok(())
    }
}

fn is_routable(ip: IpAddr) -> bool {
    !ip.is_unspecified() && !ip.is_multicast()
}
