//! The JSON Schema of the file, for editors and for whoever writes such files by program.

use serde_json::{Map, Value, json};
use toml::de::DeValue;

use super::fields::{FIELDS, Field, Kind, Preset, SECTIONS, is_repeated};
use super::origin::plain;

/// JSON Schema 2020-12 of the configuration, made from [`FIELDS`]. It says what may be written and of
/// which kind; whether a value can be used is said by `afferent config check` alone.
pub fn schema() -> Value {
    let mut properties = Map::new();
    for (section, about) in SECTIONS {
        insert(&mut properties, section, about);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of afferent",
        "description": "afferent.toml, read as JSON. Every key may be left out.",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    })
}

/// Puts a table where its name says: `bus.route` lies in `bus`.
fn insert(properties: &mut Map<String, Value>, section: &str, about: &str) {
    let mut place = properties;
    let mut names: Vec<&str> = section.split('.').collect();
    let last = names.pop().expect("a name has a part");
    for name in names {
        let table = place.entry(name).or_insert_with(|| table("", ""));
        place = table["properties"].as_object_mut().expect("every table has properties");
    }
    let table = table(section, about);
    let value =
        if is_repeated(section) { json!({ "type": "array", "description": about, "items": table }) } else { table };
    place.insert(last.to_owned(), value);
}

fn table(section: &str, about: &str) -> Value {
    let fields = || FIELDS.iter().filter(|field| field.section == section);
    let properties: Map<String, Value> = fields().map(|field| (field.key.to_owned(), property(field))).collect();
    let needed: Vec<&str> = fields().filter(|field| field.is_needed()).map(|field| field.key).collect();
    let mut table = json!({
        "type": "object", "description": about, "additionalProperties": false, "properties": properties,
    });
    if !needed.is_empty() {
        table["required"] = json!(needed);
    }
    table
}

fn property(field: &Field) -> Value {
    let mut property = match field.kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Integer => json!({ "type": "integer", "minimum": 0 }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::List => json!({ "type": "array", "items": { "type": "string" } }),
    };
    let mut description = field.purpose.join(" ");
    match field.preset {
        Preset::Value(text) => property["default"] = value(text),
        Preset::Derived(_) if field.is_needed() => {}
        Preset::Derived(from) => description.push_str(&format!(" Default: {from}.")),
    }
    property["description"] = json!(description);
    property["examples"] = json!([value(field.example)]);
    property
}

fn value(text: &str) -> Value {
    let read = DeValue::parse(text).expect("FIELDS holds TOML");
    serde_json::to_value(plain(read.get_ref())).expect("TOML of strings, numbers, flags and lists is JSON")
}
