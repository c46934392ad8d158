//! Groups of local subscribers: each is a name and how far it has acknowledged.
//!
//! ```text
//!   GET  /v1/events?group=app&seq=true    what follows the last acknowledged position
//!   POST /v1/groups/app  {"seq":17}       everything up to there is done; durable within a second
//! ```
//!
//! A reader that dies between the two gets those events again: at least once. A group that never
//! acknowledged begins where `since` says. It holds nothing back: what retention drops before it was
//! acknowledged is told as `position_gone`.

use std::str::FromStr;

use crate::core::ports::{Log, Seq};

/// Longest name of a group.
const GROUP_NAME_MAX: usize = 64;

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
    /// The name.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    fn cursor(&self) -> String {
        format!("sub:{}", self.0)
    }

    /// The last position that was acknowledged.
    pub(super) fn acknowledged(&self, log: &dyn Log) -> Option<Seq> {
        log.cursor(&self.cursor())
    }

    /// Everything up to here is done. A group never goes back: the higher position counts.
    pub(super) fn acknowledge(&self, log: &dyn Log, seq: Seq) -> Seq {
        let seq = self.acknowledged(log).map_or(seq, |before| before.max(seq));
        log.set_cursor(&self.cursor(), seq);
        seq
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
