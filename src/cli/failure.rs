//! How a command ends when it does not end well.

use std::fmt;
use std::io;
use std::process::ExitCode;

use super::codes;
use crate::admin::{ClientError, FaultCode, Problem};
use crate::config::Mistakes;

/// The exit codes: part of the interface, never renumbered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Exit {
    Done = 0,
    /// Failed, or the answer is no.
    Failed = 1,
    Usage = 2,
    /// No daemon answers.
    Unreachable = 3,
    NoSuchPeer = 4,
    Refused = 5,
    Timeout = 6,
    /// Works, but not as it should.
    Degraded = 7,
    /// Bad configuration.
    Configuration = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// What a user types who is not let in: the socket, and the file of the system, are for a group.
pub(super) const JOIN_THE_GROUP: &str = "sudo usermod -aG afferent $USER, then log in again; or use sudo";

/// What went wrong: which thing, what, why, what to type next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    text: Text,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Text {
    /// The reader of a pipe went away: nothing is wrong, and nobody is left to be told.
    Silent,
    /// As the configuration itself says it.
    Whole(String),
    Parts {
        thing: String,
        what: String,
        next: String,
        code: String,
    },
}

impl Failure {
    /// A failure; `code` is one of [`codes`].
    pub(super) fn new(exit: Exit, code: &str, thing: &str, what: impl Into<String>) -> Failure {
        let text =
            Text::Parts { thing: thing.to_owned(), what: what.into(), next: String::new(), code: code.to_owned() };
        Failure { exit, text }
    }

    /// With what to type next.
    pub(super) fn next(mut self, command: impl Into<String>) -> Failure {
        if let Text::Parts { next, .. } = &mut self.text {
            *next = command.into();
        }
        self
    }

    /// Something that the operating system refused.
    pub(super) fn of_system(thing: &str, what: &str, cause: &io::Error) -> Failure {
        Failure::new(Exit::Failed, codes::SYSTEM, thing, format!("{what}, {cause}"))
    }

    /// What the client of the local API met, while doing `thing`.
    pub(super) fn of_client(thing: &str, error: &ClientError) -> Failure {
        match error {
            ClientError::Absent { .. } => Failure::new(Exit::Unreachable, codes::ABSENT, thing, error.to_string())
                .next("afferent run, or name the socket of a running one: --socket PATH"),
            ClientError::Denied { .. } => {
                Failure::new(Exit::Refused, codes::DENIED, thing, error.to_string()).next(JOIN_THE_GROUP)
            }
            ClientError::Broken(_) => {
                Failure::new(Exit::Unreachable, codes::BROKEN, thing, error.to_string()).next("afferent status")
            }
            ClientError::Unreadable(_) => {
                Failure::new(Exit::Failed, codes::UNREADABLE, thing, error.to_string()).next("afferent --version")
            }
            ClientError::Problem(problem) => Failure::of_problem(thing, problem),
        }
    }

    fn of_problem(thing: &str, Problem { problem, number }: &Problem) -> Failure {
        let code = FaultCode::of_word(&problem.code);
        let next = match code {
            Some(FaultCode::NoSuchPeer | FaultCode::Ambiguous) => "afferent peers list".to_owned(),
            Some(FaultCode::Forbidden) => JOIN_THE_GROUP.to_owned(),
            Some(FaultCode::NoSuchLetter | FaultCode::AmbiguousLetter) => "afferent dead list".to_owned(),
            Some(FaultCode::LetterRefused) => "afferent dead show ID, or drop ID".to_owned(),
            Some(FaultCode::NothingStopped | FaultCode::BusTrouble) => "afferent status".to_owned(),
            Some(FaultCode::NoSuchPattern) => "afferent interests".to_owned(),
            Some(FaultCode::NoSuchGroup) => "afferent sub --list-groups".to_owned(),
            Some(FaultCode::GroupsFull) => {
                "afferent sub --list-groups, then afferent sub --forget-group NAME".to_owned()
            }
            Some(FaultCode::Blocked) => "afferent peers unblock PEER".to_owned(),
            Some(FaultCode::BlockedFull) => {
                "afferent peers unblock PEER, or name in trust.allow who may come".to_owned()
            }
            Some(FaultCode::NotMuted) => "afferent mute".to_owned(),
            Some(FaultCode::PositionGone | FaultCode::PositionAhead) => "afferent sub --since all".to_owned(),
            Some(FaultCode::Stopping | FaultCode::Storage | FaultCode::Unreadable) => "afferent status".to_owned(),
            Some(FaultCode::OwnAddress) => "give the line that `afferent id` prints on the other machine".to_owned(),
            Some(FaultCode::Unreachable) => "try again when it runs, or give the address with its id".to_owned(),
            _ => format!("afferent explain {number}"),
        };
        Failure::new(exit_of(code), number, thing, problem.title.clone()).next(next)
    }

