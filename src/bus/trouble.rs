//! What goes wrong with a Redis, and the reaction: every reply and every error of the socket has one
//! [`Class`]. The cursor stays where it is in all of them.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerError, ServerErrorKind};

use super::settings::Timing;

/// What to do about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    /// Nobody there, or the connection broke: connect again, at most 10 s apart.
    Absent,
    /// It is there and says nothing in time: connect again. What was sent may have been done.
    Silent,
    /// It is there and busy with itself (loading, a slow script, no replicas): wait.
    Wait,
    /// Its memory is full: wait; readers or the operator make room.
    Full,
    /// It is not the one that takes writes now: connect again and read the cursor again.
    Role,
    /// What we relied on is gone (group, script, key): read again and set it up again.
    Reread,
    /// Only a person can mend it: stop, say what to do, look again now and then.
    Config,
}

/// One trouble in words. `why` and `remedy` hold no secret and no control character.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Trouble {
    /// The reaction.
    pub(super) class: Class,
    /// What happened.
    pub(super) why: String,
    /// What a person can do; empty when waiting is all.
    pub(super) remedy: String,
}

impl Trouble {
    /// Trouble that passes by itself.
    pub(super) fn wait(why: impl Into<String>) -> Trouble {
        Trouble { class: Class::Wait, why: why.into(), remedy: String::new() }
    }

    /// No answer; nobody knows what was done.
    pub(super) fn silent() -> Trouble {
        Trouble { class: Class::Silent, ..Trouble::wait("no answer in time") }
    }

    /// Trouble that waits for a person.
    pub(super) fn stop(why: impl Into<String>, remedy: impl Into<String>) -> Trouble {
        Trouble { class: Class::Config, why: why.into(), remedy: remedy.into() }
    }

    /// Is there a Redis that answers us?
    pub(super) fn is_answer(&self) -> bool {
        !matches!(self.class, Class::Absent | Class::Silent)
    }
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Trouble {
        if let Some(answers) = error.clone().into_server_errors()
            && let Some((_, answer)) = answers.first()
        {
            return reply(answer);
        }
        match error.kind() {
            ErrorKind::Io => socket(&error),
            ErrorKind::AuthenticationFailed => {
                Trouble::stop("Redis refuses the user or the password", "correct the user and password in `bus.url`")
            }
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Trouble::stop(
                "what listens there does not answer like a Redis",
                "point `bus.url` at a Redis 6.2 or newer, or a Valkey 7.2 or newer",
            ),
            ErrorKind::InvalidClientConfig => Trouble::stop(
                "`bus.url` cannot be used",
                "write redis://host:port, rediss://host:port or unix:///path; Sentinel and cluster URLs come later",
            ),
            // EXECABORT without its cause, a refused SELECT: the library's own words, without ours in them.
            ErrorKind::Server(_) => named(error.code().unwrap_or("ERR"), error.detail().unwrap_or("")),
            _ => Trouble::stop(printable(&error.to_string()), "see `bus.url`"),
        }
    }
}

/// The first word of a reply decides; `ERR` hides some that have none of their own.
fn reply(answer: &ServerError) -> Trouble {
    let detail = answer.details().unwrap_or("");
    match answer.kind() {
        Some(ServerErrorKind::ResponseError) => match inner_code(detail) {
            Some((code, rest)) => named(code, rest),
            None => named("ERR", detail),
        },
        _ => named(answer.code(), detail),
    }
}

fn named(code: &str, detail: &str) -> Trouble {
    // Redis 7 names the script and its line behind the sentence, 6 the arguments of a command that it does
    // not know; that is noise to people.
    let sentence = [" script: ", ", with args"]
        .iter()
        .fold(detail, |text, noise| text.split_once(noise).map_or(text, |(sentence, _)| sentence));
    let sentence = sentence.trim();
    let (class, remedy) = reaction(code, sentence);
    let why = printable(format!("Redis answers {code} {sentence}").trim_end());
    Trouble { class, why, remedy: remedy.to_owned() }
}

