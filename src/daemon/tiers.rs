//! Where nodes are looked for: the zones and the seeds that the operator names. The core says when
//! ([`Output::Lookup`](crate::core::ports::Output::Lookup)); what a tier answers goes back to it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::task::JoinSet;

use crate::admin::tiers::{Failed, Source, TierName};
use crate::config::{Discovery, Settings};
use crate::core::tier::{Find, Tier};
use crate::net::dns::{self, Dns, Forbidden, Patience};
use crate::store::seeds::{self, SeedsError};
use crate::time::Wall;
use crate::wire::{HostPort, Keypair, Network, NodeId, ZoneName};

/// The tiers that are asked.
pub(super) struct Tiers {
    /// Peers are asked whom they know, and told whom we know.
    pub(super) exchange: bool,
    dns: Arc<Dns>,
    zones: Vec<ZoneName>,
    seeds: String,
    seeds_key: Option<NodeId>,
    network: Network,
    /// What each zone, the seeds, and the peers answered last. Of the peers one answer is kept, the last.
    last: BTreeMap<(TierName, String), Source>,
    /// What was of no use.
    pub(super) counts: Counts,
}

/// What the tiers brought that is of no use, since the start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Counts {
    /// Zones that brought nothing when asked.
    pub(super) dns_failed: u64,
    /// The same of lists of seeds.
    pub(super) seeds_failed: u64,
    /// Entries of zones without an address, a readable target or the right key.
    pub(super) ignored: u64,
    /// Addresses in zones that the address policy refused.
    pub(super) refused: u64,
}

impl Counts {
    fn add(&mut self, tier: TierName, report: &Report) {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        self.ignored += number(report.ignored);
        self.refused += number(report.refused.len());
        let failed = if tier == TierName::Dns { &mut self.dns_failed } else { &mut self.seeds_failed };
        *failed += u64::from(report.failure.is_some());
    }
}

/// Where nodes are looked for. `me` = this node, if it has a key; `own` = its addresses.
pub(super) fn tiers_of(settings: &Settings, me: Option<NodeId>, own: Vec<HostPort>) -> Tiers {
    // Whoever has no key yet stands in no zone.
    let nobody = || Keypair::from_seed(&std::array::from_fn(|_| fastrand::u8(..))).id();
    let dns = Dns::new(dns::Settings {
        server: settings.discovery.dns_server,
        keys: settings.discovery.dns_keys.clone(),
        me: me.unwrap_or_else(nobody),
        own,
        network: settings.node.network.clone(),
        profile: settings.node.profile,
        patience: Patience::default(),
    });
    Tiers::new(dns, &settings.discovery, settings.node.network.clone())
}

/// What one source answered.
#[derive(Clone)]
pub(super) struct Report {
    /// A zone, or a list of seeds.
    pub(super) source: String,
    pub(super) took: Duration,
    pub(super) finds: Vec<Find>,
    pub(super) refused: Vec<Forbidden>,
    /// Entries of no use.
    pub(super) ignored: usize,
    pub(super) failure: Option<Failed>,
}

/// What all sources of a tier answered.
#[derive(Clone)]
pub(super) struct Answer {
    pub(super) tier: Tier,
    pub(super) reports: Vec<Report>,
}

impl Report {
    /// As people see it; what comes of each place is not known yet.
    pub(super) fn source(&self, at: Wall) -> Source {
        Source {
            source: self.source.clone(),
            at: Some(at),
            ms: Some(ms(self.took)),
            found: self.finds.len() as u64,
            refused: self.refused.len() as u64,
            ignored: self.ignored as u64,
            failure: self.failure.clone(),
            places: Vec::new(),
        }
    }
}

/// A span in milliseconds, to the microsecond.
pub(super) fn ms(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}

/// A source in a sentence.
pub(super) fn title(tier: TierName, source: &str) -> String {
    match tier {
        TierName::Dns => format!("zone {source}"),
        TierName::Seeds => format!("seeds `{source}`"),
        TierName::Exchange | TierName::Manual => source.to_owned(),
    }
}

impl Tiers {
    pub(super) fn new(dns: Dns, discovery: &Discovery, network: Network) -> Tiers {
        Tiers {
            exchange: discovery.exchange,
            dns: Arc::new(dns),
            zones: discovery.dns.clone(),
            seeds: discovery.seeds.clone().unwrap_or_default(),
            seeds_key: discovery.seeds_key,
            network,
            last: BTreeMap::new(),
            counts: Counts::default(),
        }
    }

