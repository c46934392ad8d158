//! `afferent discover`: what each tier of discovery answers right now, and what comes of it.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use serde_json::json;

use super::arguments::{Discover, Global};
use super::failure::{Exit, Failure};
use super::output::{Output, plain};
use super::{codes, node_key, reach, words};
use crate::admin::tiers::{Discovery, Failed, Place, PlaceOutcome, Source, TierAnswer, TierName, TierState};
use crate::admin::{self, Client, ClientError};
use crate::daemon;
use crate::wire::NodeId;

pub(super) async fn perform(discover: &Discover, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let wanted: BTreeSet<TierName> = match &discover.tiers[..] {
        [] => TierName::ALL.into(),
        some => some.iter().copied().collect(),
    };
    let (answer, names) = match ask(discover, &wanted, global).await {
        Ok(told) => told,
        Err(ClientError::Absent { path }) if discover.dry_run => {
            let path = path.display();
            output.remark(&format!("no daemon answers at {path}: what the configuration names is asked from here"));
            let settings = reach::settings(global, &[])?;
            let me = node_key::load("discover", &settings).ok().map(|key| key.id());
            (daemon::look(&settings, me, &wanted, words::now()).await, Names::new())
        }
        Err(absent @ ClientError::Absent { .. }) => {
            return Err(Failure::new(Exit::Unreachable, codes::ABSENT, "discover", absent.to_string())
                .next("afferent run; or, without one and without a dial: afferent discover --dry-run"));
        }
        Err(error) => return Err(Failure::of_client("discover", &error)),
    };
    if output.is_json() {
        output.json(&admin::document(&answer))?;
    } else {
        for line in lines(&answer, &names) {
            output.line(&line)?;
        }
    }
    Ok(verdict(&answer, !discover.tiers.is_empty()))
}

/// What peers are called here.
type Names = HashMap<NodeId, String>;

async fn ask(
    discover: &Discover,
    wanted: &BTreeSet<TierName>,
    global: &Global,
) -> Result<(Discovery, Names), ClientError> {
    // A configuration that cannot be read says so where it is read.
    let Ok(socket) = reach::socket(global) else {
        return Err(ClientError::Absent { path: global.socket.clone().unwrap_or_default() });
    };
    let mut client = Client::connect(&socket).await?;
    let body = json!({ "tiers": wanted, "dry_run": discover.dry_run });
    let text = client.post("/v1/discovery", body.to_string()).await?;
    let answer = serde_json::from_str(&text).map_err(|error| ClientError::Unreadable(error.to_string()))?;
    Ok((answer, reach::names(&mut client).await))
}

/// 0 when every tier that is on is of use, 1 when none is, 7 when some are. A tier that was asked for by name
/// and has nothing to ask is of no use; else it does not count.
fn verdict(answer: &Discovery, is_named: bool) -> Exit {
    let counted = answer.tiers.iter().filter(|tier| is_named || !tier.sources.is_empty());
    let useful: Vec<bool> = counted.map(|tier| tier.sources.iter().any(is_useful)).collect();
    match (useful.contains(&true), useful.contains(&false)) {
        (_, false) if !useful.is_empty() => Exit::Done,
        (true, true) => Exit::Degraded,
        _ => Exit::Failed,
    }
}

/// It answered, and if it names anybody at all, one of them is there.
fn is_useful(source: &Source) -> bool {
    let is_good = |place: &Place| {
        matches!(
            place.outcome,
            PlaceOutcome::Found | PlaceOutcome::Connected | PlaceOutcome::Verified | PlaceOutcome::Itself
        )
    };
    source.failure.is_none() && (source.places.is_empty() || source.places.iter().any(is_good))
}

fn lines(answer: &Discovery, names: &Names) -> Vec<String> {
    let mut lines = Vec::new();
    for tier in &answer.tiers {
        let mut name = tier.tier.as_str();
        // Each tier is named once, what belongs to it stands below.
        let mut say = |text: &str| lines.push(format!("{:<9} {text}", std::mem::take(&mut name)));
        if tier.sources.is_empty() {
            say(&nothing(tier));
        }
        for source in &tier.sources {
            say(&headline(tier.tier, source));
            if let Some(failed) = &source.failure {
                say(&format!("  next: {}", plain(&failed.next)));
            }
            places(&source.places, names).iter().for_each(|line| say(&format!("  {line}")));
        }
    }
    if let (Some(standing), Some(wanted)) = (answer.standing, answer.wanted) {
        let stand = words::count(standing, "connection");
        lines.push(format!("{stand} of this node's choice, {wanted} wanted{}", conclusion(answer, standing < wanted)));
    }
    lines
}

