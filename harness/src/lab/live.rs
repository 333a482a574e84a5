//! Filters in files that running Envoys discover, and another policy for them.

use std::path::PathBuf;

use anyhow::bail;
use ipnet::IpNet;
use meridian_policy::Tags;

use crate::lab::config::wasm::Filters;
use crate::lab::paths;
use crate::policy::PolicyFile;

/// The files of [`Filters::resources`] in a folder, as one policy has them.
#[derive(Debug)]
pub struct Live {
    folder: PathBuf,
    modules: PathBuf,
    /// What of the policy stands in the static configuration of the Envoys, too.
    tags: Tags,
    cidrs: Vec<IpNet>,
    /// See [`Filters::resources`].
    update: u8,
}

impl Live {
    /// Writes the filters of `policy` into `folder`. `modules` is the folder of the modules as the Envoys
    /// see it.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn start(policy: &PolicyFile, modules: PathBuf, folder: PathBuf) -> anyhow::Result<Self> {
        let live = Self::of(policy, modules, folder);
        live.write(policy)?;
        Ok(live)
    }

    /// The filters of `policy` that are in `folder` already.
    pub fn of(policy: &PolicyFile, modules: PathBuf, folder: PathBuf) -> Self {
        Self {
            folder,
            modules,
            tags: policy.policy.tags.clone(),
            cidrs: policy.policy.mesh.cidrs.clone(),
            update: 0,
        }
    }

    /// Gives the Envoys the filters of another policy.
    ///
    /// # Errors
    /// If the policy differs where the Envoys' static configuration does; if a file cannot be written.
    pub fn renew(&mut self, policy: &PolicyFile) -> anyhow::Result<()> {
        if policy.policy.tags != self.tags {
            bail!(
                "tags: differs from the policy that this was started with, and the proxies' access logs \
                 and routes are made from it: start again to change it"
            );
        }
        if policy.policy.mesh.cidrs != self.cidrs {
            bail!(
                "mesh.cidrs: differs from the policy that this was started with, and the egress gateway \
                 keeps names from leading there: start again to change it"
            );
        }
        self.update = self.update.wrapping_add(1);
        self.write(policy)
    }

    fn write(&self, policy: &PolicyFile) -> anyhow::Result<()> {
        for (name, text) in Filters::new(self.modules.clone(), policy).resources(self.update) {
            paths::write_atomically(&self.folder.join(name), text.as_bytes())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> PolicyFile {
        PolicyFile::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_change_of_what_is_static_is_refused_and_changes_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let first = policy("mesh: {cidrs: [10.0.0.0/8]}\n");
        let mut live = Live::start(&first, "/modules".into(), folder.path().into()).unwrap();
        let read = || std::fs::read_to_string(folder.path().join("egress.json")).unwrap();
        let before = read();
        for (text, field) in [
            ("mesh: {cidrs: [10.0.0.0/9]}\n", "mesh.cidrs"),
            (
                "mesh: {cidrs: [10.0.0.0/8]}\ntags: {directionHeader: x-way}\n",
                "tags",
            ),
        ] {
            let error = live.renew(&policy(text)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{field}: ")), "{error}");
            assert_eq!(read(), before);
        }
        let next = "mesh: {cidrs: [10.0.0.0/8]}\nhosts: {egress: {default: allow}}\n";
        live.renew(&policy(next)).unwrap();
        assert_ne!(read(), before);
    }
}
