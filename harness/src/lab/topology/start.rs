//! How a topology comes up: servers, ports and certificates first, then every process at once.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use anyhow::Context;
use serde_json::Value;

use super::certificates::Certificates;
use super::nginx::{Nginx, NginxOptions};
use super::ports::{Doors, Ports};
use super::roles::{self, CONSOLE, OUTSIDE, SHOP, WORKLOADS, Workload};
use super::running::{EgressGateway, FILTERS, IngressGateway, Topology, WorkloadSidecar};
use super::servers::{Arrivals, Server};
use crate::lab::config::Proxy;
use crate::lab::config::access_log::{AccessLog, spans_lack};
use crate::lab::config::cluster::{Upstream, outbound, service_host};
use crate::lab::config::egress::Egress;
use crate::lab::config::ingress::Ingress;
use crate::lab::config::listener::PeerAuthentication;
use crate::lab::config::passthrough::Passthrough;
use crate::lab::config::routes::Route;
use crate::lab::config::sidecar::{Sidecar, service_route};
use crate::lab::config::wasm::Filters;
use crate::lab::envoy::{Envoy, EnvoyOptions, RunFolder, Version};
use crate::lab::{paths, programs};

/// The gateways, and the namespaces that they have to themselves.
const INGRESS: &str = "istio-ingress";
const EGRESS: &str = "istio-egress";

/// What a topology is started with.
#[derive(Debug, Clone)]
pub struct TopologyOptions {
    /// The name of the run, and so of its folder.
    pub run: String,
    /// The Envoy binary.
    pub envoy: PathBuf,
    /// The filters of every Envoy, or `None` for the same topology without any.
    pub filters: Option<Filters>,
    /// True if the Envoys discover the filters from files in [`Topology::filters`], where others can take
    /// their place; else each configuration has its own.
    pub live: bool,
}

impl Topology {
    /// Starts everything and returns once all of it answers.
    ///
    /// # Errors
    /// If a part does not start, say because a filter refuses the policy: the error names the
    /// part, the reason and the run folder, and nothing is left running.
    pub async fn start(options: &TopologyOptions) -> anyhow::Result<Self> {
        let run = RunFolder::create(&options.run)?;
        let folder = run.path().to_path_buf();
        start(run, options).await.with_context(|| {
            format!(
                "the topology did not start; its run is in {}",
                folder.display()
            )
        })
    }
}

/// A sidecar's listeners.
struct SidecarDoors {
    inbound: Doors,
    outbound: Doors,
}

/// What the configuration of each Envoy is made from.
struct Plan<'a> {
    options: &'a TopologyOptions,
    filters: Option<Filters>,
    envoy: Version,
    run: &'a RunFolder,
    certificates: &'a Certificates,
    ingress_http: Doors,
    ingress_https: Doors,
    ingress_tls_passthrough: Doors,
    egress: Doors,
    egress_tls_passthrough: Doors,
    sidecars: BTreeMap<&'static str, SidecarDoors>,
}