fn conclusion(answer: &Discovery, is_short: bool) -> &'static str {
    let places = || answer.tiers.iter().flat_map(|tier| &tier.sources).flat_map(|source| &source.places);
    let is_new = |place: &Place| place.outcome == PlaceOutcome::Verified && !place.known;
    match (is_short, places().any(is_new)) {
        (true, true) => ": what was found now is called by itself",
        (true, false) => ": the tiers go on being asked",
        (false, _) => "",
    }
}

fn nothing(tier: &TierAnswer) -> String {
    let off = if tier.state == TierState::Off { "off: " } else { "" };
    format!("{off}{}", plain(tier.note.as_deref().unwrap_or("nothing to ask")))
}

fn headline(tier: TierName, source: &Source) -> String {
    let name = plain(&source.source);
    let took = source.ms.map(|ms| format!(" in {}", words::round_trip(Some(ms)))).unwrap_or_default();
    if let Some(failed) = &source.failure {
        let after = source.ms.map(|ms| format!(" after {}", span(ms))).unwrap_or_default();
        return format!("{name} failed{after}: {}", plain(&failed.why));
    }
    let nodes = words::count(source.found, "node");
    let mut text = match tier {
        TierName::Manual => return format!("{name}, added by hand"),
        TierName::Exchange => format!("{name} told of {nodes}{took}"),
        TierName::Dns | TierName::Seeds => format!("{name} names {nodes}, answered{took}"),
    };
    if source.refused > 0 {
        text += &format!("; {} refused by the address policy", addresses(source.refused));
    }
    if source.ignored > 0 {
        let entries = if source.ignored == 1 { "entry" } else { "entries" };
        text += &format!("; {} {entries} of no use", source.ignored);
    }
    text
}

fn addresses(count: u64) -> String {
    if count == 1 { "1 address".to_owned() } else { format!("{count} addresses") }
}

fn span(ms: f64) -> String {
    words::brief(Duration::from_secs_f64((ms / 1e3).clamp(0.0, 1e6)))
}

