//! A new configuration in a running daemon: what can be taken up is, the rest waits for a restart and
//! says so, and one that is wrong changes nothing.

use tokio::sync::oneshot;
use tokio::task::block_in_place;

use super::driver::{Driver, Waiting};
use crate::config::{Mistake, Mistakes, Peer, Settings};
use crate::core::ports::Input;
use crate::net;
use crate::store::{StoreError, interests};
use crate::wire::Interests;

/// The configuration as it reads now.
pub struct Reread {
    /// What it means.
    pub settings: Settings,
    /// Keys that say something else than at the start, such as `bus.url`.
    pub changed: Vec<String>,
}

/// Reads the configuration again.
pub type Rereader<'r> = dyn Fn() -> Result<Reread, Mistakes> + 'r;

/// What came of that.
pub(super) type Reload = Result<Reread, Mistakes>;

/// Keys whose new value holds at once. A change of any other waits for a restart.
const LIVE: [&str; 15] = [
    "discovery.max_peers",
    "discovery.min_peers",
    "interests.patterns",
    "limits.per_source",
    "node.accept",
    "node.addresses",
    "node.name",
    "peers.address",
    "peers.alias",
    "trust.allow",
    "trust.firehose",
    "trust.mute",
    "trust.rule.action",
    "trust.rule.source",
    "trust.rule.types",
];

/// What the last reading left to be said, and what it compares with.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Why the file was refused: the first mistake, and where it stands.
    refused: Option<String>,
    /// Keys that changed and wait for a restart.
    waiting: Vec<String>,
    /// The peers of the configuration that is in force.
    peers: Vec<Peer>,
}

impl Reading {
    pub(super) fn of_start(settings: &Settings) -> Reading {
        Reading { peers: settings.peers.clone(), ..Reading::default() }
    }

    /// For `status`.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        let refused = self.refused.as_ref().map(|why| format!("the configuration was not read again: {why}"));
        let is_waiting = !self.waiting.is_empty();
        let waiting = is_waiting.then(|| format!("a restart is needed for changes of {}", self.waiting.join(", ")));
        refused.into_iter().chain(waiting)
    }
}

impl Driver {
    /// One line in the log, whatever came of it.
    pub(super) fn on_reload(&mut self, reload: Reload) {
        match reload {
            Err(Mistakes(mistakes)) => {
                let why = in_one_line(&mistakes);
                tracing::error!("the configuration is wrong, the running one stays: {why}");
                self.facts.reading.refused = Some(why);
            }
            Ok(Reread { settings, changed }) => match self.take_up(&settings) {
                Err(error) => {
                    tracing::error!("the new configuration is in force in part only: {error}");
                    self.facts.reading.refused = Some(error.to_string());
                }
                Ok(()) => {
                    self.facts.reading.refused = None;
                    let is_live = |key: &String| LIVE.contains(&key.as_str());
                    (_, self.facts.reading.waiting) = changed.into_iter().partition(is_live);
                    let waiting = self.facts.reading.waiting.join(", ");
                    match waiting.is_empty() {
                        true => tracing::info!("the configuration was read again and is in force"),
                        false => tracing::warn!(
                            "the configuration was read again; a restart is needed for changes of {waiting}"
                        ),
                    }
                }
            },
        }
        self.hands.supervisor.ready();
    }

    /// # Errors
    /// When the disk does not take a new record; what came before it in here holds.
    fn take_up(&mut self, settings: &Settings) -> Result<(), StoreError> {
        self.facts.name = settings.node.name.to_string();
        let rate = settings.limits.per_source;
        if rate != self.facts.rate {
            self.facts.rate = rate;
            self.hands.net.set_rate(&net::Rate { per_second: rate.per_second.get(), burst: rate.burst.get() });
        }
        self.facts.peers_max = settings.discovery.max_peers;
        self.take_up_trust(settings);
        self.take_up_peers(&settings.peers);
        let now = self.clock.now();
        block_in_place(|| self.record.set_addresses(settings.node.addresses.clone(), now))?;
        self.take_up_interests(&settings.interests)
    }

    /// Who is new or moved is added. Who is gone from the file stays a peer, as after a restart: the
    /// file says who is known, `afferent peers rm` who is not any more.
    fn take_up_peers(&mut self, peers: &[Peer]) {
        let before = std::mem::replace(&mut self.facts.reading.peers, peers.to_vec());
        for peer in peers.iter().filter(|peer| !before.contains(peer)) {
            let (nobody, _) = oneshot::channel();
            let ticket = self.ticket(Waiting::Saved(nobody));
            self.feed(Input::PeerAdded { ticket, id: peer.id, at: peer.at.clone(), alias: peer.alias.clone() });
        }
        for gone in before.iter().filter(|gone| peers.iter().all(|peer| peer.id != gone.id)) {
            let id = gone.id.short();
            tracing::info!(peer = %id, "no longer in the configuration, still a peer; next: afferent peers rm {id}");
        }
    }

    /// An edit of the file counts more than what was typed before it.
    fn take_up_interests(&mut self, configured: &Interests) -> Result<(), StoreError> {
        if *configured == self.facts.configured {
            return Ok(());
        }
        let typed = block_in_place(|| interests::load(&self.hands.dir, configured));
        let wanted = typed.unwrap_or_else(|| configured.clone());
        let now = self.clock.now();
        block_in_place(|| self.record.set_interests(wanted.clone(), now))?;
        self.facts.configured = configured.clone();
        self.hands.interests.send_replace(wanted.clone());
        self.feed(Input::Interests(wanted));
        Ok(())
    }
}

/// The first mistake with place and remedy, and how many more there are.
fn in_one_line(mistakes: &[Mistake]) -> String {
    let Some(first) = mistakes.first() else { return String::new() };
    let place = first.place.as_ref().map_or(String::new(), |place| match place.position {
        Some(position) => format!("{}:{}:{}: ", place.source, position.line, position.column),
        None => format!("{}: ", place.source),
    });
    let more = match mistakes.len() {
        1 => String::new(),
        count => format!("; and {} more, see `afferent config check`", count - 1),
    };
    format!("{place}{}, {} ({}); next: {}{more}", first.what, first.why, first.code, first.next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::path::Path;

    fn mistakes(text: &str) -> Vec<Mistake> {
        config::read(Some((Path::new("/a.toml"), text)), &[], &config::Surroundings::default()).expect_err("wrong").0
    }

    #[test]
    fn a_refusal_is_one_line_with_place_and_remedy() {
        let line = in_one_line(&mistakes("[bus]\nmaxlne = 5\nown = 7"));
        assert!(line.starts_with("/a.toml:2:1: unknown key `maxlne` in [bus], the keys of [bus] are"), "{line}");
        let end = "(AF0103); next: write `maxlen`; and 1 more, see `afferent config check`";
        assert!(line.ends_with(end) && !line.contains('\n'), "{line}");
    }

    #[test]
    fn status_says_what_was_refused_and_what_waits() {
        let reading = Reading {
            refused: Some("x".into()),
            waiting: vec!["bus.url".into(), "node.listen".into()],
            ..Reading::default()
        };
        let expected =
            ["the configuration was not read again: x", "a restart is needed for changes of bus.url, node.listen"];
        assert_eq!(reading.warnings().collect::<Vec<_>>(), expected);
        assert_eq!(Reading::default().warnings().count(), 0);
    }

    #[test]
    fn what_is_live_is_a_key() {
        for name in LIVE {
            let (section, key) = name.rsplit_once('.').expect("a table and a key");
            assert!(config::FIELDS.iter().any(|field| (field.section, field.key) == (section, key)), "{name}");
        }
    }
}
