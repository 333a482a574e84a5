//! A gateway whose filter comes by discovery from a file, so that it can get another policy and another
//! module while it runs. It answers by itself, with 500 below `/broken`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use meridian::lab::config::wasm::{Filters, module};
use meridian::lab::envoy::{Envoy, EnvoyOptions, RunFolder};
use meridian::lab::paths;
use meridian_policy::Vantage;
use serde_json::{Value, json};
use walrus::ir::{InstrLocId, Unreachable};

pub(crate) struct Gateway {
    pub(crate) envoy: Envoy,
    pub(crate) http: SocketAddr,
    file: PathBuf,
    version: u32,
}

impl Gateway {
    pub(crate) async fn start(
        binary: &Path,
        run: &RunFolder,
        filters: &Filters,
    ) -> anyhow::Result<Self> {
        Self::start_as("gateway", "gateway", binary, run, filters).await
    }

    /// As [`Self::start`], with this name and Istio's name for the node.
    pub(crate) async fn start_as(
        name: &str,
        node: &str,
        binary: &Path,
        run: &RunFolder,
        filters: &Filters,
    ) -> anyhow::Result<Self> {
        let file = run.path().join(format!("{name}.discovered.json"));
        publish(&file, 0, filters)?;
        let options = EnvoyOptions::default();
        let mut bootstrap = bootstrap(&file);
        bootstrap["node"]["id"] = json!(node);
        let envoy = Envoy::start(binary, run, name, &bootstrap, &options).await?;
        let http = envoy.listener_address("http").await?;
        Ok(Self {
            envoy,
            http,
            file,
            version: 0,
        })
    }

    /// Publishes a policy and a module, without waiting for Envoy.
    pub(crate) fn publish(&mut self, filters: &Filters) -> anyhow::Result<()> {
        self.version += 1;
        publish(&self.file, self.version, filters)
    }
}

/// Two gateways that are not as they should be.
pub(crate) struct Odd {
    /// Without the filter.
    pub(crate) bare: Envoy,
    /// Without tags for the labels.
    pub(crate) unlabelled: Envoy,
}

impl Odd {
    pub(crate) async fn start(
        binary: &Path,
        run: &RunFolder,
        filters: &Filters,
    ) -> anyhow::Result<Self> {
        let file = run.path().join("odd.discovered.json");
        publish(&file, 0, filters)?;
        let options = EnvoyOptions::default();
        let mut bare = bootstrap(&file);
        let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
        let chain = bare.pointer_mut(&format!("{manager}/http_filters"));
        chain.and_then(Value::as_array_mut).unwrap().remove(0);
        let mut unlabelled = bootstrap(&file);
        unlabelled.as_object_mut().unwrap().remove("stats_config");
        Ok(Self {
            bare: Envoy::start(binary, run, "bare", &bare, &options).await?,
            unlabelled: Envoy::start(binary, run, "unlabelled", &unlabelled, &options).await?,
        })
    }
}

/// Writes the ingress module into `folder`, changed so that it crashes at every request.
pub(crate) fn write_crashing_module(folder: &Path) -> anyhow::Result<()> {
    for is_lean in [false, true] {
        write_crashing(folder, &module(Vantage::Ingress, is_lean))?;
    }
    Ok(())
}

fn write_crashing(folder: &Path, name: &str) -> anyhow::Result<()> {
    let mut wasm = walrus::Module::from_file(paths::modules_dir()?.join(name))?;
    let callback = wasm.exports.get_func("proxy_on_request_headers")?;
    let body = wasm.funcs.get_mut(callback).kind.unwrap_local_mut();
    let entry = body.entry_block();
    let instructions = &mut body.block_mut(entry).instrs;
    instructions.clear();
    instructions.push((Unreachable {}.into(), InstrLocId::default()));
    wasm.emit_wasm_file(folder.join(name))
}

pub(super) fn publish(file: &Path, version: u32, filters: &Filters) -> anyhow::Result<()> {
    let response = json!({
        "version_info": version.to_string(),
        "resources": [{
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            "name": "meridian.ingress",
            "typed_config": filters.http_filter(Vantage::Ingress)["typed_config"],
        }],
    });
    // Envoy looks at the file when another takes its place.
    paths::write_atomically(file, response.to_string().as_bytes())
}

pub(super) fn bootstrap(file: &Path) -> Value {
    let answer = |prefix: &str, status: u16| json!({"match": {"prefix": prefix}, "direct_response": {"status": status}});
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "use_remote_address": true,
        "http_filters": [
            {
                "name": "meridian.ingress",
                "config_discovery": {
                    "config_source": {
                        "path_config_source": {"path": file},
                        "resource_api_version": "V3",
                    },
                    "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"],
                },
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            },
        ],
        "route_config": {"virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [answer("/broken", 500), answer("/", 200)],
        }]},
    });
    json!({
        "node": {"id": "gateway", "cluster": "gateway"},
        "stats_config": meridian::lab::config::stats::stats_config(),
        "static_resources": {"listeners": [{
            "name": "http",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": manager,
            }]}],
        }]},
    })
}
