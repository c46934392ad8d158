//! Groups of local subscribers: each is a name and how far it has acknowledged.
//!
//! ```text
//!   GET    /v1/events?group=app&seq=true&progress=true   what follows the last acknowledged position
//!   POST   /v1/groups/app  {"seq":17}                    everything up to there is done; durable within a second
//!   GET    /v1/groups                                    all of them
//!   DELETE /v1/groups/app                                the name is free, and the next one begins anew
//! ```
//!
//! A reader that dies between the first two gets those events again: at least once. A group that never
//! acknowledged begins where `since` says. It holds nothing back: what retention drops before it was
//! acknowledged is told as `position_gone`. A group lasts until somebody deletes it, so there are
//! [`GROUPS_MAX`] at most.

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use super::answers::{Group, Groups};
use super::fault::{Fault, FaultCode};
use crate::core::ports::{Log, Seq};

/// Longest name of a group.
pub const GROUP_NAME_MAX: usize = 64;
/// Groups of subscribers.
pub const GROUPS_MAX: usize = 1_024;

/// Before the name of a group in the name of its cursor.
const CURSOR: &str = "sub:";

/// The cursors of the journal beyond what [`Log`] tells of one.
pub trait Cursors: Send + Sync {
    /// Each by its name, whoever's it is.
    fn all(&self) -> Vec<(String, Seq)>;

    /// Drops one. Durable with the next commit at the latest.
    fn forget(&self, name: &str);
}

/// The name of a group: letters, digits, `.`, `_`, `-`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct GroupName(String);

impl FromStr for GroupName {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<GroupName, &'static str> {
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if (1..=GROUP_NAME_MAX).contains(&text.len()) && text.bytes().all(is_good) {
            Ok(GroupName(text.to_owned()))
        } else {
            Err("the name of a group is 1 to 64 letters, digits, `.`, `_` or `-`")
        }
    }
}

impl GroupName {
    fn cursor(&self) -> String {
        format!("{CURSOR}{}", self.0)
    }

    /// The last position that was acknowledged.
    pub(super) fn acknowledged(&self, log: &dyn Log) -> Option<Seq> {
        log.cursor(&self.cursor())
    }
}

/// All groups. Whatever changes one comes through here, one change after the other.
pub(super) struct Register {
    log: Arc<dyn Log>,
    cursors: Arc<dyn Cursors>,
    turn: Mutex<()>,
}

impl Register {
    pub(super) fn new(log: Arc<dyn Log>, cursors: Arc<dyn Cursors>) -> Register {
        Register { log, cursors, turn: Mutex::default() }
    }

    /// How far this one is.
    pub(super) fn one(&self, name: &GroupName) -> Group {
        Group { group: name.0.clone(), seq: name.acknowledged(&*self.log), head: self.log.head() }
    }

    /// All of them, by name.
    pub(super) fn all(&self) -> Groups {
        let head = self.log.head();
        let group = |(cursor, seq): (String, Seq)| {
            let group = cursor.strip_prefix(CURSOR)?.to_owned();
            Some(Group { group, seq: Some(seq), head })
        };
        let mut groups: Vec<Group> = self.cursors.all().into_iter().filter_map(group).collect();
        groups.sort_by(|one, other| one.group.cmp(&other.group));
        Groups { groups }
    }

