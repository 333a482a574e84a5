//! `meridian schema`: the JSON Schema of the policy, for editors.
//!
//! Fields, words and limits come from `meridian-policy`; what is written here is what each field
//! means. The schema lets through all that the reader takes. It cannot tell what only the reader
//! knows, such as a network with bits set behind its prefix.

use std::process::ExitCode;

use clap::Args;
use meridian_policy::fields;
use serde_json::{Map, Value, json};

mod sections;
mod terms;

use sections::{components, deny, hosts, mesh, metrics, rule, sni, tags};

/// Print the JSON Schema of the policy, for editors
#[derive(Debug, Clone, Args)]
pub struct SchemaArgs {}

/// Prints the schema.
///
/// # Errors
/// None; the signature is that of every verb.
pub fn run(_args: &SchemaArgs) -> anyhow::Result<ExitCode> {
    print!("{}", text());
    Ok(ExitCode::SUCCESS)
}

/// The text of the schema, as it is committed beside the sample policy.
pub fn text() -> String {
    format!("{:#}\n", schema())
}

/// The schema, of the draft 2020-12.
pub fn schema() -> Value {
    let root = object(fields::POLICY, &[], |field| {
        Some(match field {
            "mesh" => (
                "What is inside: names, addresses, identities and gateways of the mesh.",
                optional(mesh()),
            ),
            "components" => (
                "Who is a component of the platform; everything else is an application.",
                optional(components()),
            ),
            "hosts" => (
                "Which hosts may be reached, for each vantage point.",
                optional(hosts()),
            ),
            "sni" => (
                "What happens at ingress when TLS was opened for another host than is asked for.",
                optional(sni()),
            ),
            "deny" => ("What a refused client gets.", optional(deny())),
            "tags" => ("Where the tags go.", optional(tags())),
            "metrics" => (
                "What is measured when a request has ended.",
                optional(metrics()),
            ),
            _ => return None,
        })
    });
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Meridian policy",
    });
    merge(&mut schema, root);
    let mut terms = terms::terms();
    terms["rule"] = rule();
    schema["$defs"] = terms;
    schema
}

/// A mapping of these fields, each with its description and its schema. A field without a
/// description takes any value.
fn object(
    fields: &[&str],
    required: &[&str],
    describe: impl Fn(&str) -> Option<(&'static str, Value)>,
) -> Value {
    let properties: Map<String, Value> = fields
        .iter()
        .map(|field| {
            let mut property = json!({});
            if let Some((description, schema)) = describe(field) {
                property["description"] = json!(description);
                merge(&mut property, schema);
            }
            ((*field).to_owned(), property)
        })
        .collect();
    let mut object = json!({"type": "object"});
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object["additionalProperties"] = json!(false);
    object["properties"] = json!(properties);
    object
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

/// The same or `null`: to the reader a field that is null is one that is not there.
fn optional(mut schema: Value) -> Value {
    let Some(keys) = schema.as_object_mut() else {
        return schema;
    };
    if let Some(Value::Array(words)) = keys.get_mut("enum") {
        words.push(Value::Null);
    } else if let Some(of_type @ Value::String(_)) = keys.get_mut("type") {
        *of_type = json!([of_type, "null"]);
    } else {
        return json!({"anyOf": [schema, {"type": "null"}]});
    }
    schema
}

fn reference(term: &str) -> Value {
    json!({"$ref": format!("#/$defs/{term}")})
}

fn list(of: Value) -> Value {
    json!({"type": "array", "items": of})
}

/// A list that limits a rule: one that says nothing is an error.
fn condition(of: Value) -> Value {
    json!({"type": "array", "minItems": 1, "items": of})
}

/// With the value that the reader takes where there is none.
fn or(mut schema: Value, default: Value) -> Value {
    schema["default"] = default;
    schema
}
