//! `afferent config`: is it good, what holds and why, and what may be written at all.

use serde_json::{Value, json};

use super::arguments::{Config, ConfigAction, Global};
use super::failure::{Exit, Failure};
use super::output::{Output, plain};
use super::reach;
use crate::config::{self, Group, Mistake, Mistakes, Origin, Override, Settings, Surroundings};

pub(super) fn perform(config: &Config, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    match &config.action {
        ConfigAction::Check(overrides) => check(&overrides.set, global, output),
        ConfigAction::Show(show) => self::show(show.origin, &show.overrides.set, global, output),
        ConfigAction::Schema => {
            let schema = config::schema();
            let text = serde_json::to_string_pretty(&schema).expect("JSON always encodes");
            output.line(&if output.is_json() { schema.to_string() } else { text })?;
            Ok(Exit::Done)
        }
        ConfigAction::Template => {
            output.line(config::template(&[]).trim_end())?;
            Ok(Exit::Done)
        }
    }
}

/// Reads it as `run` would, and stops.
pub(super) fn check(flags: &[Override], global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    if !output.is_json() {
        let settings = reach::settings(global, flags)?;
        output.line(&checked(&settings))?;
        return Ok(Exit::Done);
    }
    let (document, exit) = match config::load(global.config.as_deref(), flags, &Surroundings::of_process()) {
        Ok(settings) => (json!({ "good": true, "file": settings.file, "mistakes": [] }), Exit::Done),
        Err(Mistakes(mistakes)) => {
            let mistakes: Vec<Value> = mistakes.iter().map(object).collect();
            (json!({ "good": false, "mistakes": mistakes }), Exit::Configuration)
        }
    };
    print(document, "afferent.config-check/1", output)?;
    Ok(exit)
}

fn checked(settings: &Settings) -> String {
    let file = settings.file.as_ref().map_or("no file".to_owned(), |file| file.display().to_string());
    let data_dir = settings.node.data_dir.display();
    format!("configuration: good ({file}); data in {data_dir}, socket {}", settings.admin.socket.display())
}

fn object(mistake: &Mistake) -> Value {
    let position = mistake.place.as_ref().and_then(|place| place.position);
    json!({
        "code": mistake.code, "what": mistake.what, "why": mistake.why, "next": mistake.next,
        "source": mistake.place.as_ref().map(|place| &place.source),
        "line": position.map(|position| position.line), "column": position.map(|position| position.column),
    })
}

fn show(with_origin: bool, flags: &[Override], global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let loaded = config::load_whole(global.config.as_deref(), flags, &Surroundings::of_process())?;
    let mut groups = loaded.shown();
    if let Some(socket) = &global.socket {
        let named = config::Shown {
            key: "socket".to_owned(),
            value: Some(socket.display().to_string().into()),
            origin: Origin::Flag("--socket or AFFERENT_SOCKET".to_owned()),
        };
        let sockets = groups.iter_mut().filter(|group| group.name == "admin").flat_map(|group| &mut group.values);
        sockets.filter(|shown| shown.key == named.key).for_each(|shown| shown.clone_from(&named));
    }
    if output.is_json() {
        let values: Vec<Value> = groups.iter().flat_map(values).collect();
        print(json!({ "file": loaded.settings.file, "values": values }), "afferent.config/1", output)?;
        return Ok(Exit::Done);
    }
    for line in toml(&groups, with_origin) {
        output.line(&line)?;
    }
    Ok(Exit::Done)
}

fn values(group: &Group) -> Vec<Value> {
    let value = |shown: &config::Shown| {
        let (line, at) = match &shown.origin {
            Origin::File(path, line) => (Some(*line), Some(path.display().to_string())),
            Origin::Variable(name) | Origin::Flag(name) => (None, Some(name.clone())),
            Origin::Default | Origin::Derived(_) => (None, None),
        };
        json!({
            "table": group.name, "index": group.index, "key": shown.key, "value": shown.value,
            "origin": shown.origin.word(), "at": at, "line": line,
        })
    };
    group.values.iter().map(value).collect()
}

/// What holds, as a file that would say the same; with where it comes from in comments.
fn toml(groups: &[Group], with_origin: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for group in groups {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.push(if group.index.is_some() { format!("[[{}]]", group.name) } else { format!("[{}]", group.name) });
        let assignments = group.values.iter().filter_map(|shown| {
            let text = format!("{} = {}", shown.key, shown.value.as_ref()?);
            Some((plain(&text).into_owned(), &shown.origin))
        });
        let assignments: Vec<_> = assignments.collect();
        let width = assignments.iter().map(|(text, _)| text.chars().count()).filter(|width| *width <= WIDTH_MAX).max();
        for (text, origin) in assignments {
            lines.push(match with_origin {
                true => format!("{text:<0$}  # {1}", width.unwrap_or(0), plain(&origin.to_string())),
                false => text,
            });
        }
    }
    lines
}