async fn start(run: RunFolder, options: &TopologyOptions) -> anyhow::Result<Topology> {
    let certificates = Certificates::create(run.path().join("certificates"))?;
    let arrivals = Arrivals::default();
    let mut workloads = BTreeMap::new();
    let mut outside = BTreeMap::new();
    let tls = certificates.server()?;
    let mut workloads_tls = BTreeMap::new();
    let mut outside_tls = BTreeMap::new();
    for Workload { name, address, .. } in WORKLOADS {
        workloads.insert(name, Server::start(name, address, arrivals.clone()).await?);
        let server = Server::start_tls(name, address, &tls, arrivals.clone()).await?;
        workloads_tls.insert(name, server);
    }
    for roles::OutsideServer { host, address } in OUTSIDE {
        outside.insert(host, Server::start(host, address, arrivals.clone()).await?);
        let server = Server::start_tls(host, address, &tls, arrivals.clone()).await?;
        outside_tls.insert(host, server);
    }

    let mut ports = Ports::default();
    let mut sidecars = BTreeMap::new();
    for Workload { name, address, .. } in WORKLOADS {
        let doors = SidecarDoors {
            inbound: ports.doors(address)?,
            outbound: ports.doors(address)?,
        };
        sidecars.insert(name, doors);
    }
    let envoy = Version::of(&options.envoy)?;
    let tags = options.filters.as_ref().map(Filters::tags);
    if let Some(lack) = tags.and_then(|tags| spans_lack(envoy, tags)) {
        eprintln!("Envoy {envoy}: {lack}");
    }
    let filters = match &options.filters {
        Some(filters) if options.live => {
            let folder = run.path().join(FILTERS);
            for (name, text) in filters.resources(0) {
                paths::write_atomically(&folder.join(name), text.as_bytes())?;
            }
            Some(filters.clone().discovered(folder))
        }
        filters => filters.clone(),
    };
    let plan = Plan {
        options,
        filters,
        envoy,
        run: &run,
        certificates: &certificates,
        ingress_http: ports.doors(roles::INGRESS)?,
        ingress_https: ports.doors(roles::INGRESS)?,
        ingress_tls_passthrough: ports.doors(roles::INGRESS)?,
        egress: ports.doors(roles::EGRESS)?,
        egress_tls_passthrough: ports.doors(roles::EGRESS)?,
        sidecars,
    };

    let [shop, orders, console] = WORKLOADS;
    let nginx = async {
        match programs::find("nginx") {
            Some(program) => {
                let address = ports.port(roles::NGINX)?;
                plan.start_nginx(&program, address).await.map(Some)
            }
            None => Ok(None),
        }
    };
    let (ingress, egress, shop, orders, console, nginx) = tokio::try_join!(
        plan.start_ingress(&workloads_tls[SHOP.name]),
        plan.start_egress(&outside, &outside_tls),
        plan.start_sidecar(shop, &workloads),
        plan.start_sidecar(orders, &workloads),
        plan.start_sidecar(console, &workloads),
        nginx,
    )?;
    let topology = Topology {
        ingress,
        egress,
        sidecars: [shop, orders, console]
            .into_iter()
            .map(|sidecar| (sidecar.workload.name, sidecar))
            .collect(),
        nginx,
        certificates,
        workloads,
        outside,
        _workloads_tls: workloads_tls,
        _outside_tls: outside_tls,
        arrivals,
        _ports: ports,
        run,
    };
    for envoy in topology.envoys() {
        envoy.save_config_dump().await?;
    }
    Ok(topology)
}

