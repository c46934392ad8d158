//! Where each stream of the local bus goes on when the daemon starts, also under another configuration
//! than before: nothing that was acknowledged and not bridged yet is passed over, and nothing is held
//! back for a stream that gets nothing any more.

use crate::bus::{self, Era, History, Routing};
use crate::core::ports::{Log as _, Seq};
use crate::store::{DataDir, Journal, StoreError, routes};

/// Takes up the streams of this configuration: remembers what of an earlier one still counts, which is
/// what this returns, and where each begins. Without a Redis (`None`) all of that is forgotten.
///
/// # Errors
/// When the disk does not take it: then nothing was changed.
pub(super) fn take_up(journal: &Journal, dir: &DataDir, now: Option<Routing>) -> Result<Vec<Era>, StoreError> {
    let loaded = routes::load(dir);
    if let Some(warning) = loaded.warning {
        tracing::warn!("{warning}");
    }
    let remembered = loaded.text.filter(|text| !text.is_empty());
    let Some(now) = now else {
        if remembered.is_some() {
            routes::save(dir, "")?;
        }
        forget_all_but(&[], journal, true);
        return Ok(Vec::new());
    };
    let known = remembered.as_deref().and_then(|text| History::read(text, journal.incarnation()));
    if remembered.is_some() && known.is_none() {
        tracing::warn!("which streams took what before is not known any more: each goes on where it is");
    }
    let is_new = known.is_none();
    let mut history = known.unwrap_or_else(|| History::begin(journal.incarnation(), now.clone()));
    let is_changed = history.take_up(now, journal.head(), |stream| position(journal, stream));
    if is_new || is_changed {
        // Before any cursor is moved or forgotten: whatever a crash leaves undone is done at the next start.
        routes::save(dir, &history.text())?;
    }
    for stream in history.streams() {
        bus::pin(journal, stream, journal.head(), history.begins(stream));
    }
    for era in history.former() {
        tracing::info!(
            upto = era.upto.0,
            "the streams are others than before: what was stored until then goes where it was to go"
        );
    }
    forget_all_but(&history.streams(), journal, is_new);
    Ok(history.former().to_vec())
}

/// How far this stream is, as far as the journal knows: by the hint itself, or before there is one by the
/// mark where it begins.
fn position(journal: &Journal, stream: &str) -> Option<Seq> {
    ["", "#renamed", "#first"].iter().find_map(|mark| journal.cursor(&format!("bus:{stream}{mark}")))
}