/// A longer line does not push the comments of the others away.
const WIDTH_MAX: usize = 60;

fn print(mut document: Value, schema: &str, output: &mut Output) -> Result<(), Failure> {
    document["schema"] = json!(schema);
    output.json(&document.to_string())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::pages;
    use super::*;
    use crate::config::NodeName;
    use std::path::Path;

    const TEXT: &str = "[node]\nname = \"birch\"\ndata_dir = \"/d\"\n[bus]\nurl = \"redis://:hunter2@h\"\n\
                        [interests]\npatterns = [\"a.*\", \"b.+.c\"]\n";

    fn global(directory: &Path, text: &str) -> Global {
        let file = directory.join("a.toml");
        std::fs::write(&file, text).expect("written");
        Global { config: Some(file), ..Global::default() }
    }

    fn run(action: ConfigAction, global: &Global, is_json: bool) -> (Exit, String, String) {
        let (mut output, results, remarks) = pages(is_json);
        let exit = perform(&Config { action }, global, &mut output).unwrap_or_else(|failure| {
            output.report(&failure);
            failure.exit
        });
        output.flush().expect("written");
        (exit, results.text(), remarks.text())
    }

    fn show(with_origin: bool) -> ConfigAction {
        let overrides = super::super::arguments::Overrides { set: Vec::new() };
        ConfigAction::Show(super::super::arguments::ShowConfig { origin: with_origin, overrides })
    }

    fn check() -> ConfigAction {
        ConfigAction::Check(super::super::arguments::Overrides { set: Vec::new() })
    }

    #[test]
    fn a_good_configuration_says_where_things_are() {
        let settings =
            Settings::default_at(NodeName::of_host("birch"), Path::new("/data"), Path::new("/data/afferent.sock"));
        let expected = "configuration: good (no file); data in /data, socket /data/afferent.sock";
        assert_eq!(checked(&settings), expected);
    }

    #[test]
    fn what_is_shown_is_a_file_that_says_the_same() {
        let home = tempfile::tempdir().expect("a directory");
        let one = global(home.path(), TEXT);
        for with_origin in [false, true] {
            let (exit, shown, _) = run(show(with_origin), &one, false);
            assert_eq!(exit, Exit::Done);
            assert!(shown.contains("url = \"redis://:***@h\"") && !shown.contains("hunter2"), "{shown}");
            assert_eq!(shown.contains("a.toml:5\n"), with_origin, "{shown}");
            let read = |text: &str| {
                let settings = config::read(Some((Path::new("/a.toml"), text)), &[], &Surroundings::default());
                settings.unwrap_or_else(|mistakes| panic!("{mistakes}\n{shown}"))
            };
            // What depends on the profile is shown as it came out.
            let mut written = read(&TEXT.replace("hunter2", "***"));
            written.node.accept = Some(written.node.accept_in(written.node.profile));
            assert_eq!(read(&shown), written);
        }
    }

    #[test]
    fn a_program_gets_every_value_and_every_mistake() {
        let home = tempfile::tempdir().expect("a directory");
        let (exit, shown, _) = run(show(false), &global(home.path(), TEXT), true);
        let json: Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!((exit, &json["schema"]), (Exit::Done, &json!("afferent.config/1")));
        let values = json["values"].as_array().expect("values");
        let name = values.iter().find(|value| value["key"] == "name").expect("a name");
        assert_eq!((&name["value"], &name["origin"], &name["line"]), (&json!("birch"), &json!("file"), &json!(2)));

        let wrong = global(home.path(), "[node]\nnmae = 1\n[bus]\nurl = 7\n");
        let (exit, shown, remarks) = run(check(), &wrong, true);
        let json: Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!((exit, &json["good"], remarks.as_str()), (Exit::Configuration, &json!(false), ""));
        let place = |i: usize| (json["mistakes"][i]["line"].as_u64(), json["mistakes"][i]["column"].as_u64());
        assert_eq!([place(0), place(1)], [(Some(2), Some(1)), (Some(4), Some(7))]);
        let (exit, shown, remarks) = run(check(), &wrong, false);
        assert_eq!((exit, shown.as_str()), (Exit::Configuration, ""));
        assert_eq!(remarks.matches("next: ").count(), 2, "{remarks}");
    }

    #[test]
    fn the_socket_of_the_command_line_is_shown() {
        let home = tempfile::tempdir().expect("a directory");
        let named = Global { socket: Some("/x.sock".into()), ..global(home.path(), TEXT) };
        let (_, shown, _) = run(show(true), &named, false);
        assert!(shown.contains("socket = \"/x.sock\"  # --socket or AFFERENT_SOCKET"), "{shown}");
    }
}