    /// Everything up to here is done. A group never goes back: the higher position counts, also of two
    /// that come at once.
    ///
    /// # Errors
    /// [`FaultCode::PositionAhead`], and [`FaultCode::GroupsFull`] for a name that is new.
    pub(super) fn acknowledge(&self, name: &GroupName, seq: Seq) -> Result<Group, Fault> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let head = self.log.head();
        if seq > head {
            let why = format!("the journal ends at {}: is {} a position of another journal?", head.0, seq.0);
            return Err(Fault::new(FaultCode::PositionAhead, why));
        }
        let before = name.acknowledged(&*self.log);
        if before.is_none() && self.all().groups.len() >= GROUPS_MAX {
            let why = format!("there are {GROUPS_MAX} groups already; delete one that nobody needs");
            return Err(Fault::new(FaultCode::GroupsFull, why));
        }
        let seq = before.map_or(seq, |before| before.max(seq));
        self.log.set_cursor(&name.cursor(), seq);
        Ok(Group { group: name.0.clone(), seq: Some(seq), head })
    }

    /// Its name is free again. Says how far it was.
    ///
    /// # Errors
    /// [`FaultCode::NoSuchGroup`].
    pub(super) fn forget(&self, name: &GroupName) -> Result<Group, Fault> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = self.one(name);
        if gone.seq.is_none() {
            let why = format!("no group is called `{}`, or it never acknowledged anything", name.0);
            return Err(Fault::new(FaultCode::NoSuchGroup, why));
        }
        self.cursors.forget(&name.cursor());
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use super::*;
    use crate::core::ports::{Page, PageError, Stored};
    use crate::time::Wall;
    use crate::wire::Digest;

    /// A log with one cursor. Its first reader is held up until somebody else has set the cursor, or a
    /// while has passed in which nobody could.
    struct Held {
        cursor: Mutex<Option<Seq>>,
        hold: Mutex<Option<(Sender<()>, Receiver<()>)>>,
    }

    impl Log for Held {
        fn incarnation(&self) -> u64 {
            7
        }
        fn head(&self) -> Seq {
            Seq(9)
        }
        fn earliest(&self) -> Seq {
            Seq(1)
        }
        fn page(&self, after: Seq, _: usize, _: usize) -> Result<Page, PageError> {
            Ok(Page { entries: Vec::new(), upto: after })
        }
        fn since(&self, _: Wall) -> Result<Seq, PageError> {
            Ok(Seq(1))
        }
        fn find(&self, _: &Digest) -> Option<Stored> {
            None
        }
        fn cursor(&self, _: &str) -> Option<Seq> {
            let read = *self.cursor.lock().expect("no panic");
            let hold = self.hold.lock().expect("no panic").take();
            if let Some((has_read, others)) = hold {
                has_read.send(()).expect("somebody waits");
                // It is well when nobody comes: the turn is ours.
                let _ = others.recv_timeout(Duration::from_millis(300));
            }
            read
        }
        fn set_cursor(&self, _: &str, seq: Seq) {
            *self.cursor.lock().expect("no panic") = Some(seq);
        }
    }

    impl Cursors for Held {
        fn all(&self) -> Vec<(String, Seq)> {
            Vec::new()
        }
        fn forget(&self, _: &str) {}
    }

    #[test]
    fn who_acknowledges_less_a_moment_later_does_not_set_the_group_back() {
        let ((has_read, reads), (done, others)) = (channel(), channel());
        let log = Arc::new(Held { cursor: Mutex::new(Some(Seq(1))), hold: Mutex::new(Some((has_read, others))) });
        let register = Arc::new(Register::new(Arc::clone(&log) as Arc<dyn Log>, Arc::clone(&log) as Arc<dyn Cursors>));
        let name: GroupName = "app".parse().expect("a name");
        let (slow, his) = (Arc::clone(&register), name.clone());
        let slow = std::thread::spawn(move || slow.acknowledge(&his, Seq(2)));
        reads.recv().expect("it has read the cursor");
        let quick = register.acknowledge(&name, Seq(5)).expect("acknowledged");
        let _ = done.send(());
        slow.join().expect("no panic").expect("acknowledged");
        assert_eq!((quick.seq, *log.cursor.lock().expect("no panic")), (Some(Seq(5)), Some(Seq(5))));
    }

    #[test]
    fn the_name_of_a_group_is_short_and_plain() {
        for good in ["app", "a.b_c-1"] {
            assert!(good.parse::<GroupName>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "a:b", "\u{fc}", &"x".repeat(65)] {
            assert!(bad.parse::<GroupName>().is_err(), "{bad}");
        }
    }
}
