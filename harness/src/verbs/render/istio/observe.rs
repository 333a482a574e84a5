//! `--observe`: a policy that refuses nothing, and counts what it would have refused.

use meridian_policy::Vantage;
use serde_json::{Value, json};

use crate::policy::PolicyFile;

/// The policy with every section, invalid hosts and the SNI check in dry run.
///
/// It is another policy, of another revision. A rule that is in dry run itself stays out of what its
/// section would have decided, as it does where that is enforced.
///
/// # Errors
/// Never for a policy that was read: nothing is added that a policy cannot say.
pub(super) fn observed(file: &PolicyFile) -> anyhow::Result<PolicyFile> {
    let mut json = file.json.clone();
    if let Value::Object(fields) = &mut json {
        // The observed policy has its own.
        fields.shift_remove("revision");
    }
    for vantage in Vantage::ALL {
        mapping(&mut json, &["hosts", vantage.as_str()])["mode"] = json!("dryRun");
    }
    mapping(&mut json, &["hosts"])["invalid"] = json!("dryRun");
    let sni = mapping(&mut json, &["sni"]);
    for (field, default) in [("mismatch", "deny"), ("missing", "ignore")] {
        if sni[field].as_str().unwrap_or(default) == "deny" {
            sni[field] = json!("dryRun");
        }
    }
    Ok(PolicyFile::parse(json.to_string().as_bytes())?)
}

/// The mapping at this path, which is made where nothing is written.
fn mapping<'v>(value: &'v mut Value, path: &[&str]) -> &'v mut Value {
    path.iter().fold(value, |value, field| {
        let inner = &mut value[*field];
        if inner.is_null() {
            *inner = json!({});
        }
        inner
    })
}
