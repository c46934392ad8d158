//! `afferent demo --nodes N`: a chain of friends. Each node is told by hand of the next one and of nobody
//! else; all of them meet, because connected nodes tell each other whom they know.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::stage::{Role, Stage, until};
use super::{say, text};
use crate::cli::output::Output;

/// Least and most nodes of a chain: every node looks for eight others, so nine still know everybody.
pub(in crate::cli) const NODES: std::ops::RangeInclusive<u64> = 2..=9;

const NAMES: [&str; 9] = ["birch", "cedar", "maple", "oak", "pine", "rowan", "elm", "hazel", "larch"];
const WANTED: &[&str] = &["deployment.*"];
/// Everything has to be over by then, and a second later for each node.
const PATIENCE: Duration = Duration::from_secs(15);

/// Plays it; with `keep` it then leaves everything running until Ctrl-C.
pub(super) fn play(nodes: u64, keep: bool, out: &mut Output) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE + Duration::from_secs(nodes);
    let stage = Stage::build(&cast(nodes), deadline)?;
    say(out, &format!("{nodes} nodes on this machine, {}\n", stage.bus_sentence()))?;
    for actor in &stage.actors {
        say(out, &format!("  {:<6} {}", actor.name, actor.address))?;
    }
    let names: Vec<&str> = stage.actors.iter().map(|actor| actor.name).collect();
    let links: Vec<String> = names.windows(2).map(|pair| format!("{} knows {}", pair[0], pair[1])).collect();
    say(out, &format!("\ntyped in by hand: {}\n", links.join(", ")))?;
    let begun = Instant::now();
    for pair in names.windows(2) {
        stage.befriend(pair[0], pair[1], deadline)?;
    }
    let others = names.len() - 1;
    for name in &names {
        until(deadline, &format!("{name} is connected to all others"), || {
            let status = stage.actor(name).ask(&["status", "--json"])?;
            Ok((status["peers"]["connected"] == others).then_some(()))
        })?;
    }
    say(
        out,
        &format!("{} ms later everybody is connected to everybody. How they met:\n", begun.elapsed().as_millis()),
    )?;
    for name in &names {
        say(out, &format!("  {name:<6} {}", story(&stage, name)?))?;
    }
    spread(&stage, &names, out, deadline)?;
    show(&stage, &names, out)?;
    if keep {
        say(out, &stage.how_to_talk())?;
        say(out, "\n  and with any of them: peers list, discover, match deployment.started")?;
        say(out, "\nCtrl-C ends it all and removes its files")?;
        stage.wait_for_interrupt()?;
    }
    stage.strike()?;
    say(out, &format!("\nall {nodes} stopped cleanly; nothing is left behind"))
}

/// Each at an address of its own, as machines are: two ids at one address are all that a node believes in.
fn cast(nodes: u64) -> Vec<Role> {
    let role = |(number, name)| Role { name, patterns: WANTED, host: format!("127.{number}.0.1") };
    (1..=nodes).zip(NAMES).map(role).collect()
}

/// Who told this node of whom.
fn story(stage: &Stage, name: &str) -> anyhow::Result<String> {
    let answer = stage.actor(name).ask(&["peers", "list", "--json"])?;
    let peers = answer["peers"].as_array().context("no list of peers")?;
    let called = |value: &Value| value.as_str().and_then(|id| stage.name_of(id)).unwrap_or("somebody");
    let mut parts: Vec<(String, Vec<&str>)> = Vec::new();
    for peer in peers {
        let way = match peer["via"]["way"].as_str() {
            Some("manual") => "knew".to_owned(),
            Some("told") => format!("was told by {} of", called(&peer["via"]["teller"])),
            Some("called") => "was called by".to_owned(),
            _ => "found".to_owned(),
        };
        let name = called(&peer["id"]);
        match parts.iter_mut().find(|(other, _)| *other == way) {
            Some((_, names)) => names.push(name),
            None => parts.push((way, vec![name])),
        }
    }
    // By hand first, then what was told, then calls.
    parts.sort_by_key(|(way, _)| (way != "knew", way == "was called by"));
    let sentence = |(way, mut names): (String, Vec<&'static str>)| {
        names.sort_by_key(|name| NAMES.iter().position(|other| other == name));
        format!("{way} {}", listed(&names))
    };
    Ok(parts.into_iter().map(sentence).collect::<Vec<_>>().join(", "))
}

/// `a`, `a and b`, `a, b and c`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// One event from an end of the chain reaches everybody.
fn spread(stage: &Stage, names: &[&str], out: &mut Output, deadline: Instant) -> anyhow::Result<()> {
    let last = names.last().context("a chain has an end")?;
    let answer =
        stage.actor(last).ask(&["publish", "deployment.started", "--data", r#"{"service":"proxy"}"#, "--json"])?;
    ensure!(answer["stored"] == true, "{last} did not store its event: {answer}");
    let digest = text(&answer, "digest")?;
    say(out, &format!("\n{last} publishes deployment.started: durable, digest {}…", &digest[..10.min(digest.len())]))?;
    for name in names.iter().filter(|name| *name != last) {
        let seen = stage.wait_for(name, &digest, deadline)?;
        say(out, &format!("    {}", super::sentence(stage, name, &seen)))?;
    }
    Ok(())
}

/// What a person sees on the node in the middle, after he gave the others names.
fn show(stage: &Stage, names: &[&str], out: &mut Output) -> anyhow::Result<()> {
    for own in names {
        for other in names.iter().filter(|other| *other != own) {
            let id = stage.id_of(other);
            stage.actor(own).ask(&["peers", "alias", id, other, "--json"])?;
        }
    }
    let middle = names[names.len() / 2];
    say(out, &format!("\nevery node calls the others by their names here; `afferent peers list` of {middle}:\n"))?;
    let listed = stage.actor(middle).command(&["peers", "list"]).output()?;
    ensure!(listed.status.success(), "peers list: {}", String::from_utf8_lossy(&listed.stderr).trim());
    for line in String::from_utf8(listed.stdout)?.lines() {
        say(out, &format!("  {line}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_has_a_name_and_an_address_for_each() {
        let all = cast(*NODES.end());
        assert_eq!(all.len() as u64, *NODES.end());
        assert_eq!((all[0].name, all[8].host.as_str()), ("birch", "127.9.0.1"));
        assert_eq!(listed(&["a", "b", "c"]), "a, b and c");
        assert_eq!(listed(&["a"]), "a");
    }
}
