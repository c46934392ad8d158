//! How a command finds its settings, and the daemon.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::arguments::Global;
use super::failure::Failure;
use crate::admin::Client;
use crate::admin::answers::Peers;
use crate::config::{self, Loaded, Mistakes, Override, SYSTEM_SOCKET, Settings, Surroundings};
use crate::wire::NodeId;

/// The settings as the daemon would read them. `--socket` overrides what they say.
///
/// # Errors
/// Exit code 78 with every mistake.
pub(super) fn settings(global: &Global, flags: &[Override]) -> Result<Settings, Failure> {
    Ok(loaded(global, flags)?.settings)
}

/// The same, with every value as it was written.
///
/// # Errors
/// Exit code 78 with every mistake.
pub(super) fn loaded(global: &Global, flags: &[Override]) -> Result<Loaded, Failure> {
    let mut loaded = config::load_whole(global.config.as_deref(), flags, &Surroundings::of_process())?;
    let settings = &mut loaded.settings;
    if let Some(socket) = &global.socket {
        let absolute = std::path::absolute(socket);
        settings.admin.socket =
            absolute.map_err(|error| Failure::of_system("--socket", "the path cannot be made absolute", &error))?;
    }
    Ok(loaded)
}

/// Connects to the daemon, for `thing`.
///
/// # Errors
/// Exit code 3 when none answers, 78 when the configuration does not say where.
pub(super) async fn connect(thing: &str, global: &Global) -> Result<Client, Failure> {
    let socket = socket(global)?;
    Client::connect(&socket).await.map_err(|error| Failure::of_client(thing, &error))
}

/// What the peers are called here; without an answer everybody goes by the beginning of the id.
pub(super) async fn names(client: &mut Client) -> HashMap<NodeId, String> {
    let peers = client.get_as::<Peers>("/v1/peers").await.map(|known| known.peers).unwrap_or_default();
    peers.into_iter().filter_map(|peer| Some((peer.id, peer.alias?))).collect()
}

/// Where the daemon answers.
///
/// # Errors
/// Exit code 78 when the configuration does not say where.
pub(super) fn socket(global: &Global) -> Result<PathBuf, Failure> {
    if let Some(socket) = &global.socket {
        return Ok(socket.clone());
    }
    let surroundings = Surroundings::of_process();
    let read = config::load(global.config.as_deref(), &[], &surroundings);
    let chosen = choose(read, global.config.is_some(), &|path| path.exists());
    // A wrong file harms no daemon that runs, and should not hide it; its `status` says what is wrong.
    chosen.or_else(|mistakes| {
        let despite = config::socket_despite(global.config.as_deref(), &surroundings);
        Ok(despite.filter(|socket| socket.exists()).ok_or(mistakes)?)
    })
}

/// Where the daemon answers. A user who never configured anything, or may not read the system's file
/// (it can hold a password), means the daemon of the system unless one of his own is there.
fn choose(
    read: Result<Settings, Mistakes>,
    is_named: bool,
    exists: &dyn Fn(&Path) -> bool,
) -> Result<PathBuf, Mistakes> {
    let system = Path::new(SYSTEM_SOCKET);
    match read {
        Ok(settings) if settings.file.is_none() && !exists(&settings.admin.socket) && exists(system) => {
            Ok(system.to_owned())
        }
        Ok(settings) => Ok(settings.admin.socket),
        Err(Mistakes(mistakes)) if !is_named && mistakes.iter().all(|mistake| mistake.code == "AF0101") => {
            Ok(system.to_owned())
        }
        Err(mistakes) => Err(mistakes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> Surroundings {
        let env = [("HOME", "/home/ann"), ("XDG_RUNTIME_DIR", "/run/user/7")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Surroundings { env, is_root: false, host: "birch".to_owned() }
    }

    #[test]
    fn a_user_without_a_daemon_of_his_own_means_the_one_of_the_system() {
        let read = || config::read(None, &[], &user());
        let own = Path::new("/run/user/7/afferent.sock");
        assert_eq!(choose(read(), false, &|path| path == own), Ok(own.to_owned()));
        assert_eq!(choose(read(), false, &|_| true), Ok(own.to_owned()));
        assert_eq!(choose(read(), false, &|_| false), Ok(own.to_owned()), "said in the error: his own");
        let system = PathBuf::from(SYSTEM_SOCKET);
        assert_eq!(choose(read(), false, &|path| path == system), Ok(system));
    }

    #[test]
    fn a_system_file_that_may_not_be_read_still_leads_to_its_daemon() {
        let unreadable = || {
            let missing = config::load(Some(Path::new("/nowhere/a.toml")), &[], &user());
            assert!(missing.is_err());
            missing
        };
        assert_eq!(choose(unreadable(), false, &|_| false), Ok(PathBuf::from(SYSTEM_SOCKET)));
        assert!(choose(unreadable(), true, &|_| false).is_err(), "a file that was named has to be there");
    }
}
