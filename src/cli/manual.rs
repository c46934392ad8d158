//! What shells and `man` want to know, made from the same table of arguments that is parsed.

use std::path::Path;

use clap::CommandFactory;
use clap_mangen::Man as Page;

use super::arguments::{Arguments, Completions, Man};
use super::failure::{Exit, Failure};
use super::output::Output;

/// The completions of one shell, on standard output.
pub(super) fn completions(completions: &Completions, output: &mut Output) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(completions.shell, &mut Arguments::command(), "afferent", &mut script);
    output.line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Done)
}

/// The page of the program on standard output, or all pages into a directory.
pub(super) fn pages(man: &Man, output: &mut Output) -> Result<Exit, Failure> {
    let mut command = Arguments::command();
    command.build();
    let Some(directory) = &man.directory else {
        output.line(render(&command, &[])?.trim_end())?;
        return Ok(Exit::Done);
    };
    for (name, text) in all(&command, &[])? {
        write(&directory.join(name), &text)?;
    }
    Ok(Exit::Done)
}

/// A command's page and those of everything below it; `above` are the names on the way to it.
fn all(command: &clap::Command, above: &[&str]) -> Result<Vec<(String, String)>, Failure> {
    let path: Vec<&str> = above.iter().copied().chain([command.get_name()]).collect();
    let mut pages = vec![(format!("{}.1", path.join("-")), render(command, above)?)];
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        pages.extend(all(below, &path)?);
    }
    Ok(pages)
}

fn render(command: &clap::Command, above: &[&str]) -> Result<String, Failure> {
    let title: Vec<&str> = above.iter().copied().chain([command.get_name()]).collect();
    // Globals stand on the first page and are left out of the others, as `--help` has them.
    let page = Page::new(command.clone().disable_help_subcommand(true))
        .title(title.join("-").to_uppercase())
        .manual("afferent")
        .source(format!("afferent {}", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    page.render(&mut text).map_err(|error| Failure::of_system("man", "the page cannot be made", &error))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let cannot = |error| Failure::of_system("man", &format!("{} cannot be written", path.display()), &error);
    std::fs::write(path, text).map_err(cannot)
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::pages as outputs;
    use super::*;

    #[test]
    fn every_shell_learns_every_command() {
        use clap_complete::Shell;
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let (mut output, results, _) = outputs(false);
            completions(&Completions { shell }, &mut output).expect("printed");
            output.flush().expect("written");
            for word in ["publish", "print-limits", "interests", "template", "e2e"] {
                assert!(results.text().contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn every_command_has_a_page_with_its_flags_and_exit_codes() {
        let home = tempfile::tempdir().expect("a directory");
        let (mut output, ..) = outputs(false);
        pages(&Man { directory: Some(home.path().to_owned()) }, &mut output).expect("written");
        let page = |name: &str| std::fs::read_to_string(home.path().join(name)).expect(name);
        assert!(page("afferent.1").contains("Exit codes") && page("afferent.1").contains(".TH AFFERENT 1"));
        assert!(page("afferent-config-show.1").contains("origin"));
        let commands = Arguments::command();
        for command in commands.get_subcommands() {
            let text = page(&format!("afferent-{}.1", command.get_name()));
            for long in command.get_arguments().filter_map(|argument| argument.get_long()) {
                assert!(text.replace("\\-", "-").contains(&format!("--{long}")), "{} --{long}", command.get_name());
            }
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let (mut output, ..) = outputs(false);
        let failure = pages(&Man { directory: Some("/nowhere/man".into()) }, &mut output).expect_err("refused");
        assert!(failure.to_string().contains("/nowhere/man/afferent.1"), "{failure}");
    }
}