impl Plan<'_> {
    async fn start_ingress(&self, shop: &Server) -> anyhow::Result<IngressGateway> {
        let proxy = self.proxy(
            "ingress",
            INGRESS,
            INGRESS,
            roles::INGRESS_PRINCIPAL,
            roles::INGRESS,
        )?;
        let config = Ingress {
            http: self.ingress_http.addresses(),
            https: self.ingress_https.addresses(),
            public: self.certificates.write_public()?,
            routes: WORKLOADS
                .iter()
                .map(|workload| Route::new(workload.ingress_domain, self.service(workload)))
                .collect(),
            passthrough: Passthrough {
                addresses: self.ingress_tls_passthrough.addresses(),
                routes: vec![Route::new(
                    "*",
                    Upstream {
                        cluster: outbound(443, &service_host(SHOP.name, SHOP.namespace)),
                        endpoint: Some(shop.address().into()),
                        principal: None,
                    },
                )],
                plain_tcp: true,
                inside: Vec::new(),
            },
        };
        Ok(IngressGateway {
            envoy: self
                .start_envoy("ingress", &config.to_config(&proxy))
                .await?,
            http: self.ingress_http.clone(),
            https: self.ingress_https.clone(),
            tls_passthrough: self.ingress_tls_passthrough.clone(),
        })
    }

    async fn start_egress(
        &self,
        outside: &BTreeMap<&'static str, Server>,
        outside_tls: &BTreeMap<&'static str, Server>,
    ) -> anyhow::Result<EgressGateway> {
        let proxy = self.proxy(
            "egress",
            EGRESS,
            EGRESS,
            roles::EGRESS_PRINCIPAL,
            roles::EGRESS,
        )?;
        let routes = |port, anywhere: &str, servers: &BTreeMap<&'static str, Server>| {
            let route = |(host, server): (&&'static str, &Server)| {
                let upstream = Upstream {
                    cluster: match *host {
                        "*" => anywhere.to_owned(),
                        host => outbound(port, host),
                    },
                    endpoint: Some(server.address().into()),
                    principal: None,
                };
                Route::new(host, upstream)
            };
            servers.iter().map(route).collect()
        };
        let config = Egress {
            mesh: self.egress.addresses(),
            authentication: PeerAuthentication::Permissive,
            routes: routes(80, "anywhere", outside),
            inside: Vec::new(),
            passthrough: Passthrough {
                addresses: self.egress_tls_passthrough.addresses(),
                routes: routes(443, "anywhere-tls", outside_tls),
                plain_tcp: true,
                inside: Vec::new(),
            },
        };
        Ok(EgressGateway {
            envoy: self
                .start_envoy("egress", &config.to_config(&proxy))
                .await?,
            http: self.egress.clone(),
            tls_passthrough: self.egress_tls_passthrough.clone(),
        })
    }

    async fn start_sidecar(
        &self,
        workload: Workload,
        workloads: &BTreeMap<&'static str, Server>,
    ) -> anyhow::Result<WorkloadSidecar> {
        let Workload {
            name,
            namespace,
            address,
            ..
        } = workload;
        let proxy = self.proxy(name, name, namespace, &workload.principal(), address)?;
        let egress = Upstream::service(
            &service_host(EGRESS, EGRESS),
            self.egress.v4.into(),
            roles::EGRESS_PRINCIPAL,
        );
        let services = WORKLOADS.iter().map(|peer| {
            service_route(&service_host(peer.name, peer.namespace), self.service(peer))
        });
        let SidecarDoors { inbound, outbound } = &self.sidecars[name];
        let config = Sidecar {
            inbound: inbound.addresses(),
            authentication: PeerAuthentication::Permissive,
            workload: workloads[name].address().into(),
            outbound: outbound.addresses(),
            routes: services.chain([Route::new("*", egress)]).collect(),
        };
        Ok(WorkloadSidecar {
            workload,
            envoy: self.start_envoy(name, &config.to_config(&proxy)).await?,
            inbound: inbound.clone(),
            outbound: outbound.clone(),
        })
    }

    async fn start_nginx(
        &self,
        program: &std::path::Path,
        address: std::net::SocketAddr,
    ) -> anyhow::Result<Nginx> {
        let identity = self
            .certificates
            .write_identity("nginx", roles::NGINX_PRINCIPAL, None)?;
        let options = NginxOptions {
            address,
            upstream: self.sidecars[CONSOLE.name].inbound.v4,
            upstream_host: &service_host(CONSOLE.name, CONSOLE.namespace),
            identity: &identity,
            folder: &self.run.path().join("nginx"),
        };
        Nginx::start(program, &options).await
    }

    async fn start_envoy(&self, name: &str, bootstrap: &Value) -> anyhow::Result<Envoy> {
        let filters = self.options.filters.as_ref();
        let options = EnvoyOptions {
            policy_bytes: filters.map_or(0, Filters::policy_bytes),
            ..EnvoyOptions::default()
        };
        Envoy::start(&self.options.envoy, self.run, name, bootstrap, &options).await
    }

    /// The sidecar of `workload` as others reach it.
    fn service(&self, workload: &Workload) -> Upstream {
        Upstream::service(
            &service_host(workload.name, workload.namespace),
            self.sidecars[workload.name].inbound.v4.into(),
            &workload.principal(),
        )
    }

    /// `file` names the certificate and the access log.
    fn proxy(
        &self,
        file: &str,
        name: &str,
        namespace: &str,
        principal: &str,
        address: Ipv4Addr,
    ) -> anyhow::Result<Proxy> {
        let service = service_host(name, namespace);
        Ok(Proxy {
            envoy: self.envoy,
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            identity: self
                .certificates
                .write_identity(file, principal, Some(&service))?,
            filters: self.filters.clone(),
            access_log: AccessLog::File(self.run.path().join(format!("{file}.access.log"))),
            admin: None,
            addresses: vec![address.into(), Ipv6Addr::LOCALHOST.into()],
            metrics: None,
            bind: Some(IpAddr::V4(address)),
        })
    }
}
