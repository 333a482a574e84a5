//! What a mesh's manifests are rendered with, beside the policy.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum, ValueHint};
use meridian_policy::{is_label_key, is_label_value, is_namespace};
use regex::Regex;

/// The namespace whose objects can reach every proxy of the mesh.
pub(super) const ROOT_NAMESPACE: &str = "istio-system";

/// Proxies of Istio 1.30 and later. Their Envoys outlive a first filter that comes while they run;
/// those before 1.38 end with SIGSEGV.
const FILTER_VERSIONS: &str = r"^(1\.([3-9][0-9]|[1-9][0-9]{2,})|[2-9]\.)";
/// Proxies of Istio 1.28 and later: their Envoys know how to remove headers by a match.
const LOOK_ALIKE_VERSIONS: &str = r"^(1\.(2[89]|[3-9][0-9]|[1-9][0-9]{2,})|[2-9]\.)";
/// All proxies.
const ALL_VERSIONS: &str = r"^[1-9]";
/// The minor releases of Istio 1 whose proxies may die of a first filter.
const FRAGILE: std::ops::Range<u32> = 0..30;

/// How the filters are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// EnvoyFilters: any release of Istio, before all other filters
    #[value(name = "envoyfilter")]
    EnvoyFilter,
    /// TrafficExtensions: Istio 1.30 and later
    #[value(name = "trafficextension")]
    TrafficExtension,
    /// WasmPlugins: Istio before 1.30
    #[value(name = "wasmplugin")]
    WasmPlugin,
}

/// The options of `meridian render istio`.
#[derive(Debug, Clone, Args)]
pub struct IstioArgs {
    /// The policy, in YAML or JSON [default: the sample policy]
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Write the folder here; what lies there already is replaced file by file
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: PathBuf,
    /// Where proxies get the modules: what `pack --json` wrote, oci://REGISTRY/REPO,
    /// https://HOST/DIR or file:///DIR
    ///
    /// A FILE of `pack --json` names images by digest. oci:// takes this version's tags, which can
    /// move. https:// is a folder with the modules, and needs --digests. file:// is a folder in the
    /// proxies' own file systems; the folder's `mesh` then has what mounts it.
    #[arg(long, value_name = "WHERE")]
    pub modules: String,
    /// What `build --json` or `pack --json` wrote, for the SHA-256 of each module behind https://
    #[arg(long, value_name = "FILE")]
    pub digests: Option<PathBuf>,
    /// How the filters are attached
    #[arg(long = "as", value_name = "FORM", default_value = "envoyfilter")]
    pub form: Form,
    /// Refuse nothing: count and log what would have been refused. Tags are written all the same
    #[arg(long)]
    pub observe: bool,
    /// Attach only to pods with this label, which belongs into pod templates and never onto running
    /// pods
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_label)]
    pub select_label: Option<(String, String)>,
    /// Attach to the sidecars of this namespace; repeat it for more [default: all of the mesh; for
    /// plugins `mesh.namespaces` of the policy]
    #[arg(long = "namespace", value_name = "NS", value_parser = parse_namespace)]
    pub namespaces: Vec<String>,
    /// Attach to proxies of these versions of Istio [default: 1.30 and later]
    #[arg(long, value_name = "REGEX", value_parser = parse_regex)]
    pub proxy_version: Option<String>,
    /// The control plane's revision, for meshes with several
    #[arg(long, value_name = "REV", value_parser = parse_revision)]
    pub istio_revision: Option<String>,
    /// Attach also to the AUTO_PASSTHROUGH servers of gateways, such as 15443 between clusters
    #[arg(long)]
    pub auto_passthrough: bool,
}

impl IstioArgs {
    /// The regular expression over the proxy's version for filters.
    pub(super) fn filter_versions(&self) -> &str {
        match (&self.proxy_version, self.form) {
            (Some(versions), _) => versions,
            // What goes with a WasmPlugin has to reach every proxy that takes one.
            (None, Form::WasmPlugin) => ALL_VERSIONS,
            (None, Form::EnvoyFilter | Form::TrafficExtension) => FILTER_VERSIONS,
        }
    }

    /// The same for the removal of look-alikes, which needs no module.
    pub(super) fn look_alike_versions(&self) -> &str {
        match (&self.proxy_version, self.form) {
            (None, Form::EnvoyFilter | Form::TrafficExtension) => FILTER_VERSIONS,
            (Some(_), _) | (None, Form::WasmPlugin) => LOOK_ALIKE_VERSIONS,
        }
    }

    /// Refuses what would end running proxies, and what says nothing.
    ///
    /// # Errors
    /// The first such option, and what to write instead.
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        if self.namespaces.iter().any(|name| name == ROOT_NAMESPACE) {
            bail!(
                "--namespace {ROOT_NAMESPACE}: objects there reach the whole mesh; name the namespaces \
                 of workloads{}",
                match self.form {
                    Form::EnvoyFilter => ", or leave --namespace out for all of them",
                    Form::TrafficExtension | Form::WasmPlugin => "",
                }
            );
        }
        if self.select_label.is_some() {
            return Ok(());
        }
        let label = "write --select-label KEY=VALUE and put the label into pod templates, so that pods \
                     take the filter as they are rolled";
        if self.form == Form::WasmPlugin {
            bail!(
                "--as wasmplugin: proxies before Istio 1.30 take WasmPlugins, too, and may die of a \
                 first filter that comes while they run; {label}"
            );
        }
        let Some(versions) = &self.proxy_version else {
            return Ok(());
        };
        let versions = Regex::new(versions).context("--proxy-version")?;
        let fragile = FRAGILE.map(|minor| format!("1.{minor}.0"));
        if let Some(version) = fragile.rev().find(|version| versions.is_match(version)) {
            bail!(
                "--proxy-version matches {version}, whose proxies may die of a first filter that comes \
                 while they run; {label}"
            );
        }
        Ok(())
    }
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if is_label_key(key) && is_label_value(value) && !value.is_empty() => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err(
            "write KEY=VALUE as Kubernetes takes labels, such as meridian=enabled: letters, digits, -, _ \
             and ., at most 63, the first and last a letter or digit"
                .to_owned(),
        ),
    }
}

fn parse_revision(text: &str) -> Result<String, String> {
    match is_namespace(text) && !text.starts_with('-') && !text.ends_with('-') {
        true => Ok(text.to_owned()),
        false => Err("write the name of a revision, such as 1-31: a-z, 0-9 and -".to_owned()),
    }
}

fn parse_namespace(text: &str) -> Result<String, String> {
    match is_namespace(text) {
        true => Ok(text.to_owned()),
        false => Err("write the name of a namespace: a-z, 0-9 and -, at most 63".to_owned()),
    }
}

fn parse_regex(text: &str) -> Result<String, String> {
    match Regex::new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
