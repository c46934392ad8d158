//! `afferent demo`: three real daemons, real events, and what everybody may check of it.
//!
//! The daemons are child processes of this very program, each with its own key, data directory and
//! patterns; they talk HTTPS on loopback and write into real Redis streams when a `redis-server` is
//! installed. Whatever the demo says it has seen; if something it promises does not happen it says so
//! and ends with exit code 1. [`chain`] is the other play, of nodes that find each other.

mod chain;
mod forger;
mod stage;

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

pub(in crate::cli) use self::chain::NODES;
use self::stage::{Actor, CAST, Sighting, Stage};
use super::arguments::{Demo, Global};
use super::failure::{Exit, Failure};
use super::output::Output;
use super::{codes, logging};

/// Everything has to be over by then.
const PATIENCE: Duration = Duration::from_secs(12);

pub(super) fn perform(demo: &Demo, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    if global.verbose > 0 {
        logging::start(global);
    }
    let played = match demo.nodes {
        None => play(demo.keep, output),
        Some(nodes) => chain::play(nodes, demo.keep, output),
    };
    played.map(|()| Exit::Done).map_err(|error| {
        Failure::new(Exit::Failed, codes::DAEMON, "demo", format!("{error:#}")).next("afferent demo -v")
    })
}

/// Plays the demo; with `keep` it then leaves everything running until Ctrl-C.
fn play(keep: bool, out: &mut Output) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let stage = Stage::build(&*CAST, deadline)?;
    say(out, &format!("three nodes on this machine, {}\n", stage.bus_sentence()))?;
    for actor in &stage.actors {
        say(out, &format!("  {:<6} {}  wants {}", actor.name, actor.address, actor.patterns.join(" ")))?;
    }
    stage.introduce(deadline)?;
    say(out, "\nbirch knows cedar and maple; every connection is TLS 1.3 pinned to the other's key\n")?;
    publish_and_watch(&stage, out, deadline)?;
    nothing_else_arrived(&stage, out)?;
    forge(&stage, out)?;
    if keep {
        say(out, &stage.how_to_talk())?;
        say(out, "\nCtrl-C ends it all and removes its files")?;
        stage.wait_for_interrupt()?;
    }
    stage.strike()?;
    say(out, "\nall three stopped cleanly; nothing is left behind")?;
    Ok(())
}

/// What birch publishes, and who asked for it.
const PLAY: [(&str, &str, &[&str]); 4] = [
    ("deployment.started", r#"{"service":"proxy","version":"1.4.2"}"#, &["cedar", "maple"]),
    ("infrastructure.disk.full", r#"{"host":"birch","used":0.97}"#, &["maple"]),
    ("weather.changed", r#"{"to":"rain"}"#, &[]),
    // The last one shows that nothing else is on its way: events of one source keep their order.
    ("deployment.finished", r#"{"service":"proxy","ok":true}"#, &["cedar", "maple"]),
];

fn publish_and_watch(stage: &Stage, out: &mut Output, deadline: Instant) -> anyhow::Result<()> {
    let birch = stage.actor("birch");
    for (kind, data, wanted_by) in PLAY {
        let answer = birch.ask(&["publish", kind, "--data", data, "--json"])?;
        let digest = text(&answer, "digest")?;
        ensure!(answer["stored"] == true, "birch did not store {kind}: {answer}");
        say(out, &format!("birch publishes {kind}: durable, digest {}…", &digest[..10.min(digest.len())]))?;
        for name in wanted_by {
            let seen = stage.wait_for(name, &digest, deadline)?;
            say(out, &format!("    {}", sentence(stage, name, &seen)))?;
        }
        if wanted_by.is_empty() {
            say(out, "    nobody asked for it: not one byte of it leaves birch")?;
        }
    }
    Ok(())
}

fn sentence(stage: &Stage, name: &str, seen: &Sighting) -> String {
    let from = stage.name_of(&seen.via).unwrap_or("a stranger");
    let links = if seen.hops == 1 { "1 hop" } else { "hops" };
    let hops = if seen.hops == 1 { links.to_owned() } else { format!("{} {links}", seen.hops) };
    format!("{name:<6} has it in {}, from {from}, {hops}, {} ms", seen.place, seen.ms)
}

fn nothing_else_arrived(stage: &Stage, out: &mut Output) -> anyhow::Result<()> {
    say(out, "")?;
    for actor in stage.actors.iter().filter(|actor| actor.name != "birch") {
        let wanted: Vec<&str> =
            PLAY.iter().filter(|(_, _, by)| by.contains(&actor.name)).map(|(kind, ..)| *kind).collect();
        let got: Vec<String> = stage.everything_at(actor.name)?.into_iter().map(|seen| seen.kind).collect();
        ensure!(got == wanted, "{} was to get {wanted:?} and got {got:?}", actor.name);
        let stored = actor.ask(&["status", "--json"])?["journal"]["events"].as_u64().context("no count of events")?;
        ensure!(stored == wanted.len() as u64, "{} stores {stored} events instead of {}", actor.name, wanted.len());
        say(
            out,
            &format!("{:<6} got {} of {} events, and nothing it did not ask for", actor.name, got.len(), PLAY.len()),
        )?;
    }
    Ok(())
}

fn forge(stage: &Stage, out: &mut Output) -> anyhow::Result<()> {
    let cedar = stage.actor("cedar");
    let event = stage.everything_at("cedar")?.into_iter().next().context("cedar has no event")?.event;
    let forged = event.replace("1.4.2", "6.6.6").replacen("\"id\":\"", "\"id\":\"x", 1);
    ensure!(forged.contains("6.6.6"), "the forger found nothing to change");
    let code = forger::offer(&cedar.address, &forged)?;
    if code != "bad_signature" {
        bail!("cedar answered a forged event with `{code}` instead of `bad_signature`");
    }
    let stored = cedar.ask(&["status", "--json"])?["journal"]["events"].as_u64();
    ensure!(stored == Some(2), "cedar stored the forged event");
    say(
        out,
        "\na stranger sends cedar birch's event with another version number in it: refused, bad_signature, not stored",
    )?;
    Ok(())
}

/// One line, seen at once: the demo is a story.
fn say(out: &mut Output, text: &str) -> anyhow::Result<()> {
    out.line(text)?;
    Ok(out.flush()?)
}

fn text(answer: &Value, name: &str) -> anyhow::Result<String> {
    answer[name].as_str().map(str::to_owned).with_context(|| format!("no `{name}` in {answer}"))
}

impl Actor {
    /// Runs one command against this daemon; what it printed as JSON.
    fn ask(&self, args: &[&str]) -> anyhow::Result<Value> {
        let output = self.command(args).output().context("the command does not start")?;
        if !output.status.success() {
            bail!("afferent {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).with_context(|| format!("afferent {} printed no JSON", args.join(" ")))
    }
}
