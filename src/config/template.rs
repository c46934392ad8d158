//! The commented file: every key with its purpose, its default and how to change it.

use std::fmt::Write as _;

use super::fields::{FIELDS, Field, Preset, SECTIONS, is_repeated};

/// A whole configuration file. Lines that only repeat a default are commented out; those of `set`
/// (`section`, `key`, value as TOML) are not.
pub fn template(set: &[(&str, &str, String)]) -> String {
    let mut text = String::from(
        "# The configuration of afferent. A line that is commented out shows what holds without it;\n\
         # this whole file may be missing. Environment variables override it (AFFERENT_BUS__URL), flags\n\
         # override both. `afferent config check` says what is wrong with it, `afferent config show --origin`\n\
         # where each value in force comes from; `systemctl reload afferent` or SIGHUP reads it again.\n",
    );
    for (section, about) in SECTIONS {
        let _ = write!(text, "\n# {about}\n");
        let header = if is_repeated(section) { format!("#[[{section}]]") } else { format!("[{section}]") };
        let _ = writeln!(text, "{header}");
        for field in FIELDS.iter().filter(|field| field.section == *section) {
            let value = set.iter().find(|(section, key, _)| (*section, *key) == (field.section, field.key));
            write_field(&mut text, field, value.map(|(_, _, value)| value.as_str()));
        }
    }
    text
}

fn write_field(text: &mut String, field: &Field, value: Option<&str>) {
    text.push('\n');
    for line in field.purpose {
        let _ = writeln!(text, "# {line}");
    }
    let shown = match field.preset {
        Preset::Value(preset) => preset,
        Preset::Derived(from) => {
            let _ = writeln!(text, "# Default: {from}.");
            field.example
        }
    };
    let _ = match value {
        Some(value) => writeln!(text, "{} = {value}", field.key),
        None => writeln!(text, "#{} = {shown}", field.key),
    };
}
