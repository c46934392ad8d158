//! The registrar at work: HTTPS in, DNS update out; and the node's side of it.
//!
//! ```text
//!   nameserver   the zone, read and changed
//!   desk         what is asked over HTTPS, cheap checks first
//!   visit        one dial to see who answers there
//!   round        everybody listed is visited every five minutes
//!   announce     a node asks to be listed, or to be struck out
//!   counters     what was asked, answered and found, for metrics
//! ```
//!
//! Nothing is kept between two requests but rates. What is decided is decided by
//! [`crate::core::registrar`], from the zone as it was read a moment ago; a change that somebody else
//! has overtaken is decided anew, five times at most. A node is told `200` when the name server said
//! `NOERROR` and in no other case.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::limits::Limiter;
use super::settings::{Limits, Settings as NetSettings};
use super::{Certificate, Context, StartError};
use crate::core::registrar::{Book, Change, Listing, Policy, Refusal, Rr, Secret};
use crate::time::Wall;
use crate::wire::registration::Refused;
use crate::wire::{Keypair, Network, Profile};

mod announce;
mod counters;
mod desk;
mod nameserver;
mod round;
mod visit;

/// What bounds this room, for whoever prints it.
pub mod bounds {
    pub use super::announce::REGISTRAR_ANSWER_BYTES_MAX;
    pub use super::nameserver::ZONE_BYTES_MAX;
}

pub use announce::{AnnounceError, Listed, leave, register};
pub use counters::{Counters, Exchanges, Requests};
pub use nameserver::{DnsError, NameServer, Tsig};
pub(super) use visit::answer as liveness;

/// How often a change is tried that others overtake.
const TRIES: u32 = 5;
/// Visits under way at once, of a round and of newcomers.
pub const VISITS_MAX: usize = 64;
/// A node announces itself again after this, and up to five minutes more.
const REANNOUNCE: Duration = Duration::from_secs(3_300);

/// What `daemon` decides for a registrar.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Zone, network, and the key that signs.
    pub book: Book,
    /// Who may stand there.
    pub policy: Policy,
    /// The primary of the zone, with the shared key.
    pub server: NameServer,
    /// What nodes call this registrar; it stands in their liveness answers.
    pub origin: String,
    /// How often everybody is visited.
    pub sweep: Duration,
}

/// One registrar. Cheap to clone.
#[derive(Clone)]
pub struct Registrar(Arc<Shared>);

struct Shared {
    context: Context,
    settings: Settings,
    secret: Secret,
    challenges: Limiter<IpAddr>,
    registrations: Limiter<IpAddr>,
    /// Apart from these: who came often may leave all the same.
    goodbyes: Limiter<IpAddr>,
    counters: Counters,
    visits: Semaphore,
    visiting: Mutex<HashSet<IpAddr>>,
    /// One of us writes at a time: we would only overtake one another.
    writing: Semaphore,
    is_well: AtomicBool,
}

/// Why something was not done, for whoever asked.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Denied {
    why: Refused,
    title: String,
    after: Option<Duration>,
}

impl Denied {
    fn new(why: Refused, title: impl Into<String>) -> Denied {
        Denied { why, title: title.into(), after: None }
    }

    fn after(self, after: Duration) -> Denied {
        Denied { after: Some(after), ..self }
    }

    /// Nothing that a stranger should know about our name server is in there.
    fn unavailable() -> Denied {
        let title = "the name server did not confirm it; nothing is promised, ask again";
        Denied::new(Refused::Unavailable, title).after(Duration::from_secs(30))
    }
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Denied {
        let why = match refusal {
            Refusal::Older => Refused::Older,
            Refusal::Full => Refused::Full,
            Refusal::Block | Refusal::Group | Refusal::Newcomers | Refusal::Hour => Refused::Rate,
        };
        Denied { why, title: refusal.to_string(), after: refusal.retry_after() }
    }
}

impl Registrar {
    /// `context` is the one whose receptor this stands behind.
    pub fn new(context: &Context, settings: Settings) -> Registrar {
        let keys_max = context.limits().rate_keys_max;
        Registrar(Arc::new(Shared {
            context: context.clone(),
            secret: Secret::of_seed(&settings.book.key.seed()),
            settings,
            challenges: Limiter::every(Duration::from_secs(2), 30, keys_max),
            registrations: Limiter::every(Duration::from_secs(600), 6, keys_max),
            goodbyes: Limiter::every(Duration::from_secs(60), 6, keys_max),
            counters: Counters::default(),
            visits: Semaphore::new(VISITS_MAX),
            visiting: Mutex::default(),
            writing: Semaphore::new(1),
            is_well: AtomicBool::new(true),
        }))
    }

