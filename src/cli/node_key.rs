//! The seam to the key file and the data directory. `store` owns both; the few lines here stand in
//! its place until it is joined, and become calls to `store::DataDir` and `store::key`.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use super::codes;
use super::failure::{Exit, Failure};
use crate::config::Settings;
use crate::wire::Keypair;

/// The file that holds the key of this node: the one that the service manager hands over if it does,
/// else the one in the data directory.
pub(super) fn path(settings: &Settings) -> PathBuf {
    let given = settings.node.credential.clone().filter(|path| path.exists());
    given.unwrap_or_else(|| settings.node.data_dir.join("node.key"))
}

/// Reads the key, for `thing`.
pub(super) fn load(thing: &str, settings: &Settings) -> Result<Keypair, Failure> {
    let path = path(settings);
    let unusable = |why: String| {
        let what = format!("the key {} cannot be used, {why}", path.display());
        Failure::new(Exit::Failed, codes::BAD_KEY, thing, what).next(format!("ls -l {}", path.display()))
    };
    match std::fs::read_to_string(&path) {
        Ok(pem) => Keypair::from_pkcs8_pem(&pem).map_err(|why| unusable(why.to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let what = format!("this node has no key yet, {} is not there", path.display());
            Err(Failure::new(Exit::Failed, codes::NO_KEY, thing, what).next("afferent init"))
        }
        Err(error) => Err(unusable(error.to_string())),
    }
}

/// Makes the data directory (0700) and a new key in it (0600, never over another one).
pub(super) fn create(settings: &Settings) -> Result<Keypair, Failure> {
    let directory = &settings.node.data_dir;
    let key = fresh();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory).and_then(|()| {
        let path = directory.join("node.key");
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(key.to_pkcs8_pem().as_bytes()).and_then(|()| file.sync_all()).inspect_err(|_| {
            let _ = std::fs::remove_file(&path);
        })
    });
    let what = format!("no key can be made in {}", directory.display());
    made.map_err(|error: io::Error| Failure::of_system("init", &what, &error))?;
    Ok(key)
}

fn fresh() -> Keypair {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system gives random bytes");
    Keypair::from_seed(&seed)
}
