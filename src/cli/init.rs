//! `afferent init`: key, data directory, configuration. What is there stays; what is missing is made;
//! a second call after a failure goes on where the first one stopped.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::arguments::{Global, Init};
use super::failure::{Exit, Failure};
use super::output::{Output, plain};
use super::{codes, id, node_key};
use crate::config::{self, Settings, Surroundings};
use crate::wire::address::PORT_DEFAULT;
use crate::wire::{Host, HostPort, NodeId};

/// What there is now.
struct Made {
    id: NodeId,
    settings: Settings,
    file: PathBuf,
    is_file_new: bool,
    is_key_new: bool,
}

pub(super) fn perform(init: &Init, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let surroundings = Surroundings::of_process();
    let made = make(init, global.config.as_deref(), &surroundings)?;
    print(&made, init, global.config.is_some(), output)?;
    if made.is_file_new || made.is_key_new {
        return Ok(Exit::Done);
    }
    let key = node_key::path(&made.settings);
    let what = format!("nothing was changed, {} and {} are there already", made.file.display(), key.display());
    Err(Failure::new(Exit::Failed, codes::PRESENT, "init", what).next("edit the one, or move both away to start anew"))
}

/// The key comes first and the file last: with the file there, everything is.
fn make(init: &Init, named: Option<&Path>, surroundings: &Surroundings) -> Result<Made, Failure> {
    let usual = config::usual_file(surroundings);
    let absolute = |path: &Path| {
        std::path::absolute(path)
            .map_err(|error| Failure::of_system("init", "the path cannot be made absolute", &error))
    };
    let file = match named {
        Some(named) => absolute(named)?,
        None => usual.clone().ok_or_else(|| {
            let what = "no place for the configuration: neither HOME nor XDG_CONFIG_HOME is set";
            Failure::new(Exit::Usage, codes::USAGE, "init", what).next("afferent init --config FILE")
        })?,
    };
    let is_there =
        file.try_exists().map_err(|error| Failure::of_system("init", &file.display().to_string(), &error))?;
    let (settings, text) = if is_there {
        (config::load(Some(&file), &[], surroundings)?, None)
    } else {
        let data_dir = match &init.data_dir {
            Some(directory) => Some(absolute(directory)?),
            None if Some(&file) == usual.as_ref() => None,
            None => Some(beside(&file)),
        };
        let text = config::template(&chosen(init, data_dir.as_deref()));
        (config::read(Some((&file, &text)), &[], surroundings)?, Some(text))
    };
    let is_key_new = !node_key::path(&settings).exists();
    let key = if is_key_new { node_key::create(&settings)? } else { node_key::load("init", &settings)? };
    let is_file_new = text.is_some();
    if let Some(text) = text {
        place(&file, &text)
            .map_err(|error| Failure::of_system("init", &format!("{} cannot be written", file.display()), &error))?;
    }
    Ok(Made { id: key.id(), settings, file, is_file_new, is_key_new })
}

/// Two configurations in one directory are two nodes: each gets a data directory of its own.
fn beside(file: &Path) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!("{stem}-data"))
}

/// The lines of the template that are not defaults.
fn chosen(init: &Init, data_dir: Option<&Path>) -> Vec<(&'static str, &'static str, String)> {
    // The strings of JSON are strings of TOML too.
    let quoted = |text: &str| serde_json::to_string(text).expect("a string always encodes");
    let mut set = Vec::new();
    if let Some(name) = &init.name {
        set.push(("node", "name", quoted(name.as_str())));
    }
    if let Some(data_dir) = data_dir {
        set.push(("node", "data_dir", quoted(&data_dir.to_string_lossy())));
    }
    if let Some(address) = &init.address {
        set.push(("node", "addresses", format!("[{}]", quoted(&address.to_string()))));
        if let Some(listen) = listen(address) {
            set.push(("node", "listen", format!("[{}]", quoted(&listen.to_string()))));
        }
    }
    set
}

/// Where to listen so that this address leads here: its port on all interfaces, or itself where it
/// is a loopback address and nobody else is meant to come.
fn listen(address: &HostPort) -> Option<SocketAddr> {
    match address.host {
        Host::Ip(ip) if ip.is_loopback() => Some(SocketAddr::new(ip, address.port)),
        _ if address.port == PORT_DEFAULT => None,
        _ => Some(SocketAddr::new(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), address.port)),
    }
}

/// Writes a file that is not there yet, whole or not at all, and never over another one: it gets its
/// name by a hard link, which fails where a name is taken.
fn place(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    let draft = directory.join(format!(".afferent-{}.toml", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&draft)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| std::fs::hard_link(&draft, path));
    std::fs::remove_file(&draft)?;
    linked?;
    std::fs::File::open(directory)?.sync_all()
}