    /// Forgets callers that are owed nothing; to be called every some seconds.
    pub(super) fn sweep_rates(&self) {
        self.0.challenges.sweep();
        self.0.registrations.sweep();
        self.0.goodbyes.sweep();
    }

    /// Reads the zone once, to find out whether the key is good.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn look(&self) -> Result<usize, DnsError> {
        let records = self.read().await?;
        Ok(self.listing_of(&records, self.now()).placed().count())
    }

    /// What was counted since the start.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Did the last exchange with the name server come to something?
    pub fn is_well(&self) -> bool {
        self.0.is_well.load(Ordering::Relaxed)
    }

    /// Places in the list.
    pub fn places(&self) -> usize {
        self.0.settings.policy.places
    }

    async fn read(&self) -> Result<BTreeSet<Rr>, DnsError> {
        let read = self.0.settings.server.read(&self.0.settings.book).await;
        self.note(&self.0.counters.readings, read.as_ref().err());
        read
    }

    async fn apply(&self, change: &Change) -> Result<(), DnsError> {
        let applied = self.0.settings.server.apply(change).await;
        self.note(&self.0.counters.updates, applied.as_ref().err());
        applied
    }

    fn note(&self, exchanges: &Exchanges, error: Option<&DnsError>) {
        exchanges.note(error);
        // Somebody who was faster shows that the server works.
        self.0.is_well.store(matches!(error, None | Some(DnsError::Changed)), Ordering::Relaxed);
    }

    fn listing_of(&self, records: &BTreeSet<Rr>, now: Wall) -> Listing {
        let listing = self.0.settings.book.read(records, now);
        self.0.counters.see(listing.placed().count());
        listing
    }

    fn now(&self) -> Wall {
        (self.0.context.settings().clock)()
    }

    async fn listing(&self) -> Result<Listing, Denied> {
        let records = self.read().await.map_err(|error| self.trouble(&error))?;
        Ok(self.listing_of(&records, self.now()))
    }

    /// Changes the zone as `edit` changes the listing; `edit` sees the present one at every try, and says
    /// whether there is anything to write.
    async fn change<T>(
        &self,
        mut edit: impl FnMut(&mut Listing, Wall) -> Result<(T, bool), Refusal>,
    ) -> Result<T, Denied> {
        let _turn = self.0.writing.acquire().await.map_err(|_| Denied::unavailable())?;
        for attempt in 0..TRIES {
            let records = self.read().await.map_err(|error| self.trouble(&error))?;
            let now = self.now();
            let mut listing = self.listing_of(&records, now);
            let (outcome, is_changed) = edit(&mut listing, now)?;
            if !is_changed {
                return Ok(outcome);
            }
            match self.apply(&self.0.settings.book.write(&records, &listing, now)).await {
                Ok(()) => {
                    self.0.counters.see(listing.placed().count());
                    return Ok(outcome);
                }
                Err(DnsError::Changed) => {
                    tracing::debug!(attempt, "another registrar was faster; reading the zone again");
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(1..=50 << attempt))).await;
                }
                Err(error) => return Err(self.trouble(&error)),
            }
        }
        tracing::warn!("the zone changed {TRIES} times in a row before it could be written");
        Err(Denied::unavailable())
    }

    /// For the operator in the log, for the asker a 503.
    fn trouble(&self, error: &DnsError) -> Denied {
        tracing::error!(server = ?self.0.settings.server, "{error}");
        Denied::unavailable()
    }

    /// Marks this address as being visited; `None` when it is already.
    fn reserve(&self, ip: IpAddr) -> Option<Reserved<'_>> {
        let is_new = self.0.visiting.lock().unwrap_or_else(PoisonError::into_inner).insert(ip);
        is_new.then_some(Reserved { registrar: self, ip })
    }
}

impl std::fmt::Debug for Registrar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Registrar({})", self.0.settings.book.zone)
    }
}

/// An address that is being visited, until dropped.
struct Reserved<'r> {
    registrar: &'r Registrar,
    ip: IpAddr,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.registrar.0.visiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.ip);
    }
}

/// What a registrar needs of the network: a place to listen, a certificate, and a key to call with.
///
/// # Errors
/// [`StartError`] when key or certificate cannot be used.
pub fn context(
    key: Arc<Keypair>,
    network: Network,
    profile: Profile,
    listen: Vec<std::net::SocketAddr>,
    certificate: Option<&Certificate>,
    clock: impl Fn() -> Wall + Send + Sync + 'static,
) -> Result<Context, StartError> {
    // 5 s for a visit in all, 3 s of them for the connection.
    let limits = Limits { call: Duration::from_secs(5), ..Limits::default() };
    let settings = NetSettings { network, profile, listen, limits, ..NetSettings::without_record(key, clock) };
    Context::serving(settings, certificate)
}