    /// True when there is nothing to say.
    pub(super) fn is_silent(&self) -> bool {
        self.text == Text::Silent
    }
}

/// Which exit code tells a script of this fault.
fn exit_of(code: Option<FaultCode>) -> Exit {
    match code {
        Some(FaultCode::NoSuchPeer | FaultCode::Ambiguous) => Exit::NoSuchPeer,
        Some(FaultCode::Unreachable | FaultCode::Stopping) => Exit::Timeout,
        Some(
            FaultCode::Forbidden
            | FaultCode::OwnAddress
            | FaultCode::Unpinned
            | FaultCode::WrongKey
            | FaultCode::PeersFull
            | FaultCode::Alias
            | FaultCode::Mute
            | FaultCode::Blocked
            | FaultCode::BlockedFull
            | FaultCode::GroupsFull
            | FaultCode::NoBus
            | FaultCode::LetterRefused
            | FaultCode::Event(_),
        ) => Exit::Refused,
        Some(
            FaultCode::BadRequest
            | FaultCode::NotFound
            | FaultCode::Method
            | FaultCode::ContentType
            | FaultCode::BodyTooLarge
            | FaultCode::Storage
            | FaultCode::Interests
            | FaultCode::NoSuchPattern
            | FaultCode::NotMuted
            | FaultCode::PositionGone
            | FaultCode::PositionAhead
            | FaultCode::Unreadable
            | FaultCode::NoSuchGroup
            | FaultCode::BusTrouble
            | FaultCode::NoSuchLetter
            | FaultCode::AmbiguousLetter
            | FaultCode::NothingStopped,
        )
        | None => Exit::Failed,
    }
}

impl From<Mistakes> for Failure {
    fn from(mistakes: Mistakes) -> Failure {
        let whole = mistakes.0.iter().map(|mistake| format!("afferent: {mistake}")).collect::<Vec<_>>().join("\n\n");
        Failure { exit: Exit::Configuration, text: Text::Whole(whole) }
    }
}

/// Standard output is the one thing written to without naming it.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure { exit: Exit::Done, text: Text::Silent },
            _ => Failure::of_system("output", "standard output cannot be written", &error),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Text::Silent => Ok(()),
            Text::Whole(text) => f.write_str(text),
            Text::Parts { thing, what, next, code } => {
                write!(f, "afferent: {thing}: {what} ({code})")?;
                if next.is_empty() { Ok(()) } else { write!(f, "\nnext: {next}") }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Fault;
    use crate::wire::Code;

    fn of(code: FaultCode) -> Failure {
        Failure::of_client("peers", &ClientError::Problem(Fault::new(code, "because").problem()))
    }

    #[test]
    fn scripts_can_tell_faults_apart() {
        assert_eq!(of(FaultCode::NoSuchPeer).exit, Exit::NoSuchPeer);
        assert_eq!(of(FaultCode::Forbidden).exit, Exit::Refused);
        assert_eq!(of(FaultCode::Event(Code::Muted)).exit, Exit::Refused);
        assert_eq!(of(FaultCode::Unreachable).exit, Exit::Timeout);
        assert_eq!(of(FaultCode::NoSuchPattern).exit, Exit::Failed);
        let absent = ClientError::Absent { path: "/run/a.sock".into() };
        assert_eq!(Failure::of_client("status", &absent).exit, Exit::Unreachable);
        let closed = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(closed.is_silent() && closed.exit == Exit::Done);
        assert_eq!(Failure::from(Mistakes(Vec::new())).exit as u8, crate::config::EXIT_CODE);
    }

    #[test]
    fn a_failure_names_the_thing_the_code_and_the_next_command() {
        assert_eq!(
            of(FaultCode::NoSuchPeer).to_string(),
            "afferent: peers: because (AF0301)\nnext: afferent peers list"
        );
        assert_eq!(
            Failure::of_client("status", &ClientError::Absent { path: "/run/a.sock".into() }).to_string(),
            "afferent: status: no daemon answers at /run/a.sock (AF0211)\n\
             next: afferent run, or name the socket of a running one: --socket PATH"
        );
    }
}