fn print(made: &Made, init: &Init, is_named: bool, output: &mut Output) -> Result<(), Failure> {
    let identity = id::offline(&made.settings, made.id);
    if output.is_json() {
        let created = [("key", made.is_key_new), ("config", made.is_file_new)];
        let created: Vec<&str> = created.iter().filter(|(_, is_new)| *is_new).map(|(name, _)| *name).collect();
        let line = json!({
            "schema": "afferent.init/1", "id": made.id, "addresses": identity.addresses,
            "config": made.file, "key": node_key::path(&made.settings), "data_dir": made.settings.node.data_dir,
            "created": created,
        });
        output.json(&line.to_string())?;
        return Ok(());
    }
    output.line(&made.id.to_string())?;
    for address in &identity.addresses {
        output.line(&plain(&address.to_string()))?;
    }
    let state = |is_new: bool| if is_new { "new" } else { "kept as it was" };
    output.remark(&format!("configuration  {}, {}", made.file.display(), state(made.is_file_new)));
    output.remark(&format!("key            {}, {}", node_key::path(&made.settings).display(), state(made.is_key_new)));
    if !made.is_file_new && (init.address.is_some() || init.name.is_some() || init.data_dir.is_some()) {
        output.remark("--address, --name and --data-dir had no effect: the configuration was there");
    }
    if identity.addresses.is_empty() {
        output.remark("no address is set: others find this node when it calls them; to be called, set node.addresses");
    }
    if made.is_file_new || made.is_key_new {
        let config = if is_named { format!(" --config {}", made.file.display()) } else { String::new() };
        output.remark(&format!("next: afferent run{config}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::pages;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn init(address: Option<&str>, name: Option<&str>) -> Init {
        Init {
            address: address.map(|text| text.parse().expect("an address")),
            name: name.map(|text| text.parse().expect("a name")),
            data_dir: None,
        }
    }

    fn nobody() -> Surroundings {
        Surroundings { host: "host".to_owned(), ..Surroundings::default() }
    }

    #[test]
    fn a_node_is_made_once_and_kept_for_ever() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("birch.toml");
        let wish = init(Some("127.0.0.1:7555"), Some("bir\"ch"));
        let first = make(&wish, Some(&file), &nobody()).expect("made");
        assert!(first.is_file_new && first.is_key_new);
        assert_eq!(first.settings.node.data_dir, home.path().join("birch-data"));
        assert_eq!(first.settings.node.name.as_str(), "bir\"ch");
        assert_eq!(first.settings.node.listen, ["127.0.0.1:7555".parse().expect("a socket address")]);
        assert_eq!(first.settings.admin.socket, home.path().join("birch-data/afferent.sock"));
        let mode = |path: &Path| std::fs::metadata(path).expect("is there").permissions().mode() & 0o777;
        assert_eq!(mode(&home.path().join("birch-data/node.key")), 0o600);
        assert_eq!(mode(&home.path().join("birch-data")), 0o700);

        let text = std::fs::read_to_string(&file).expect("the file");
        let second = make(&init(Some("other.example"), None), Some(&file), &nobody()).expect("kept");
        assert!(!second.is_file_new && !second.is_key_new);
        assert_eq!(second.id, first.id);
        assert_eq!(std::fs::read_to_string(&file).expect("the file"), text);
        let left = std::fs::read_dir(home.path()).expect("a directory").count();
        assert_eq!(left, 2, "no draft is left behind");
    }

    #[test]
    fn what_is_missing_is_made_and_what_is_there_is_used() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("a.toml");
        std::fs::write(&file, format!("[node]\ndata_dir = \"{}/d\"", home.path().display())).expect("written");
        let made = make(&init(None, None), Some(&file), &nobody()).expect("made");
        assert!(!made.is_file_new && made.is_key_new);
        std::fs::remove_file(&file).expect("removed");
        let wish = Init { data_dir: Some(home.path().join("d")), ..init(None, None) };
        let again = make(&wish, Some(&file), &nobody()).expect("made");
        assert!(again.is_file_new && !again.is_key_new);
        assert_eq!(again.id, made.id);
    }

    #[test]
    fn a_wrong_file_is_not_touched() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("a.toml");
        std::fs::write(&file, "[nodes]").expect("written");
        let failure = make(&init(None, None), Some(&file), &nobody()).err().expect("refused");
        assert_eq!(failure.exit, Exit::Configuration);
        assert_eq!(std::fs::read_dir(home.path()).expect("a directory").count(), 1);
    }

    #[test]
    fn nothing_is_ever_written_over() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("a.toml");
        place(&path, "one").expect("placed");
        assert_eq!(place(&path, "two").expect_err("taken").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).expect("the file"), "one");
        assert_eq!(std::fs::read_dir(home.path()).expect("a directory").count(), 1);
    }

    #[test]
    fn an_address_says_where_to_listen() {
        let of = |text: &str| listen(&text.parse().expect("an address")).map(|socket| socket.to_string());
        assert_eq!(of("birch.example"), None);
        assert_eq!(of("birch.example:9000").as_deref(), Some("[::]:9000"));
        assert_eq!(of("192.0.2.1:7443"), None);
        assert_eq!(of("127.0.0.2:7443").as_deref(), Some("127.0.0.2:7443"));
        assert_eq!(of("[::1]:9").as_deref(), Some("[::1]:9"));
    }

    #[test]
    fn the_next_command_names_the_file_that_was_named() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("a.toml");
        let made = make(&init(Some("birch.example"), None), Some(&file), &nobody()).expect("made");
        let (mut output, results, remarks) = pages(false);
        print(&made, &init(None, None), true, &mut output).expect("printed");
        output.flush().expect("written");
        assert_eq!(results.text(), format!("{id}\nmesh://{id}@birch.example:7443\n", id = made.id));
        assert!(remarks.text().ends_with(&format!("next: afferent run --config {}\n", file.display())));
        let (mut output, results, _) = pages(true);
        print(&made, &init(None, None), true, &mut output).and_then(|()| Ok(output.flush()?)).expect("written");
        let json: serde_json::Value = serde_json::from_str(&results.text()).expect("JSON");
        assert_eq!(json["created"], serde_json::json!(["key", "config"]));
    }
}