    /// Does the configuration name anything to ask?
    pub(super) fn is_on(&self, tier: TierName) -> bool {
        match tier {
            TierName::Dns => !self.zones.is_empty(),
            TierName::Exchange => self.exchange,
            TierName::Manual => true,
            TierName::Seeds => !self.seeds.is_empty(),
        }
    }

    /// Asks every source of a tier; `answer` is called once, within the patience of the DNS.
    pub(super) fn ask(&self, tier: Tier, now: Wall, answer: impl FnOnce(Answer) + Send + 'static) {
        let asking = self.asking(tier, now);
        tokio::spawn(async move { answer(asking.await) });
    }

    /// The same, for whoever waits for it himself.
    pub(super) fn asking(&self, tier: Tier, now: Wall) -> BoxFuture<'static, Answer> {
        match tier {
            Tier::Dns => {
                let (dns, zones) = (Arc::clone(&self.dns), self.zones.clone());
                Box::pin(async move { Answer { tier, reports: look_up(&dns, zones, now).await } })
            }
            _ => {
                let (wanted, network, key) = (self.seeds.clone(), self.network.clone(), self.seeds_key);
                let reading = tokio::task::spawn_blocking(move || read_seeds(wanted, &network, key));
                Box::pin(async move { Answer { tier, reports: reading.await.into_iter().collect() } })
            }
        }
    }

    /// Tells what changed, and says what the tier brought: it failed when none of its sources answered.
    pub(super) fn hear(&mut self, answer: Answer, at: Wall) -> Result<Vec<Find>, String> {
        let tier = if answer.tier == Tier::Dns { TierName::Dns } else { TierName::Seeds };
        let (mut finds, mut faults, mut answered) = (Vec::new(), Vec::new(), false);
        for report in answer.reports {
            self.counts.add(tier, &report);
            let title = title(tier, &report.source);
            let source = report.source(at);
            let before = self.last.insert((tier, report.source), source);
            let before = before.map(|before| before.failure);
            tell(&title, before.as_ref().map(Option::as_ref), report.failure.as_ref());
            match report.failure {
                None => {
                    answered = true;
                    finds.extend(report.finds);
                }
                Some(failed) => faults.push(format!("{title}: {}", failed.why)),
            }
        }
        if answered { Ok(finds) } else { Err(faults.join("; ")) }
    }

    /// A peer told of so many others.
    pub(super) fn hear_told(&mut self, teller: &str, count: usize, at: Wall) {
        let source = Source {
            source: teller.to_owned(),
            at: Some(at),
            ms: None,
            found: count as u64,
            refused: 0,
            ignored: 0,
            failure: None,
            places: Vec::new(),
        };
        self.last.insert((TierName::Exchange, String::new()), source);
    }

    /// What the sources of a tier answered last.
    pub(super) fn last(&self, tier: TierName) -> impl Iterator<Item = &Source> {
        self.last.iter().filter(move |((of, _), _)| *of == tier).map(|(_, source)| source)
    }
}

/// One line for each change: `before` is what failed the last time, if it was asked before.
fn tell(source: &str, before: Option<Option<&Failed>>, failed: Option<&Failed>) {
    let changed = before.map_or(failed.is_some(), |before| before != failed);
    match failed {
        Some(failed) if changed => {
            tracing::warn!("{source} brings no peers: {}; the other ways go on; next: {}", failed.why, failed.next);
        }
        None if changed => tracing::info!("{source} brings peers again"),
        _ => tracing::debug!(failed = failed.is_some(), "{source} was asked for peers"),
    }
}

async fn look_up(dns: &Arc<Dns>, zones: Vec<ZoneName>, now: Wall) -> Vec<Report> {
    let mut asking = JoinSet::new();
    for (place, zone) in zones.into_iter().enumerate() {
        let dns = Arc::clone(dns);
        asking.spawn(async move {
            let begun = Instant::now();
            let (found, fault) = dns.look(&zone, now, fastrand::u64(..)).await;
            let failure = fault.map(|fault| Failed {
                class: fault.word().to_owned(),
                why: fault.to_string(),
                next: fault.remedy().to_owned(),
            });
            let (finds, refused, ignored) = (found.finds, found.refused, found.ignored);
            (place, Report { source: zone.to_string(), took: begun.elapsed(), finds, refused, ignored, failure })
        });
    }
    let mut reports = BTreeMap::new();
    while let Some(report) = asking.join_next().await {
        reports.extend(report.ok());
    }
    reports.into_values().collect()
}

