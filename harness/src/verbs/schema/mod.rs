//! `meridian schema`: the JSON Schema of the policy, for editors.
//!
//! Fields, words and limits come from `meridian-policy`; what is written here is what each field
//! means. The schema lets through all that the reader takes. It cannot tell what only the reader
//! knows, such as a network with bits set behind its prefix.

use std::process::ExitCode;

use clap::Args;
use meridian_policy::fields;
use serde_json::{Value, json};

mod keywords;
mod sections;
mod terms;

use keywords::{merge, object, optional};
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
            "revision" => (
                "The revision of the policy that this is a part of, as it is rendered for one filter; not for people to write.",
                optional(json!({
                    "type": "string",
                    "pattern": format!("^[0-9a-f]{{{}}}$", fields::REVISION_DIGITS),
                })),
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
