//! `afferent keys show`: whose key it is, where it lies, who may read it. Never the key itself.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use data_encoding::BASE64;
use serde_json::json;

use super::arguments::{Global, Keys};
use super::failure::{Exit, Failure};
use super::output::Output;
use super::{node_key, reach};

pub(super) fn perform(keys: &Keys, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let super::arguments::KeysAction::Show = &keys.action;
    let settings = reach::settings(global, &[])?;
    let id = node_key::load("keys", &settings)?.id();
    let path = node_key::path(&settings);
    let cannot = |cause| Failure::of_system("keys", &format!("{} cannot be looked at", path.display()), &cause);
    let meta = std::fs::metadata(&path).map_err(cannot)?;
    let mode = format!("{:04o}", meta.permissions().mode() & 0o7777);
    let public = BASE64.encode(id.as_bytes());
    if output.is_json() {
        let line = json!({
            "schema": "afferent.keys/1", "id": id, "algorithm": "Ed25519", "public_key": public,
            "path": path, "mode": mode, "uid": meta.uid(),
        });
        output.json(&line.to_string())?;
        return Ok(Exit::Done);
    }
    output.line(&format!("id          {id}"))?;
    output.line(&format!("public key  {public} (Ed25519, base64)"))?;
    output.line(&format!("file        {} (mode {mode}, uid {})", path.display(), meta.uid()))?;
    output.remark("who has this file is this node: keep a copy offline, and never run it on two machines");
    Ok(Exit::Done)
}
