//! What every manifest is made from: the options, the policy and the modules.

use std::collections::BTreeMap;

use anyhow::bail;
use meridian_policy::{Subject, Vantage};
use serde_json::{Value, json};

use super::modules::{Modules, Source};
use super::options::IstioArgs;
use crate::policy::{PolicyFile, revision_text};

/// The priority of every EnvoyFilter and plugin: of several that want to be first the highest is, so
/// that nothing rewrites a request before the policy has decided on it.
pub(super) const PRIORITY: i32 = 10_000;

/// The options, the policy and the modules.
#[derive(Debug)]
pub(super) struct Plan<'p> {
    pub(super) args: &'p IstioArgs,
    pub(super) file: &'p PolicyFile,
    pub(super) modules: Modules,
}

/// A filter with its module and its slice of the policy.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) vantage: Vantage,
    pub(super) subject: Subject,
    pub(super) source: Source,
    /// `None` where the module holds it.
    pub(super) policy: Option<String>,
}

/// What an object is called, where it stands, and the pods that it is for.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    pub(super) name: String,
    pub(super) namespace: String,
    /// Labels of the pods; none for every pod that the namespace reaches.
    pub(super) labels: BTreeMap<String, String>,
}

impl<'p> Plan<'p> {
    /// Reads the modules' places, and refuses options that do not go together.
    ///
    /// # Errors
    /// What to write instead.
    pub(super) fn new(args: &'p IstioArgs, file: &'p PolicyFile) -> anyhow::Result<Self> {
        args.validate()?;
        let modules = Modules::read(&args.modules, args.digests.as_deref())?;
        if let Some(packed) = modules.policy() {
            let revision = revision_text(file.revision());
            if args.observe {
                bail!(
                    "--observe: the policy is inside the modules; write `mode: dryRun` into its sections, \
                     and `meridian pack --policy` it"
                );
            }
            if packed != revision {
                bail!(
                    "the modules hold the policy of revision {packed}, and this one has {revision}; \
                     `meridian pack --policy` it and render with what that writes"
                );
            }
        }
        Ok(Self {
            args,
            file,
            modules,
        })
    }

    /// The filter at `vantage`, for the gateway of this name.
    ///
    /// # Errors
    /// If there is no module for it.
    pub(super) fn filter(
        &self,
        vantage: Vantage,
        subject: Subject,
        gateway: Option<&str>,
    ) -> anyhow::Result<Filter> {
        // Nothing is measured of a connection's end.
        let is_lean = subject == Subject::Connection || !self.file.policy.metrics.any();
        let policy = match self.modules.policy() {
            Some(_) => None,
            None => Some(self.file.slice(vantage, subject, gateway)),
        };
        Ok(Filter {
            vantage,
            subject,
            source: self.modules.source(vantage, is_lean, gateway)?,
            policy,
        })
    }

    /// The selection of pods with these labels, and with `--select-label`.
    pub(super) fn selection(
        &self,
        name: &str,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> Selection {
        let mut labels = labels.clone();
        labels.extend(self.args.select_label.clone());
        Selection {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            labels,
        }
    }

    /// An object of Istio's with its `spec`.
    pub(super) fn object(
        &self,
        api: &str,
        kind: &str,
        selection: &Selection,
        spec: &Value,
    ) -> Value {
        let mut labels = json!({"app.kubernetes.io/name": "meridian"});
        if let Some(revision) = &self.args.istio_revision {
            labels["istio.io/rev"] = json!(revision);
        }
        json!({
            "apiVersion": api,
            "kind": kind,
            "metadata": {
                "name": selection.name,
                "namespace": selection.namespace,
                "labels": labels,
            },
            "spec": spec,
        })
    }
}
