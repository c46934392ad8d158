//! Where a configuration is looked for, and where a node lives that says nothing about it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::layers::Override;
use super::mistake::{Mistake, Mistakes};

const SYSTEM_FILE: &str = "/etc/afferent/afferent.toml";
const SYSTEM_DATA: &str = "/var/lib/afferent";
/// Where the daemon of the system answers.
pub const SYSTEM_SOCKET: &str = "/run/afferent/afferent.sock";
/// The name of a Unix socket has this many bytes at most (`sun_path` of Linux, less its final zero;
/// macOS has four fewer and says so itself).
pub const SOCKET_BYTES_MAX: usize = 107;

/// What the process was started in, so that nothing here reads a global.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The environment; variables that are not UTF-8 are left out.
    pub env: BTreeMap<String, String>,
    /// Runs as uid 0.
    pub is_root: bool,
    /// This host's name.
    pub host: String,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Surroundings {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Surroundings {
            env: std::env::vars_os().filter_map(text).collect(),
            is_root: rustix::process::geteuid().is_root(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        }
    }

    /// A variable that holds an absolute path. The XDG rules say that a relative one is as good as none.
    fn directory(&self, name: &str) -> Option<PathBuf> {
        self.env.get(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    fn user_directory(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        self.directory(variable).or_else(|| Some(self.directory("HOME")?.join(below_home)))
    }

    /// `$CREDENTIALS_DIRECTORY/node.key`, where systemd puts a key it was given.
    pub(super) fn credential(&self) -> Option<PathBuf> {
        Some(self.directory("CREDENTIALS_DIRECTORY")?.join("node.key"))
    }
}

/// The configuration file that is used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Where.
    pub path: PathBuf,
    /// Somebody named it; otherwise it was found at a usual place.
    pub by_name: bool,
}

/// The file to read: `flag`, else `$AFFERENT_CONFIG`, both whether they exist or not; else
/// /etc/afferent/afferent.toml, else `$XDG_CONFIG_HOME/afferent/afferent.toml` where they exist; else
/// none.
pub fn find(flag: Option<&Path>, surroundings: &Surroundings) -> Option<Found> {
    let named = flag
        .map(Path::to_owned)
        .or_else(|| surroundings.env.get("AFFERENT_CONFIG").filter(|value| !value.is_empty()).map(PathBuf::from));
    if let Some(path) = named {
        return Some(Found { path, by_name: true });
    }
    let usual = [Some(PathBuf::from(SYSTEM_FILE)), user_file(surroundings)];
    usual.into_iter().flatten().find(|path| path.exists()).map(|path| Found { path, by_name: false })
}

/// Where `init` puts the file of a user, or of the system for root, when nobody says.
pub fn usual_file(surroundings: &Surroundings) -> Option<PathBuf> {
    if surroundings.is_root { Some(PathBuf::from(SYSTEM_FILE)) } else { user_file(surroundings) }
}

fn user_file(surroundings: &Surroundings) -> Option<PathBuf> {
    Some(surroundings.user_directory("XDG_CONFIG_HOME", ".config")?.join("afferent/afferent.toml"))
}

/// Where a node lives.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) data_dir: PathBuf,
    pub(super) socket: PathBuf,
}

/// Fills in what nobody wrote.
///
/// The socket goes where it can be found again without being told: beside a `data_dir` that somebody
/// chose, so two daemons with two data directories never meet at one socket; at the usual places of
/// the system or of the user otherwise.
pub(super) fn home(
    data_dir: Option<PathBuf>,
    socket: Option<PathBuf>,
    file: Option<&Path>,
    surroundings: &Surroundings,
) -> Result<Home, Mistakes> {
    let is_system = surroundings.is_root || file == Some(Path::new(SYSTEM_FILE));
    let chosen = data_dir.is_some();
    let data_dir = match data_dir {
        Some(data_dir) => data_dir,
        None if is_system => PathBuf::from(SYSTEM_DATA),
        None => surroundings
            .user_directory("XDG_DATA_HOME", ".local/share")
            .ok_or_else(|| nowhere("no place for data: neither HOME nor XDG_DATA_HOME is set"))?
            .join("afferent"),
    };
    let beside = data_dir.join("afferent.sock");
    let socket = match (socket, surroundings.directory("XDG_RUNTIME_DIR")) {
        (Some(socket), _) => socket,
        (None, _) if data_dir == Path::new(SYSTEM_DATA) => PathBuf::from(SYSTEM_SOCKET),
        (None, Some(runtime)) if !chosen => runtime.join("afferent.sock"),
        (None, _) => beside,
    };
    if socket.as_os_str().len() > SOCKET_BYTES_MAX {
        return Err(Mistakes(vec![Mistake {
            code: "AF0108",
            what: format!("the path of the socket is too long: {}", socket.display()),
            why: format!("a Unix socket has {SOCKET_BYTES_MAX} bytes at most"),
            next: "set a shorter admin.socket, such as \"/run/user/1000/birch.sock\"".to_owned(),
            place: None,
        }]));
    }
    Ok(Home { data_dir, socket })
}

fn nowhere(what: &str) -> Mistakes {
    Mistakes(vec![Mistake {
        code: "AF0108",
        what: what.to_owned(),
        why: "and no node.data_dir says where".to_owned(),
        next: "set HOME, or node.data_dir in a configuration file, or AFFERENT_NODE__DATA_DIR".to_owned(),
        place: None,
    }])
}

/// The overrides that the environment holds, in the order of their names.
pub(super) fn overrides(surroundings: &Surroundings) -> Vec<Override> {
    let of = |(name, value): (&String, &String)| {
        let (section, key) = name.strip_prefix("AFFERENT_")?.split_once("__")?;
        Some(Override {
            source: name.clone(),
            section: section.to_ascii_lowercase(),
            key: key.to_ascii_lowercase(),
            value: value.clone(),
        })
    };
    surroundings.env.iter().filter_map(of).collect()
}