/// The table of replies (texts as Redis 6.2 to 8 write them).
fn reaction(code: &str, sentence: &str) -> (Class, &'static str) {
    match code {
        "LOADING" | "BUSY" | "MASTERDOWN" | "CLUSTERDOWN" | "NOREPLICAS" | "MISCONF" | "TRYAGAIN" => (Class::Wait, ""),
        "OOM" => (Class::Full, ""),
        "READONLY" | "UNBLOCKED" => (Class::Role, ""),
        "NOSCRIPT" | "NOGROUP" | "EXECABORT" => (Class::Reread, ""),
        "NOAUTH" => (Class::Config, "put user and password into `bus.url`: redis://user:password@host:port"),
        "WRONGPASS" => (Class::Config, "correct the user and password in `bus.url`"),
        "NOPERM" => (Class::Config, PERMISSIONS),
        "WRONGTYPE" => (Class::Config, "another program uses a key of this name: rename it, or choose another stream"),
        "CROSSSLOT" | "MOVED" | "ASK" => {
            (Class::Config, "this is a Redis Cluster, which this version does not speak: point `bus.url` at one Redis")
        }
        "DENIED" => (Class::Config, "Redis runs in protected mode: bind it to 127.0.0.1 or give it a password"),
        "ERR" if sentence.contains("max number of clients") => (Class::Wait, ""),
        "ERR" if sentence.contains("can't run this command") => (Class::Config, PERMISSIONS),
        "ERR" if sentence.contains("nknown command") => {
            (Class::Config, "use Redis 6.2 or newer, or Valkey 7.2 or newer")
        }
        "ERR" if sentence.contains("DB index") => (Class::Config, "correct the database number in `bus.url`"),
        _ => (Class::Config, "see the log of Redis"),
    }
}

const PERMISSIONS: &str = "give this user: +@stream +eval +evalsha +hmget +hset +type +multi +exec +ping +info \
                           and the keys of stream, outbox, their `:dead` and the cursor";

/// Before 7.0 a script's own error came wrapped: `Error running script (call to f_…): @user_script:5: -OOM …`.
fn inner_code(detail: &str) -> Option<(&str, &str)> {
    if !detail.starts_with("Error running script") && !detail.starts_with("Error compiling script") {
        return None;
    }
    let (_, inner) = detail.split_once(": -")?;
    Some(inner.split_once(' ').unwrap_or((inner, "")))
}

fn socket(error: &RedisError) -> Trouble {
    let absent = |why: String| Trouble { class: Class::Absent, why, remedy: String::new() };
    if error.is_connection_refusal() {
        return absent("nothing listens there".to_owned());
    }
    if error.is_timeout() {
        return Trouble::silent();
    }
    if error.is_connection_dropped() {
        return absent("the connection broke".to_owned());
    }
    let kind = io_kind(error);
    match kind {
        Some(io::ErrorKind::PermissionDenied) => Trouble::stop(
            "no permission to open the socket of Redis",
            "add this daemon's user to the group of the socket",
        ),
        Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => Trouble::stop(
            printable(&format!("TLS to Redis failed: {error}")),
            "check the certificate, and whether rediss:// is meant",
        ),
        _ => absent(printable(&error.to_string())),
    }
}

/// A key that holds something else than we keep there; `setting` is the way around it.
pub(super) fn wrong_type(key: &str, expected: &str, setting: &str) -> Trouble {
    Trouble::stop(
        format!("WRONGTYPE: the key `{key}` of Redis is not a {expected}"),
        format!("rename or delete it (redis-cli TYPE '{key}'), or set another `{setting}`"),
    )
}

/// The library shares the error below it, so that is what stands between.
fn io_kind(error: &RedisError) -> Option<io::ErrorKind> {
    let shared = error.source()?.downcast_ref::<Arc<dyn Error + Send + Sync>>()?;
    shared.downcast_ref::<io::Error>().map(io::Error::kind)
}

/// Text from elsewhere, for a log line: no control characters, not long.
pub(super) fn printable(text: &str) -> String {
    let mut clean = String::new();
    for c in text.chars().take(TEXT_MAX) {
        if c.is_control() {
            let _ = write!(clean, "{}", c.escape_default());
        } else {
            clean.push(c);
        }
    }
    clean
}

/// Longest text of Redis that is shown, in characters.
pub const TEXT_MAX: usize = 300;

/// The wait before the next try: exponential with full jitter, so that many clients of one Redis do
/// not come back at the same moment.
pub(super) struct Backoff {
    chance: fastrand::Rng,
    failures: u32,
    timing: Timing,
}

impl Backoff {
    pub(super) fn new(timing: Timing, chance: fastrand::Rng) -> Backoff {
        Backoff { chance, failures: 0, timing }
    }

    /// It went well: the next trouble starts from the shortest wait.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after this.
    pub(super) fn after(&mut self, trouble: &Trouble) -> Duration {
        let most = match trouble.class {
            Class::Config => return self.timing.stopped,
            Class::Absent | Class::Role | Class::Reread => self.timing.absent_max,
            Class::Silent | Class::Wait | Class::Full => self.timing.wait_max,
        };
        let span = self.timing.backoff.saturating_mul(1 << self.failures.min(20)).min(most);
        self.failures = self.failures.saturating_add(1);
        span.mul_f64(self.chance.f64()).max(WAIT_MIN)
    }
}

