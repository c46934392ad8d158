//! What may stand in a field of the local bus, as an operator writes it in `[bus.layouts.NAME]` and as
//! the bridge fills it: one value for both.

use std::str::FromStr;

/// Where the value of a field comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pick {
    /// `subject`: the attribute of this name; `data_base64` as well.
    Attribute(String),
    /// `data`, `data.user.name`: what these keys lead to in the data; none = all of it.
    Data(Vec<String>),
    /// `mesh_hops`: what the layout `plain` says under this name.
    Mesh(String),
    /// `envelope`: the line `hops sig event`.
    Envelope,
    /// `=text`: these very characters.
    Text(String),
}

impl FromStr for Pick {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Pick, &'static str> {
        const SHAPE: &str = "an attribute, data, data.key.key, a field mesh_..., envelope or =text is expected";
        const MESH: [&str; 6] = ["mesh_digest", "mesh_from", "mesh_via", "mesh_hops", "mesh_received", "mesh_trust"];
        let is_attribute = |name: &str| {
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) && name.len() <= 20
        };
        match text {
            "" => Err(SHAPE),
            "envelope" => Ok(Pick::Envelope),
            "data" => Ok(Pick::Data(Vec::new())),
            "data_base64" => Ok(Pick::Attribute(text.to_owned())),
            mesh if mesh.starts_with("mesh_") => match MESH.contains(&mesh) {
                true => Ok(Pick::Mesh(mesh.to_owned())),
                false => Err("the fields are mesh_digest, mesh_from, mesh_via, mesh_hops, mesh_received, mesh_trust"),
            },
            _ if text.starts_with('=') => Ok(Pick::Text(text[1..].to_owned())),
            _ if text.starts_with("data.") => {
                let keys: Vec<String> = text.split('.').skip(1).map(str::to_owned).collect();
                let fits = keys.len() <= 16 && keys.iter().all(|key| !key.is_empty());
                fits.then_some(Pick::Data(keys)).ok_or("a path into the data is data.key.key, 16 keys at most")
            }
            name if is_attribute(name) => Ok(Pick::Attribute(name.to_owned())),
            _ => Err(SHAPE),
        }
    }
}
