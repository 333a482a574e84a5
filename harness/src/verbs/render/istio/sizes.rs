//! What Kubernetes takes: etcd refuses a request of more than 1.5 MiB, the API server one of 3 MB.

use anyhow::bail;
use serde_json::Value;

/// The largest object in bytes: etcd's limit, less what the API server adds (its own fields, and who
/// manages which).
pub(super) const LARGEST: usize = 1_500_000;

/// Refuses an object that etcd would refuse. It is measured as it is kept there, in compact JSON.
///
/// # Errors
/// Its size, and what to do.
pub(super) fn check(path: &str, object: &Value) -> anyhow::Result<()> {
    let size = object.to_string().len();
    if size > LARGEST {
        bail!(
            "{path} would be an object of {size} bytes, and etcd takes none over 1.5 MiB, here {LARGEST}; \
             put the policy into the modules: `meridian pack --policy FILE --push REGISTRY/REPO --json > \
             modules.json`, then render with `--modules modules.json`"
        );
    }
    Ok(())
}