/// Full jitter may say zero; this keeps a refused connection from becoming a hot loop.
const WAIT_MIN: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    /// As the wire carries it.
    fn of(line: &str) -> Trouble {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).expect("an error reply");
        Trouble::from(value.extract_error().expect_err("it is an error"))
    }

    #[test]
    fn every_reply_has_its_reaction() {
        for (line, class) in [
            ("OOM command not allowed when used memory > 'maxmemory'.", Class::Full),
            ("OOM command not allowed when used memory > 'maxmemory'. script: 9447, on @user_script:1.", Class::Full),
            (
                "ERR Error running script (call to f_94): @user_script: 5: -OOM command not allowed when used memory > 'maxmemory'.",
                Class::Full,
            ),
            ("READONLY You can't write against a read only replica.", Class::Role),
            (
                "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
                Class::Role,
            ),
            ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", Class::Wait),
            ("LOADING Redis is loading the dataset in memory", Class::Wait),
            ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", Class::Wait),
            ("CLUSTERDOWN The cluster is down", Class::Wait),
            ("NOREPLICAS Not enough good replicas to write.", Class::Wait),
            ("MISCONF Redis is configured to save RDB snapshots", Class::Wait),
            ("ERR max number of clients reached", Class::Wait),
            ("NOSCRIPT No matching script. Please use EVAL.", Class::Reread),
            ("NOGROUP No such key 'mesh:outbox' or consumer group", Class::Reread),
            ("EXECABORT Transaction discarded because of previous errors.", Class::Reread),
            ("NOAUTH Authentication required.", Class::Config),
            ("WRONGPASS invalid username-password pair or user is disabled.", Class::Config),
            ("NOPERM this user has no permissions to run the 'xadd' command", Class::Config),
            (
                "ERR The user executing the script can't run this command or subcommand script: e3, on @user_script:1.",
                Class::Config,
            ),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", Class::Config),
            ("CROSSSLOT Keys in request don't hash to the same slot", Class::Config),
            ("MOVED 3999 127.0.0.1:6381", Class::Config),
            ("DENIED Redis is running in protected mode", Class::Config),
            ("ERR unknown command 'XAUTOCLAIM'", Class::Config),
            ("ERR The ID specified in XADD is equal or smaller than the target stream top item", Class::Config),
            ("NEWWORD of a later version", Class::Config),
        ] {
            let trouble = of(line);
            assert_eq!(trouble.class, class, "{line}: {trouble:?}");
            assert_eq!(trouble.class == Class::Config, !trouble.remedy.is_empty(), "{line}: a stop says what to do");
        }
        assert_eq!(of("OOM no. script: 94, on @user_script:1.").why, "Redis answers OOM no.");
        // As 6.0.16 says it.
        let old = of("ERR unknown command `XAUTOCLAIM`, with args beginning with: `mesh:outbox`, `mesh-out:gy`,");
        assert_eq!(old.why, "Redis answers ERR unknown command `XAUTOCLAIM`");
        assert_eq!(old.remedy, "use Redis 6.2 or newer, or Valkey 7.2 or newer");
    }

    #[test]
    fn errors_of_the_socket_have_theirs() {
        let of = |kind: io::ErrorKind| Trouble::from(RedisError::from(io::Error::from(kind))).class;
        assert_eq!(of(io::ErrorKind::ConnectionRefused), Class::Absent);
        assert_eq!(of(io::ErrorKind::NotFound), Class::Absent);
        assert_eq!(of(io::ErrorKind::BrokenPipe), Class::Absent);
        assert_eq!(of(io::ErrorKind::ConnectionReset), Class::Absent);
        assert_eq!(of(io::ErrorKind::TimedOut), Class::Silent);
        assert_eq!(of(io::ErrorKind::PermissionDenied), Class::Config);
        assert_eq!(of(io::ErrorKind::InvalidData), Class::Config);
    }

    #[test]
    fn what_redis_says_cannot_break_a_log_line() {
        let trouble = of(&format!("ODD \u{1b}[31m{}", "x".repeat(2_000)));
        assert!(!trouble.why.chars().any(char::is_control) && trouble.why.len() < 1_000, "{}", trouble.why);
    }

    #[test]
    fn waits_grow_up_to_their_cap_and_begin_anew_after_success() {
        let timing = Timing::default();
        let mut backoff = Backoff::new(timing, fastrand::Rng::with_seed(7));
        let absent = Trouble { class: Class::Absent, ..Trouble::wait("gone") };
        let spans: Vec<Duration> = (0..2_000).map(|_| backoff.after(&absent)).collect();
        assert!(spans[0] <= timing.backoff && spans.iter().all(|span| *span <= timing.absent_max));
        assert!(spans.iter().any(|span| *span > timing.absent_max / 2), "the cap is reached");
        backoff.reset();
        assert!(backoff.after(&absent) <= timing.backoff);
        assert_eq!(backoff.after(&Trouble::stop("no", "do")), timing.stopped);
        let longest = (0..2_000).map(|_| backoff.after(&Trouble::wait("loading"))).max().expect("some");
        assert!(longest > timing.absent_max && longest <= timing.wait_max);
    }
}
