//! The page of metrics in the two formats that scrapers read: OpenMetrics 1.0 for whoever asks for it, as
//! Prometheus does, and the text format 0.0.4 for everybody else. The samples are the same; the older format
//! calls a counter by the whole name of its sample, knows no type `info` and no units.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

/// OpenMetrics 1.0.
pub(super) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The text format before it.
pub(super) const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers with a page of OpenMetrics, or with what the caller reads instead.
pub(super) fn respond(headers: &HeaderMap, page: String) -> Response {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let is_asked_for = accepts.flat_map(|accept| accept.split(',')).any(is_open_metrics);
    match is_asked_for {
        true => ([(header::CONTENT_TYPE, OPEN_METRICS)], page).into_response(),
        false => ([(header::CONTENT_TYPE, CLASSIC)], classic(&page)).into_response(),
    }
}

fn is_open_metrics(accepted: &str) -> bool {
    accepted.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/openmetrics-text"))
}

/// The same page in the text format 0.0.4.
fn classic(page: &str) -> String {
    let kinds = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let kinds: BTreeMap<&str, &str> = kinds.collect();
    // A help text stands before its type.
    let name_of = |name: &str| match kinds.get(name) {
        Some(&"counter") => format!("{name}_total"),
        Some(&"info") => format!("{name}_info"),
        _ => name.to_owned(),
    };
    let mut written = String::with_capacity(page.len());
    for line in page.lines() {
        let mut words = line.splitn(4, ' ');
        let line = match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), help) => {
                // There a quotation mark stands for itself.
                format!("# HELP {} {}", name_of(name), help.unwrap_or_default().replace("\\\"", "\""))
            }
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let known = match kind {
                    "info" | "stateset" => "gauge",
                    "unknown" => "untyped",
                    known => known,
                };
                format!("# TYPE {} {known}", name_of(name))
            }
            (Some("#"), ..) => continue,
            _ => line.to_owned(),
        };
        written.push_str(&line);
        written.push('\n');
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_format_has_the_same_samples_under_its_own_names() {
        let page = "# HELP a_lines Lines \\\"read\\\".\n# TYPE a_lines counter\na_lines_total 3\n\
                    # HELP a_build The software.\n# TYPE a_build info\na_build_info{version=\"1\"} 1\n\
                    # HELP a_used_bytes Room.\n# TYPE a_used_bytes gauge\n# UNIT a_used_bytes bytes\na_used_bytes 7\n\
                    # TYPE a_odd unknown\na_odd 1\n# EOF\n";
        let expected = "# HELP a_lines_total Lines \"read\".\n# TYPE a_lines_total counter\na_lines_total 3\n\
                        # HELP a_build_info The software.\n# TYPE a_build_info gauge\na_build_info{version=\"1\"} 1\n\
                        # HELP a_used_bytes Room.\n# TYPE a_used_bytes gauge\na_used_bytes 7\n\
                        # TYPE a_odd untyped\na_odd 1\n";
        assert_eq!(classic(page), expected);
    }

    #[test]
    fn who_names_openmetrics_gets_it_and_nobody_else() {
        for (accept, expected) in [
            (None, CLASSIC),
            (Some("*/*"), CLASSIC),
            (Some("text/plain;version=0.0.4;q=0.5, */*;q=0.1"), CLASSIC),
            (Some("text/plain;q=0.2, Application/OpenMetrics-Text;version=1.0.0;q=0.5"), OPEN_METRICS),
        ] {
            let headers = accept.map(|accept| (header::ACCEPT, accept.parse().expect("a value"))).into_iter().collect();
            let answer = respond(&headers, String::from("# EOF\n"));
            assert_eq!(answer.headers()[header::CONTENT_TYPE], expected, "{accept:?}");
        }
    }
}