/// A stream that gets nothing any more must not hold events back for ever. Where nobody remembers it, what it
/// lacked is lost to it.
fn forget_all_but(streams: &[&str], journal: &Journal, is_loss: bool) {
    for (name, at) in journal.cursors() {
        let Some(stream) = name.strip_prefix("bus:") else { continue };
        let stream = ["#first", "#renamed"].iter().find_map(|mark| stream.strip_suffix(mark)).unwrap_or(stream);
        if streams.contains(&stream) {
            continue;
        }
        let (at, head) = (at.0, journal.head().0);
        if is_loss && at < head {
            tracing::warn!(
                stream,
                at,
                head,
                "a stream is bridged no more: what it had not got yet stays in the journal; next: afferent sub --since"
            );
        } else {
            tracing::info!(stream, "a stream is bridged no more");
        }
        journal.forget_cursor(&name);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::core::ports::{BatchId, Entry};
    use crate::store::{JournalSettings, Report};
    use crate::time::Wall;
    use crate::wire::{Draft, Keypair, Network, envelope};

    const NOON: Wall = Wall::from_millis(1_795_262_400_000);

    /// The routing of `main` and, where there is one, of a route to another stream.
    fn routing(to: Option<&str>) -> Routing {
        let route = |to: &str| bus::Route { pattern: "a.*".parse().expect("a pattern"), stream: to.to_owned() };
        Routing::of(&bus::Settings {
            url: String::new(),
            stream: "main".to_owned(),
            shards: 0,
            routes: to.map(route).into_iter().collect(),
            spreads: Vec::new(),
            former: Vec::new(),
            layout: bus::Layout::Plain,
            outbox: String::new(),
            maxlen: 0,
            own: false,
            node: Keypair::from_seed(&[1; 32]).id(),
            network: Network::default(),
            start: Seq(0),
            timing: bus::Timing::default(),
        })
    }

    /// A journal of four events.
    fn journal(dir: &DataDir) -> Journal {
        let (reports, told) = mpsc::channel();
        let journal = Journal::open(dir, JournalSettings::default(), move |report| drop(reports.send(report)));
        let journal = journal.expect("a journal");
        let entry = |number: u32| {
            let draft = Draft::new(number.to_string(), "a.b", NOON);
            let envelope = envelope::seal(&draft, &Keypair::from_seed(&[9; 32])).expect("a good draft");
            Entry { envelope, from: None, hops: 1, duty: false, received: NOON, claims: Box::default(), hold: None }
        };
        journal.append(BatchId(1), (0..4).map(entry).collect());
        while !matches!(told.recv().expect("it reports"), Report::Head(_)) {}
        journal
    }

    fn names(journal: &Journal) -> Vec<String> {
        journal.cursors().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn a_stream_is_forgotten_when_it_has_all_and_not_before() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = DataDir::open(home.path()).expect("a data directory");
        let journal = journal(&dir);
        let head = journal.head();
        let take_up = |now| take_up(&journal, &dir, now).expect("a disk");
        assert_eq!(take_up(Some(routing(Some("x")))), []);
        assert_eq!(names(&journal), ["bus:main#first", "bus:x#first"], "what comes waits for them from now on");
        journal.set_cursor("bus:main", head);
        journal.set_cursor("bus:x", Seq(head.0 - 1));
        journal.forget_cursor("bus:x#first");

        let [era] = &take_up(Some(routing(None)))[..] else { panic!("the past does not count") };
        assert_eq!((era.upto, &era.routing), (head, &routing(Some("x"))));
        assert!(names(&journal).contains(&"bus:x".to_owned()), "it holds back what it lacks");
        assert_eq!(take_up(Some(routing(None))).len(), 1, "also after another start");
        journal.set_cursor("bus:x", head);
        assert_eq!(take_up(Some(routing(None))), []);
        assert!(!names(&journal).contains(&"bus:x".to_owned()), "{:?}", names(&journal));
    }

    #[test]
    fn a_cursor_that_a_crash_lost_is_placed_again_where_the_stream_begins() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = DataDir::open(home.path()).expect("a data directory");
        let journal = journal(&dir);
        take_up(&journal, &dir, Some(routing(Some("x")))).expect("a disk");
        journal.set_cursor("bus:main", Seq(1));
        journal.set_cursor("bus:x", Seq(2));
        take_up(&journal, &dir, Some(routing(Some("y")))).expect("a disk");
        assert_eq!(journal.cursor("bus:y#renamed"), Some(Seq(2)));
        // As after a crash before the commit that had it.
        journal.forget_cursor("bus:y#renamed");
        take_up(&journal, &dir, Some(routing(Some("y")))).expect("a disk");
        assert_eq!(journal.cursor("bus:y#renamed"), Some(Seq(2)));
        assert_eq!(journal.cursor("bus:x"), None);
    }

    #[test]
    fn without_a_redis_nothing_is_held_back_and_nothing_remembered() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = DataDir::open(home.path()).expect("a data directory");
        let journal = journal(&dir);
        take_up(&journal, &dir, Some(routing(Some("x")))).expect("a disk");
        assert_eq!(take_up(&journal, &dir, None).expect("a disk"), []);
        assert_eq!(names(&journal), [""; 0]);
        assert_eq!(take_up(&journal, &dir, Some(routing(None))).expect("a disk"), []);
    }
}
