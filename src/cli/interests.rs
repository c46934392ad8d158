//! `afferent interests`: what this node wants, and what others want from it.

use std::collections::BTreeSet;

use super::arguments::{Global, Interests, InterestsAction};
use super::failure::{Exit, Failure};
use super::output::{Output, plain};
use super::reach;
use super::table::table;
use crate::admin::answers::InterestsView;
use crate::admin::{ClientError, InterestsChange};
use crate::wire::Pattern;

pub(super) async fn perform(interests: &Interests, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let failed = |error: ClientError| Failure::of_client("interests", &error);
    let mut client = reach::connect("interests", global).await?;
    let asked = match &interests.action {
        Some(InterestsAction::Add(add)) => {
            let before: InterestsView = client.get_as("/v1/interests").await.map_err(failed)?;
            [before.patterns, add.patterns.clone()].concat()
        }
        Some(InterestsAction::Set(set)) => set.patterns.clone(),
        Some(InterestsAction::Rm(_)) | None => Vec::new(),
    };
    let answer = match interests.action.as_ref().map(change) {
        None => client.get("/v1/interests").await,
        Some(change) => {
            let body = serde_json::to_string(&change).expect("a change always encodes");
            client.post("/v1/interests", body).await
        }
    };
    let text = answer.map_err(failed)?;
    let view: InterestsView =
        serde_json::from_str(&text).map_err(|error| failed(ClientError::Unreadable(error.to_string())))?;
    if output.is_json() {
        output.json(&text)?;
    } else {
        print(&view, output)?;
    }
    for covered in covered(&asked, &view.patterns) {
        output.remark(&covered);
    }
    if interests.action.is_some() && !view.lasting {
        output.remark("this holds until the daemon stops; to keep it, write it into interests.patterns");
    }
    Ok(Exit::Done)
}

fn change(action: &InterestsAction) -> InterestsChange {
    let none = InterestsChange::default();
    match action {
        InterestsAction::Set(set) => InterestsChange { set: Some(set.patterns.clone()), ..none },
        InterestsAction::Add(add) => InterestsChange { add: add.patterns.clone(), ..none },
        InterestsAction::Rm(remove) => InterestsChange { remove: remove.patterns.clone(), ..none },
    }
}

/// Which of the patterns that were asked for are not kept, since a wider one says the same: removing that
/// one does not bring them back.
fn covered(asked: &[Pattern], kept: &[Pattern]) -> Vec<String> {
    let of = |wide: &Pattern| {
        let narrow = asked.iter().filter(|narrow| *narrow != wide && wide.covers(narrow) && !kept.contains(narrow));
        let names: BTreeSet<&str> = narrow.map(Pattern::as_str).collect();
        let names = names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        (!names.is_empty())
            .then(|| format!("`{wide}` covers {names}: not kept beside it, to be added again when `{wide}` is removed"))
    };
    kept.iter().filter_map(of).collect()
}

/// Our patterns one a line, as results; who wants what from us beside them.
fn print(view: &InterestsView, output: &mut Output) -> Result<(), Failure> {
    for pattern in &view.patterns {
        output.line(pattern.as_str())?;
    }
    if view.patterns.is_empty() {
        output.remark(
            "nothing is wanted but what is addressed to this node\nnext: afferent interests add 'deployment.*'",
        );
    }
    let joined = |patterns: &[Pattern]| patterns.iter().map(Pattern::as_str).collect::<Vec<_>>().join(" ");
    let rows = view.peers.iter().map(|peer| {
        let name = peer.alias.as_deref().map_or_else(|| peer.id.short(), |alias| plain(alias).into_owned());
        vec![name, if peer.patterns.is_empty() { "nothing".to_owned() } else { joined(&peer.patterns) }]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    if !rows.is_empty() {
        output.remark(&table(&["PEER", "WANTS FROM US"], &rows).join("\n"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::pages;
    use super::*;
    use crate::admin::answers::PeerInterests;
    use crate::wire::Keypair;

    #[test]
    fn our_patterns_are_the_result_and_those_of_others_a_remark() {
        let patterns = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a pattern")).collect::<Vec<_>>();
        let id = Keypair::from_seed(&[7; 32]).id();
        let view = InterestsView {
            patterns: patterns(&["a.*", "b.c"]),
            lasting: false,
            peers: vec![
                PeerInterests { id, alias: Some("cedar".into()), patterns: patterns(&["*"]) },
                PeerInterests { id, alias: None, patterns: Vec::new() },
            ],
        };
        let (mut output, results, remarks) = pages(false);
        print(&view, &mut output).expect("printed");
        output.flush().expect("written");
        assert_eq!(results.text(), "a.*\nb.c\n");
        let id = id.short();
        assert_eq!(remarks.text(), format!("PEER        WANTS FROM US\ncedar       *\n{id}  nothing\n"));
    }
}
