//! Moments, spans, sizes and counts in words that people read.

use std::time::{Duration, SystemTime};

use crate::time::Wall;

/// The wall clock.
pub(super) fn now() -> Wall {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Wall::default() + since
}

/// Reads `1h`, `90m`, `2d`.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no span; write 1h, 90m or 2d");
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let exact = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(exact).map_err(|_| wrong())
}

/// A span by its largest unit: `850ms`, `12s`, `4m`, `3h`, `9d`.
pub(super) fn brief(span: Duration) -> String {
    match span.as_secs() {
        0 => format!("{}ms", span.as_millis()),
        seconds @ 1..60 => format!("{seconds}s"),
        seconds @ 60..3_600 => format!("{}m", seconds / 60),
        seconds @ 3_600..86_400 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// How long ago: `now`, `12s`, `never`.
pub(super) fn ago(moment: Option<Wall>, now: Wall) -> String {
    match moment.map(|moment| now.since(moment)) {
        None => "never".to_owned(),
        Some(span) if span < Duration::from_secs(2) => "now".to_owned(),
        Some(span) => brief(span),
    }
}

/// How long ago, in words: `just now`, `40 s ago`, `2 min ago`, `3 h ago`, `9 days ago`.
pub(super) fn passed(moment: Option<Wall>, now: Wall) -> String {
    let Some(span) = moment.map(|moment| now.since(moment)) else { return "never".to_owned() };
    match span.as_secs() {
        0..2 => "just now".to_owned(),
        seconds @ 2..60 => format!("{seconds} s ago"),
        seconds @ 60..3_600 => format!("{} min ago", seconds / 60),
        seconds @ 3_600..172_800 => format!("{} h ago", seconds / 3_600),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

/// A round trip: `0.4ms`, `12ms`.
pub(super) fn round_trip(ms: Option<f64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) if ms < 10.0 => format!("{ms:.1}ms"),
        Some(ms) => format!("{ms:.0}ms"),
    }
}

/// Bytes: `512 B`, `1.5 KiB`, `3.0 GiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1_024.0;
    let mut unit = 0;
    while size >= 1_024.0 && unit < UNITS.len() - 1 {
        size /= 1_024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// `1 event`, `2 events`.
pub(super) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes_are_short() {
        let seconds = Duration::from_secs;
        assert_eq!([850, 12_000, 300_000].map(|ms| brief(Duration::from_millis(ms))), ["850ms", "12s", "5m"]);
        assert_eq!([seconds(7_300), seconds(200_000)].map(brief), ["2h", "2d"]);
        assert_eq!([0, 1_023, 1_536, 3 << 30].map(size), ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]);
        assert_eq!([None, Some(0.42), Some(41.4)].map(round_trip), ["-", "0.4ms", "41ms"]);
        assert_eq!([count(1, "peer"), count(0, "peer")], ["1 peer", "0 peers"]);
        assert_eq!(span("1h"), Ok(seconds(3_600)));
        assert_eq!(span("1d 12h"), Ok(seconds(36 * 3_600)));
        assert!(span("1mo").is_err() && span("-1h").is_err() && span("x").is_err());
    }

    #[test]
    fn moments_are_told_by_their_distance() {
        let now = Wall::from_millis(1_000_000);
        assert_eq!(ago(None, now), "never");
        assert_eq!(ago(Some(now), now), "now");
        assert_eq!(ago(Some(now - Duration::from_secs(40)), now), "40s");
        assert_eq!(ago(Some(now + Duration::from_secs(40)), now), "now", "their clock is ahead of ours");
        let now = Wall::from_millis(1_000_000_000);
        let passed = |seconds| passed(Some(now - Duration::from_secs(seconds)), now);
        assert_eq!(
            [0, 59, 130, 7_300, 200_000].map(passed),
            ["just now", "59 s ago", "2 min ago", "2 h ago", "2 days ago"]
        );
    }
}
