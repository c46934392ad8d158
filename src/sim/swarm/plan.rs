//! What is simulated: how many nodes, which events, what goes wrong.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Most nodes of one swarm: each takes some kilobytes.
pub const NODES_MAX: usize = 100_000;
/// Most deliveries of one run, nodes times events: each takes some twenty bytes until the report is made.
pub const DELIVERIES_MAX: usize = 20_000_000;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Nodes, those that are dead from the beginning among them.
    pub nodes: usize,
    /// Decides everything that chance decides.
    pub seed: u64,
    /// Events, each published at a node chosen by chance.
    pub events: usize,
    /// Nodes that ask for them.
    pub interested: Share,
    /// Bytes of data in each event.
    pub size: usize,
    /// Time between two events.
    pub interval: Duration,
    /// Links stand before anybody needs them, as in the study that the design goes back to. Otherwise whoever
    /// sends to a node for the first time waits for one round trip more.
    pub warm: bool,
    /// What goes wrong while events are published.
    pub faults: Faults,
    /// How long nothing goes wrong any more before the accounts are made up.
    pub healing: Duration,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            nodes: 1_000,
            seed: 1,
            events: 10,
            interested: Share::ALL,
            size: 700,
            interval: Duration::from_millis(200),
            warm: false,
            faults: Faults::default(),
            healing: Duration::from_secs(120),
        }
    }
}

impl Plan {
    /// Can this be run at all?
    ///
    /// # Errors
    /// What is wrong with it and what would be right, in words.
    pub fn check(&self) -> Result<(), String> {
        if !(2..=NODES_MAX).contains(&self.nodes) {
            return Err(format!("{} nodes: 2 to {NODES_MAX}", self.nodes));
        }
        if self.events == 0 || self.events.saturating_mul(self.nodes) > DELIVERIES_MAX {
            let most = DELIVERIES_MAX / self.nodes;
            return Err(format!("{} events to {} nodes: 1 to {most} events are possible", self.events, self.nodes));
        }
        if self.interested.of(self.nodes) == 0 {
            return Err(format!("{} of {} nodes: nobody asks for the events", self.interested, self.nodes));
        }
        let faults = &self.faults;
        let odd = [faults.dead, faults.droppers, faults.slow, faults.churn];
        if odd.iter().map(|share| share.of(self.nodes)).sum::<usize>() > self.nodes - 2 {
            return Err("dead, droppers, slow and churn are different nodes, and two have to be left over".to_owned());
        }
        Ok(())
    }
}

/// What goes wrong. Dead, droppers, slow and churn are different nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// Nodes that everybody knows and that never answer.
    pub dead: Share,
    /// Nodes that acknowledge what they are to carry on, and carry nothing on.
    pub droppers: Share,
    /// Entries that are missing in what a node knows of the others, other ones in every node's view but for those
    /// of one in sixteen.
    pub stale: Share,
    /// Nodes whose disk takes a second for a commit.
    pub slow: Share,
    /// Requests that are never answered, and answers that never arrive.
    pub loss: Share,
    /// Nodes that crash once while events are published, and come back within ten seconds with their journal.
    pub churn: Share,
    /// Nodes that are cut off from all others while events are published.
    pub partition: Share,
    /// Every clock is wrong by up to so much.
    pub skew: Duration,
    /// Every message takes up to so much longer than its link does.
    pub jitter: Duration,
}

/// The names of the faults with what their numbers mean.
pub const FAULTS: [(&str, &str); 9] = [
    ("dead", "% of the nodes never answer"),
    ("droppers", "% of the nodes acknowledge and carry nothing on"),
    ("stale", "% of the entries of every view are missing"),
    ("slow", "% of the nodes take a second for a commit"),
    ("loss", "% of requests and answers get lost"),
    ("churn", "% of the nodes crash once and come back"),
    ("partition", "% of the nodes are cut off from the others"),
    ("skew", "seconds by which clocks are wrong at most"),
    ("jitter", "milliseconds that a message is late at most"),
];

