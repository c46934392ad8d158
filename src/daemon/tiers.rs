//! Where nodes are looked for: the zones and the seeds that the operator names. The core says when
//! ([`Output::Lookup`](crate::core::ports::Output::Lookup)); what a tier answers goes back to it.

use std::fmt;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::config::Discovery;
use crate::core::tier::{Find, Tier};
use crate::net::dns::{Dns, Found, TierFault};
use crate::store::seeds;
use crate::time::Wall;
use crate::wire::{Network, NodeId, ZoneName};

/// The tiers that are asked.
pub(super) struct Tiers {
    /// Peers are asked whom they know, and told whom we know.
    pub(super) exchange: bool,
    dns: Arc<Dns>,
    zones: Vec<ZoneName>,
    seeds: String,
    seeds_key: Option<NodeId>,
    network: Network,
    /// What each zone and the seeds answered last, so that a failure is told once and not every time.
    last: Vec<Told>,
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

/// How a source answered last.
#[derive(Clone, PartialEq, Eq)]
struct Told {
    source: String,
    fault: Option<String>,
}

/// What one source answered.
pub(super) struct Report {
    source: String,
    result: Result<Vec<Find>, String>,
    /// Addresses refused, entries ignored.
    useless: [usize; 2],
}

/// What all sources of a tier answered.
pub(super) struct Answer {
    pub(super) tier: Tier,
    reports: Vec<Report>,
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
            last: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Asks every source of a tier; `answer` is called once, within the patience of the DNS.
    pub(super) fn ask(&self, tier: Tier, now: Wall, answer: impl FnOnce(Answer) + Send + 'static) {
        match tier {
            Tier::Dns => {
                let (dns, zones) = (Arc::clone(&self.dns), self.zones.clone());
                tokio::spawn(async move { answer(Answer { tier, reports: look_up(&dns, zones, now).await }) });
            }
            _ => {
                let (wanted, network, key) = (self.seeds.clone(), self.network.clone(), self.seeds_key);
                tokio::task::spawn_blocking(move || {
                    let loaded = seeds::load(&wanted, &network, key);
                    let result = loaded.map_err(|error| error.to_string());
                    answer(Answer {
                        tier,
                        reports: vec![Report { source: format!("seeds `{wanted}`"), result, useless: [0; 2] }],
                    });
                });
            }
        }
    }

    /// Tells what changed, and says what the tier brought: it failed when none of its sources answered.
    pub(super) fn hear(&mut self, answer: Answer) -> Result<Vec<Find>, String> {
        let (mut finds, mut faults, mut answered) = (Vec::new(), Vec::new(), false);
        for Report { source, result, useless } in answer.reports {
            let [refused, ignored] = useless.map(|count| u64::try_from(count).unwrap_or(u64::MAX));
            self.counts.refused += refused;
            self.counts.ignored += ignored;
            match answer.tier {
                Tier::Dns => self.counts.dns_failed += u64::from(result.is_err()),
                _ => self.counts.seeds_failed += u64::from(result.is_err()),
            }
            self.tell(&source, result.as_ref().err());
            match result {
                Ok(found) => {
                    answered = true;
                    finds.extend(found);
                }
                Err(why) => faults.push(format!("{source}: {why}")),
            }
        }
        if answered { Ok(finds) } else { Err(faults.join("; ")) }
    }

    /// One line for each change.
    fn tell(&mut self, source: &str, fault: Option<&String>) {
        let told = Told { source: source.to_owned(), fault: fault.cloned() };
        let before = self.last.iter_mut().find(|told| told.source == source);
        let changed = match before {
            Some(before) if *before == told => false,
            Some(before) => {
                *before = told;
                true
            }
            None => {
                self.last.push(told);
                fault.is_some()
            }
        };
        match fault {
            Some(why) if changed => tracing::warn!("{source} brings no peers: {why}; the other ways go on"),
            None if changed => tracing::info!("{source} brings peers again"),
            _ => tracing::debug!(failed = fault.is_some(), "{source} was asked for peers"),
        }
    }
}

async fn look_up(dns: &Arc<Dns>, zones: Vec<ZoneName>, now: Wall) -> Vec<Report> {
    let mut asking = JoinSet::new();
    for zone in zones {
        let dns = Arc::clone(dns);
        asking.spawn(async move {
            let found = dns.lookup(&zone, now, fastrand::u64(..)).await;
            let (result, useless) = brought(found);
            Report { source: format!("zone {zone}"), result, useless }
        });
    }
    let mut reports = Vec::new();
    while let Some(report) = asking.join_next().await {
        reports.extend(report.ok());
    }
    reports
}

fn brought(found: Result<Found, TierFault>) -> (Result<Vec<Find>, String>, [usize; 2]) {
    let useless = match &found {
        Ok(found) => [found.refused, found.ignored],
        Err(TierFault::Nothing { refused, ignored }) => [*refused, *ignored],
        Err(_) => [0; 2],
    };
    (found.map(|found| found.finds).map_err(|fault| fault.to_string()), useless)
}

impl fmt::Debug for Tiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tiers({} zones, seeds {:?})", self.zones.len(), self.seeds)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::net::dns::{Patience, Settings};
    use crate::wire::{Keypair, Profile};

    fn tiers(zones: &[&str], seeds: Option<&str>) -> Tiers {
        let settings = Settings {
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
        tiers.hear(answer)
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
        assert_eq!(tiers.last.len(), 2, "told once for each");
        let report = |source: &str, result| Report { source: source.to_owned(), result, useless: [2, 3] };
        let reports = vec![report("zone one.example", Ok(Vec::new())), report("zone two.example", Err("x".to_owned()))];
        assert_eq!(tiers.hear(Answer { tier: Tier::Dns, reports }), Ok(Vec::new()), "one that answers is enough");
        assert!(tiers.last.iter().any(|told| told.fault.is_none()));
        assert_eq!(tiers.counts, Counts { dns_failed: 3, seeds_failed: 0, ignored: 6, refused: 4 });
    }

    #[test]
    fn what_a_zone_brought_to_no_use_is_counted_whether_it_failed_or_not() {
        let nothing = brought(Err(TierFault::Nothing { refused: 2, ignored: 1 }));
        assert!(nothing.0.is_err() && nothing.1 == [2, 1]);
        let some = brought(Ok(Found { refused: 1, ignored: 3, ..Found::default() }));
        assert!(some.0.is_ok() && some.1 == [1, 3]);
    }
}