fn read_seeds(wanted: String, network: &Network, key: Option<NodeId>) -> Report {
    let begun = Instant::now();
    let (finds, failure) = match seeds::load(&wanted, network, key) {
        Ok(finds) => (finds, None),
        Err(error) => (Vec::new(), Some(unusable(&error))),
    };
    Report { source: wanted, took: begun.elapsed(), finds, refused: Vec::new(), ignored: 0, failure }
}

fn unusable(error: &SeedsError) -> Failed {
    let (class, next) = match error {
        SeedsError::NoChannel(_) => ("no_channel", "set discovery.seeds to one of them"),
        SeedsError::Unreadable { .. } => {
            ("unreadable", "is the path in discovery.seeds right, and may the user of the daemon read it?")
        }
        SeedsError::Wrong { .. } => ("unusable", "mend the list, or get a new one from whoever keeps it"),
    };
    Failed { class: class.to_owned(), why: error.to_string(), next: next.to_owned() }
}

impl fmt::Debug for Tiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tiers({} zones, seeds {:?})", self.zones.len(), self.seeds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Profile;

    fn tiers(zones: &[&str], seeds: Option<&str>) -> Tiers {
        let settings = dns::Settings {
            server: Some("127.0.0.1:9".parse().expect("an address")), // discards, or is closed
            keys: Vec::new(),
            me: Keypair::from_seed(&[1; 32]).id(),
            own: Vec::new(),
            network: Network::default(),
            profile: Profile::Public,
            patience: Patience { question: Duration::from_millis(50), whole: Duration::from_millis(200) },
        };
        let text = format!(
            "[node]\ndata_dir = \"/d\"\n[admin]\nsocket = \"/s\"\n[discovery]\ndns = {zones:?}\nseeds = {:?}",
            seeds.unwrap_or_default()
        );
        let read = crate::config::read(Some(("a.toml".as_ref(), &text)), &[], &crate::config::Surroundings::default());
        Tiers::new(Dns::new(settings), &read.expect("good settings").discovery, Network::default())
    }

    async fn answer(tiers: &mut Tiers, tier: Tier) -> Result<Vec<Find>, String> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        tiers.ask(tier, Wall::default(), |answer| drop(sender.send(answer)));
        let answer = tokio::time::timeout(Duration::from_secs(10), receiver).await.expect("soon").expect("an answer");
        assert_eq!(answer.tier, tier);
        tiers.hear(answer, Wall::default())
    }

    #[tokio::test]
    async fn seeds_are_brought_as_the_release_names_them() {
        let finds = answer(&mut tiers(&[], Some("example")), Tier::Seed).await.expect("a list");
        assert_eq!(finds.len(), 2, "one for each node");
        assert!(finds.iter().all(|find| find.id.is_some() && !find.at.is_empty()));
        let why = answer(&mut tiers(&[], Some("nowhere")), Tier::Seed).await.expect_err("no such channel");
        assert!(why.contains("seeds `nowhere`"), "{why}");
    }

    #[tokio::test]
    async fn a_tier_failed_when_every_zone_of_it_failed_and_each_says_why() {
        let mut tiers = tiers(&["one.example", "two.example"], None);
        let why = answer(&mut tiers, Tier::Dns).await.expect_err("nobody answers there");
        assert!(why.contains("zone one.example: ") && why.contains("zone two.example: "), "{why}");
        assert_eq!(tiers.last(TierName::Dns).count(), 2);
        let failed: Vec<&Failed> = tiers.last(TierName::Dns).filter_map(|source| source.failure.as_ref()).collect();
        assert!(failed.len() == 2 && failed.iter().all(|failed| !failed.next.is_empty()));
        let report = |source: &str, failure| Report {
            source: source.to_owned(),
            took: Duration::ZERO,
            finds: Vec::new(),
            refused: Vec::new(),
            ignored: 3,
            failure,
        };
        let failed = Failed { class: "x".to_owned(), why: "x".to_owned(), next: "x".to_owned() };
        let reports = vec![report("one.example", None), report("two.example", Some(failed))];
        let heard = tiers.hear(Answer { tier: Tier::Dns, reports }, Wall::default());
        assert_eq!(heard, Ok(Vec::new()), "one that answers is enough");
        assert!(tiers.last(TierName::Dns).any(|source| source.failure.is_none()));
        assert_eq!(tiers.counts, Counts { dns_failed: 3, seeds_failed: 0, ignored: 6, refused: 0 });
    }
}
