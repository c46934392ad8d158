//! The values a configuration is made of, each parsed once.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use redis::IntoConnectionInfo;

/// What a node is called by people: 1 to 64 characters, none of them a control character.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeName(String);

impl NodeName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of this host, or `afferent` where the host name is none.
    pub fn of_host(host: &str) -> NodeName {
        host.parse().unwrap_or_else(|_| NodeName("afferent".to_owned()))
    }
}

impl FromStr for NodeName {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<NodeName, &'static str> {
        if text.trim().is_empty() || text.chars().count() > 64 {
            return Err("a name has 1 to 64 characters");
        }
        if text.chars().any(|letter| letter.is_control() || is_bidi(letter)) {
            return Err("a name holds no control characters");
        }
        Ok(NodeName(text.to_owned()))
    }
}

/// Characters that reorder the text around them: a name with one could look like another.
fn is_bidi(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Is there a Redis, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BusUrl {
    /// Nobody said: the Redis at [`RedisUrl::DEFAULT`] if one answers at the start, else the embedded bus.
    Auto,
    /// None: the journal itself is the bus.
    Embedded,
    /// This one, also when it is down for now.
    Redis(RedisUrl),
}

impl FromStr for BusUrl {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<BusUrl, &'static str> {
        match text {
            "auto" => Ok(BusUrl::Auto),
            "" => Ok(BusUrl::Embedded),
            url => Ok(BusUrl::Redis(url.parse()?)),
        }
    }
}

impl fmt::Display for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BusUrl::Auto => f.write_str("auto"),
            BusUrl::Embedded => f.write_str("embedded"),
            BusUrl::Redis(url) => url.fmt(f),
        }
    }
}

/// The address of one Redis server. `Display` and `Debug` print `***` for the password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(String);

impl RedisUrl {
    /// Where a Redis is looked for when nobody says.
    pub const DEFAULT: &'static str = "redis://127.0.0.1:6379";

    /// The address with its password, for the client alone.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for RedisUrl {
    type Err = &'static str;

    /// The error never quotes the text: it may hold a password.
    fn from_str(text: &str) -> Result<RedisUrl, &'static str> {
        let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
        if scheme.contains("sentinel") {
            return Err("this version speaks to one Redis server; Sentinel comes later");
        }
        if scheme.contains("cluster") || text.contains(',') {
            return Err("this version speaks to one Redis server; Cluster comes later");
        }
        if !matches!(scheme, "redis" | "rediss" | "unix") {
            return Err("a Redis address begins with redis://, rediss:// or unix://");
        }
        text.into_connection_info().map_err(|_| "not an address that the Redis client can read")?;
        Ok(RedisUrl(text.to_owned()))
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(&self.0))
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

/// The text with the password of every URL in it replaced by `***`.
pub(super) fn redact(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut at = 0;
    for secret in secrets(text) {
        shown.push_str(&text[at..secret.start]);
        shown.push_str("***");
        at = secret.end;
    }
    shown.push_str(&text[at..]);
    shown
}

/// Where passwords stand in a text: between `://user:` and the last `@` of the line. A password may hold
/// quotes and spaces, so rather too much is hidden than a piece of it shown.
pub(super) fn secrets(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(scheme) = text[from..].find("://") {
        let start = from + scheme + 3;
        let end = text[start..].find('\n').map_or(text.len(), |length| start + length);
        if let Some(at) = text[start..end].rfind('@') {
            let user = text[start..start + at].find(':').map_or(0, |colon| colon + 1);
            found.push(start + user..start + at);
        }
        // A `unix://` socket carries its password in the query.
        for name in ["pass=", "password="] {
            if let Some(at) = text[start..end].find(name) {
                let value = start + at + name.len();
                let length = text[value..end].find('&').unwrap_or(end - value);
                found.push(value..value + length);
            }
        }
        from = end;
    }
    found.retain(|secret| !secret.is_empty());
    found.sort_by_key(|secret| secret.start);
    found.dedup_by(|next, kept| next.start < kept.end);
    found
}

/// How much may come from one place: a steady rate and what may come at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Events a second.
    pub per_second: NonZeroU32,
    /// Events at once.
    pub burst: NonZeroU32,
}

impl FromStr for Rate {
    type Err = &'static str;

    /// `50/s burst 200`; without `burst` as much at once as in a second.
    fn from_str(text: &str) -> Result<Rate, &'static str> {
        const SHAPE: &str = "a rate is written as `50/s burst 200`, both from 1 to 1000000";
        let count = |text: &str| match text.parse::<NonZeroU32>() {
            Ok(number) if number.get() <= 1_000_000 => Ok(number),
            _ => Err(SHAPE),
        };
        let mut words = text.split_whitespace();
        let per_second = count(words.next().and_then(|word| word.strip_suffix("/s")).ok_or(SHAPE)?)?;
        let burst = match (words.next(), words.next(), words.next()) {
            (None, ..) => per_second,
            (Some("burst"), Some(number), None) => count(number)?,
            _ => return Err(SHAPE),
        };
        if burst < per_second {
            return Err("`burst` is at least what may come in a second");
        }
        Ok(Rate { per_second, burst })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s burst {}", self.per_second, self.burst)
    }
}

/// A span such as `7d`, `12h` or `1d 12h`.
pub(super) fn span(text: &str) -> Result<Duration, &'static str> {
    const SHAPE: &str = "a span is written as `7d`, `12h` or `90m`";
    let span: jiff::Span = text.parse().map_err(|_| SHAPE)?;
    let relative = jiff::SpanRelativeTo::days_are_24_hours();
    let exact = span.to_duration(relative).map_err(|_| "months and years differ in length; write days")?;
    Duration::try_from(exact).map_err(|_| "a span is not negative")
}

/// A number of bytes such as `512MiB`, `1GiB` or `2GB`.
pub(super) fn bytes(text: &str) -> Result<u64, &'static str> {
    const SHAPE: &str = "a size is written as `512MiB` or `1GiB`";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_| SHAPE)?;
    let unit: u64 = match text[digits..].trim() {
        "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(SHAPE),
    };
    number.checked_mul(unit).ok_or("more bytes than a disk can have")
}

/// The key that signs lists of seeds; empty = none.
pub(super) fn seeds_key(text: &str) -> Result<Option<crate::wire::NodeId>, &'static str> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| "a key is written like a node id: 56 characters of a-z and 2-7; \"\" = none")
}

/// A channel of seeds, or a file of them by a path with a `/`; empty = none.
pub(super) fn seeds(text: &str) -> Result<Option<String>, &'static str> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let is_path = text.contains('/') && text.len() <= 4_096 && !text.contains(char::is_control);
    if !is_path && (text.len() > 32 || !text.bytes().all(is_letter)) {
        return Err("a channel is 1 to 32 letters, digits, `-` or `_`, and a file is a path with a `/`");
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// A name of our own for a peer: a letter or digit, then letters, digits, `.`, `_` or `-`, 64 at most.
pub(super) fn alias(text: &str) -> Result<String, &'static str> {
    let shaped = (1..=64).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if !shaped {
        return Err("an alias is a letter or digit, then letters, digits, `.`, `_` or `-`, 64 at most");
    }
    Ok(text.to_owned())
}

/// A key of Redis: anything without spaces, at most 256 bytes.
pub(super) fn stream(text: &str) -> Result<String, &'static str> {
    let printable = text.chars().all(|letter| !letter.is_control() && !letter.is_whitespace());
    if text.is_empty() || text.len() > 256 || !printable {
        return Err("the name of a stream has 1 to 256 bytes, no spaces and no control characters");
    }
    Ok(text.to_owned())
}
