//! Opening a connection to the one Redis of this node, and the questions asked of it at once.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, IntoConnectionInfo, RedisError, Value};

use super::settings::Settings;
use super::trouble::{Trouble, wrong_type};

/// Where a URL points, for people: host and port, or the path. Never user or password.
pub fn place(url: &str) -> String {
    url.into_connection_info().map_or_else(|_| "an unusable `bus.url`".to_owned(), |info| info.addr().to_string())
}

/// A connection whose every answer comes within `response`, or is an error.
pub(super) async fn open(settings: &Settings) -> Result<MultiplexedConnection, Trouble> {
    let timeout = settings.timing.response;
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(timeout)).set_response_timeout(Some(timeout));
    Ok(client(&settings.url)?.get_multiplexed_async_connection_with_config(&config).await?)
}

/// A connection for blocking reads: its caller sets the time limit of each. A response timeout of the
/// connection would lose what Redis delivered a moment later.
pub(super) async fn open_blocking(settings: &Settings) -> Result<MultiplexedConnection, Trouble> {
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(settings.timing.response)).set_response_timeout(None);
    Ok(client(&settings.url)?.get_multiplexed_async_connection_with_config(&config).await?)
}

/// A script that Redis is asked to run by its hash, and told once. Users with few rights may do that,
/// and nothing else is needed after a restart of Redis.
pub(super) struct Script {
    body: &'static str,
    hash: String,
}

impl Script {
    pub(super) fn new(body: &'static str) -> Script {
        Script { body, hash: redis::Script::new(body).get_hash().to_owned() }
    }

    /// Runs it on these keys.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        redis: &mut MultiplexedConnection,
        keys: &[&str],
        arguments: impl Fn(&mut Cmd),
    ) -> Result<T, RedisError> {
        let call = |verb: &str, script: &str| {
            let mut call = redis::cmd(verb);
            call.arg(script).arg(keys.len()).arg(keys);
            arguments(&mut call);
            call
        };
        match call("EVALSHA", &self.hash).query_async(redis).await {
            Err(error) if error.code() == Some("NOSCRIPT") => call("EVAL", self.body).query_async(redis).await,
            answer => answer,
        }
    }
}

/// Is there a Redis that answers and lets us in? For the choice between it and the embedded bus when
/// nothing is configured: one that wants a password is not for us unless somebody says so.
pub async fn probe(url: &str, timeout: Duration) -> bool {
    let ask = async {
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let mut redis = client(url)?.get_multiplexed_async_connection_with_config(&config).await?;
        redis::cmd("PING").query_async::<String>(&mut redis).await
    };
    match tokio::time::timeout(timeout, ask).await {
        Ok(Ok(answer)) => answer == "PONG",
        Ok(Err(error)) => error.code() == Some("LOADING"),
        Err(_) => false,
    }
}

fn client(url: &str) -> Result<Client, RedisError> {
    let info = url.into_connection_info()?;
    // Its own introduction would cost a round trip and be refused to users with few rights.
    let redis = info.redis_settings().clone().set_skip_set_lib_name();
    Client::open(info.set_redis_settings(redis))
}

/// Does this Redis keep what it is given? One that evicts keys at will would drop the stream or the
/// cursor when memory runs short.
pub(super) async fn check_keeps_keys(redis: &mut MultiplexedConnection) -> Result<(), Trouble> {
    let policy = match redis::cmd("CONFIG").arg("GET").arg(POLICY).query_async::<Vec<String>>(redis).await {
        Ok(pair) => pair.into_iter().nth(1),
        // Hosted Redises rename or forbid CONFIG; INFO tells the same.
        Err(error) if is_forbidden(&error) => policy_of(&redis::cmd("INFO").arg("memory").query_async(redis).await?),
        Err(error) => return Err(error.into()),
    };
    match policy.as_deref() {
        Some(policy) if policy == "noeviction" || policy.starts_with("volatile-") => Ok(()),
        Some(policy) => Err(Trouble::stop(
            format!("Redis may evict the stream: {POLICY} is {}", super::trouble::printable(policy)),
            format!("redis-cli CONFIG SET {POLICY} noeviction (and the same in redis.conf)"),
        )),
        None => Err(Trouble::stop(
            format!("Redis does not tell its {POLICY}"),
            "allow this user CONFIG GET or INFO, so that nothing is evicted unseen",
        )),
    }
}

const POLICY: &str = "maxmemory-policy";

fn is_forbidden(error: &RedisError) -> bool {
    error.code() == Some("NOPERM") || error.detail().is_some_and(|detail| detail.starts_with("unknown "))
}

fn policy_of(info: &Value) -> Option<String> {
    let text: String = redis::from_redis_value_ref(info).ok()?;
    text.lines().find_map(|line| line.strip_prefix("maxmemory_policy:")).map(|policy| policy.trim().to_owned())
}

/// Is there a stream under this key, or nothing?
///
/// # Errors
/// When it is something else: then `XADD` would fail, also in the middle of a transaction.
pub(super) async fn check_stream(redis: &mut MultiplexedConnection, key: &str) -> Result<(), Trouble> {
    let kind: String = redis::cmd("TYPE").arg(key).query_async(redis).await?;
    if kind == "stream" || kind == "none" { Ok(()) } else { Err(wrong_type(key, "stream", "bus.stream")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_without_secrets() {
        for (url, expected) in [
            ("redis://bob:hush@redis.example:6380/3", "redis.example:6380"),
            ("rediss://:hush@redis.example", "redis.example:6379"),
            ("unix:///run/redis.sock?pass=hush", "/run/redis.sock"),
            ("http://bob:hush@redis.example", "an unusable `bus.url`"),
            ("redis+sentinel://:hush@a,b", "an unusable `bus.url`"),
        ] {
            assert_eq!(place(url), expected);
        }
    }

    #[test]
    fn the_policy_is_read_from_info() {
        let info = Value::BulkString(b"# Memory\r\nused:1\r\nmaxmemory_policy:volatile-lru\r\nx:1\r\n".to_vec());
        assert_eq!(policy_of(&info).as_deref(), Some("volatile-lru"));
        assert_eq!(policy_of(&Value::Nil), None);
    }
}