/// One line for each place, and below those that failed what to do; said once where it is the same.
fn places(places: &[Place], names: &Names) -> Vec<String> {
    let name = |id: &NodeId| names.get(id).map_or_else(|| id.short(), |name| plain(name).into_owned());
    let id = |place: &Place| place.id.as_ref().map_or_else(|| "-".to_owned(), name);
    let address = |place: &Place| place.address.to_string();
    let wide = places.iter().map(|place| address(place).chars().count()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for (number, place) in places.iter().enumerate() {
        lines.push(format!("{:<10}  {:<wide$}  {}", id(place), plain(&address(place)), outcome(place)));
        let next = |place: &Place| place.failure.as_ref().map(|failed| failed.next.clone());
        let later = places.get(number + 1).and_then(next);
        if let Some(next) = next(place).filter(|next| later.as_ref() != Some(next)) {
            lines.push(format!("{:<10}  next: {}", "", plain(&next)));
        }
    }
    lines
}

/// What came of a place, in a sentence.
fn outcome(place: &Place) -> String {
    let known = if place.known { "known" } else { "new" };
    let took = words::round_trip(place.ms);
    let is_unresolved = place.failure.as_ref().is_some_and(|failed| failed.class == "unresolved");
    let prefix = format!("{} is not dialled: ", place.address);
    let why = place.failure.as_ref().map(|Failed { why, .. }| why.strip_prefix(&prefix).unwrap_or(why));
    let why = why.map(|why| format!(": {}", plain(why))).unwrap_or_default();
    match place.outcome {
        PlaceOutcome::Found => format!("{known}, may be dialled"),
        PlaceOutcome::Refused => format!("not dialled{why}"),
        PlaceOutcome::Itself => "this node itself, never dialled".to_owned(),
        PlaceOutcome::Connected if place.ms.is_none() => "connected already".to_owned(),
        PlaceOutcome::Connected => format!("connected already, round trip {took}"),
        PlaceOutcome::Verified => format!("{known}, dialled: its key answered in {took}"),
        PlaceOutcome::Failed if is_unresolved => format!("{known}, not dialled{why}"),
        PlaceOutcome::Failed => format!("{known}, dialled in vain{why}"),
        PlaceOutcome::Skipped => format!("{known}, not dialled: enough others were"),
        PlaceOutcome::Blocked => "not dialled: its node is blocked here".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Keypair;

    fn failed(why: &str) -> Option<Failed> {
        Some(Failed { class: "x".to_owned(), why: why.to_owned(), next: "try \u{1b}[2J".to_owned() })
    }

    fn place(seed: u8, outcome: PlaceOutcome) -> Place {
        let address = format!("127.0.0.{seed}:7443").parse().expect("an address");
        let id = Some(Keypair::from_seed(&[seed; 32]).id());
        Place { id, address, known: false, outcome, ms: None, failure: None }
    }

    fn source(name: &str, places: Vec<Place>) -> Source {
        let found = places.len() as u64;
        let ms = Some(2.31);
        Source { source: name.to_owned(), at: None, ms, found, refused: 0, ignored: 0, failure: None, places }
    }

    fn tier(tier: TierName, sources: Vec<Source>) -> TierAnswer {
        TierAnswer { tier, state: TierState::Waiting, next_in_ms: None, note: None, sources }
    }

    fn answer(tiers: Vec<TierAnswer>) -> Discovery {
        Discovery { asked: true, dry_run: false, standing: Some(1), wanted: Some(8), tiers }
    }

    #[test]
    fn every_address_has_a_line_and_every_failure_what_to_do() {
        let verified = Place { ms: Some(2.4), ..place(2, PlaceOutcome::Verified) };
        let refused = Place { failure: failed("connection refused"), ..place(3, PlaceOutcome::Failed) };
        let also = Place { id: None, ..refused.clone() };
        let dns = Source { failure: failed("SERVFAIL"), ms: Some(6_010.0), ..source("mesh.test", Vec::new()) };
        let seeds = Source { refused: 1, ignored: 2, ..source("stable", vec![verified, refused, also]) };
        let off =
            TierAnswer { state: TierState::Off, note: Some("none".to_owned()), ..tier(TierName::Manual, Vec::new()) };
        let names = Names::from([(Keypair::from_seed(&[2; 32]).id(), "cedar".to_owned())]);
        let shown =
            lines(&answer(vec![tier(TierName::Dns, vec![dns]), off, tier(TierName::Seeds, vec![seeds])]), &names);
        let three = Keypair::from_seed(&[3; 32]).id().short();
        assert_eq!(shown, [
            "dns       mesh.test failed after 6s: SERVFAIL".to_owned(),
            "            next: try \\u{1b}[2J".to_owned(),
            "manual    off: none".to_owned(),
            "seeds     stable names 3 nodes, answered in 2.3ms; 1 address refused by the address policy; 2 entries of no use"
                .to_owned(),
            "            cedar       127.0.0.2:7443  new, dialled: its key answered in 2.4ms".to_owned(),
            format!("            {three}  127.0.0.3:7443  new, dialled in vain: connection refused"),
            "            -           127.0.0.3:7443  new, dialled in vain: connection refused".to_owned(),
            "                        next: try \\u{1b}[2J".to_owned(),
            "1 connection of this node's choice, 8 wanted: what was found now is called by itself".to_owned(),
        ]);
    }

    #[test]
    fn the_exit_code_says_whether_the_tiers_are_of_use() {
        let good = || tier(TierName::Seeds, vec![source("stable", vec![place(2, PlaceOutcome::Connected)])]);
        let vain = || tier(TierName::Dns, vec![source("mesh.test", vec![place(2, PlaceOutcome::Failed)])]);
        let off = || tier(TierName::Manual, Vec::new());
        let broken = || tier(TierName::Dns, vec![Source { failure: failed("x"), ..source("z", Vec::new()) }]);
        let empty = || tier(TierName::Exchange, vec![source("cedar", Vec::new())]);
        for (tiers, is_named, exit) in [
            (vec![good(), off()], false, Exit::Done),
            (vec![good(), off()], true, Exit::Degraded),
            (vec![good(), vain(), off()], false, Exit::Degraded),
            (vec![empty()], false, Exit::Done),
            (vec![vain(), broken()], false, Exit::Failed),
            (vec![off()], false, Exit::Failed),
        ] {
            assert_eq!(verdict(&answer(tiers.clone()), is_named), exit, "{tiers:?}");
        }
    }
}