impl FromStr for Faults {
    type Err = String;
    fn from_str(text: &str) -> Result<Faults, String> {
        let mut faults = Faults::default();
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or(format!("`{part}` is no fault; write dead=5,loss=1"))?;
            let share = || value.parse::<Share>().map_err(|why| format!("{name}: {why}"));
            let number = |most: u64| match value.parse::<u64>() {
                Ok(number) if number <= most => Ok(number),
                _ => Err(format!("{name}: `{value}` is no whole number up to {most}")),
            };
            match name {
                "dead" => faults.dead = share()?,
                "droppers" => faults.droppers = share()?,
                "stale" => faults.stale = share()?,
                "slow" => faults.slow = share()?,
                "loss" => faults.loss = share()?,
                "churn" => faults.churn = share()?,
                "partition" => faults.partition = share()?,
                "skew" => faults.skew = Duration::from_secs(number(86_400)?),
                "jitter" => faults.jitter = Duration::from_millis(number(10_000)?),
                _ => {
                    let names: Vec<&str> = FAULTS.iter().map(|(name, _)| *name).collect();
                    return Err(format!("`{name}` is no fault; there are {}", names.join(", ")));
                }
            }
        }
        Ok(faults)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Faults { dead, droppers, stale, slow, loss, churn, partition, skew, jitter } = self;
        let shares = [
            ("dead", dead),
            ("droppers", droppers),
            ("stale", stale),
            ("slow", slow),
            ("loss", loss),
            ("churn", churn),
            ("partition", partition),
        ];
        let shares = shares.into_iter().filter(|(_, share)| **share != Share::NONE);
        let mut parts: Vec<String> = shares.map(|(name, share)| format!("{name}={}", share.percent())).collect();
        if *skew > Duration::ZERO {
            parts.push(format!("skew={}", skew.as_secs()));
        }
        if *jitter > Duration::ZERO {
            parts.push(format!("jitter={}", jitter.as_millis()));
        }
        f.pad(&if parts.is_empty() { "none".to_owned() } else { parts.join(",") })
    }
}

/// A part of a whole, in millionths; as text in percent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Share(u32);

impl Share {
    /// Nothing.
    pub const NONE: Share = Share(0);
    /// Everything.
    pub const ALL: Share = Share(1_000_000);

    /// So many of `count`, rounded to the nearest.
    pub fn of(self, count: usize) -> usize {
        usize::try_from((count as u64 * u64::from(self.0) + 500_000) / 1_000_000).unwrap_or(count)
    }

    /// Does something that happens so often happen this time?
    pub(super) fn happens(self, rng: &mut fastrand::Rng) -> bool {
        self.0 > 0 && rng.u32(0..1_000_000) < self.0
    }

    fn percent(self) -> String {
        let text = format!("{}.{:04}", self.0 / 10_000, self.0 % 10_000);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

impl FromStr for Share {
    type Err = String;
    fn from_str(text: &str) -> Result<Share, String> {
        let wrong = || format!("`{text}` is no share; write percent, such as 5 or 0.5");
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |text: &str, most: usize| {
            (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !is_number(whole, 3) || !is_number(part, 4) {
            return Err(wrong());
        }
        let millionths = format!("{whole}{part:0<4}").parse::<u32>().map_err(|_| wrong())?;
        if millionths > Share::ALL.0 { Err(format!("`{text}` is more than 100 %")) } else { Ok(Share(millionths)) }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.percent())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percent_with_four_digits_at_most() {
        for (text, millionths) in [("0", 0), ("5", 50_000), ("0.5", 5_000), ("100", 1_000_000), ("99.9999", 999_999)] {
            assert_eq!(text.parse(), Ok(Share(millionths)), "{text}");
            assert_eq!(Share(millionths).percent(), text);
        }
        for text in ["", "-1", "5%", ".5", "5.", "100.0001", "101", "1e2", "0.00001"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
        assert_eq!(Share(50_000).of(10), 1, "the nearest");
    }

    #[test]
    fn faults_are_read_as_they_are_shown_and_a_slip_is_named() {
        let text = "dead=5,droppers=10,stale=2,slow=0.1,loss=1,churn=3,partition=20,skew=30,jitter=15";
        let faults: Faults = text.parse().expect("faults");
        assert_eq!(faults.to_string(), text);
        assert_eq!(Faults::default().to_string(), "none");
        for (text, named) in [
            ("dead", "`dead`"),
            ("dred=5", "`dred`"),
            ("dead=5,loss=x", "loss: `x`"),
            ("skew=1h", "skew: `1h`"),
            ("", "``"),
        ] {
            let error = text.parse::<Faults>().expect_err(text);
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn a_plan_that_cannot_be_run_says_why() {
        let of = |text: &str| text.parse().expect("a share");
        assert_eq!(Plan::default().check(), Ok(()));
        let odd = Faults { dead: of("60"), slow: of("40"), ..Faults::default() };
        for (plan, named) in [
            (Plan { nodes: 1, ..Plan::default() }, "1 nodes"),
            (Plan { nodes: NODES_MAX + 1, ..Plan::default() }, "nodes: 2 to"),
            (Plan { events: 0, ..Plan::default() }, "0 events"),
            (Plan { nodes: 50, events: 400_001, ..Plan::default() }, "1 to 400000 events"),
            (Plan { interested: Share::NONE, ..Plan::default() }, "nobody asks"),
            (Plan { faults: odd, ..Plan::default() }, "different nodes"),
        ] {
            let error = plan.check().expect_err(named);
            assert!(error.contains(named), "{error}");
        }
    }
}
