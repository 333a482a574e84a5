//! The configurations of the project's proxies. Envoy's filters are not in them: they are read from
//! files that follow the policy.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::parts::{CERTIFICATES, FILTERS, MODULES, yaml};
use crate::lab::compose::{
    ADMIN_PORT, HTTP_PORT, INBOUND_PORT, METRICS_PORT, Networks, OUTBOUND_PORT, PASSTHROUGH_PORT,
    TLS_PORT, WORKLOAD_PORT,
};
use crate::lab::config::access_log::AccessLog;
use crate::lab::config::cluster::{Upstream, outbound, service_host};
use crate::lab::config::egress::Egress;
use crate::lab::config::identity::{Credentials, MeshIdentity};
use crate::lab::config::ingress::Ingress;
use crate::lab::config::listener::PeerAuthentication;
use crate::lab::config::passthrough::Passthrough;
use crate::lab::config::routes::Route;
use crate::lab::config::sidecar::{Sidecar, service_route};
use crate::lab::config::wasm::Filters;
use crate::lab::config::{Address, Proxy};
use crate::lab::envoy::Version;
use crate::lab::nginx;
use crate::lab::topology::roles::{CONSOLE, EGRESS_PRINCIPAL, SHOP, WORKLOADS, Workload};
use crate::policy::PolicyFile;

const HEADER: &str = "\
# A proxy of the compose project. Its filters are in the files of the volume `filters`, which the service
# `policy` writes anew when the policy changes.
#
# Rendered by `meridian render compose`.
";

/// `envoy/NAME.yaml` of each proxy.
pub(super) fn render(
    policy: &PolicyFile,
    networks: &Networks,
) -> anyhow::Result<Vec<(String, String)>> {
    let filters = Filters::new(PathBuf::from(MODULES), policy).discovered(FILTERS.into());
    let proxy = |name: &str, namespace: &str, addresses: Vec<Ipv4Addr>| Proxy {
        envoy: Version::NEWEST,
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        identity: identity(),
        filters: Some(filters.clone()),
        access_log: AccessLog::Stdout,
        admin: Some(at(Ipv4Addr::LOCALHOST, ADMIN_PORT)),
        metrics: Some(everywhere(METRICS_PORT)),
        addresses: addresses.into_iter().map(Into::into).collect(),
        bind: None,
    };
    let both = |address: fn(ipnet::Ipv4Net) -> Ipv4Addr| {
        vec![address(networks.inside), address(networks.outside)]
    };
    let inside = &policy.policy.mesh.cidrs;
    let mut bootstraps = vec![
        (
            "ingress",
            ingress(networks).to_config(&proxy(
                "istio-ingress",
                "istio-ingress",
                both(Networks::ingress),
            )),
        ),
        (
            "egress",
            egress(inside).to_config(&proxy(
                "istio-egress",
                "istio-egress",
                both(Networks::egress),
            )),
        ),
    ];
    for workload in WORKLOADS {
        let proxy = proxy(
            workload.name,
            workload.namespace,
            vec![networks.pod(&workload)],
        );
        bootstraps.push((workload.name, sidecar(networks).to_config(&proxy)));
    }
    bootstraps
        .into_iter()
        .map(|(name, bootstrap)| {
            let text = yaml(HEADER, &bootstrap)?;
            Ok((format!("envoy/{name}.yaml"), text))
        })
        .collect()
}

/// NGINX' configuration.
pub(super) fn nginx(networks: &Networks) -> String {
    let location = nginx::mutual_tls(
        &SocketAddr::from((networks.pod(&CONSOLE), INBOUND_PORT)).to_string(),
        &service_host(CONSOLE.name, CONSOLE.namespace),
        &identity(),
        None,
    );
    let listen = HTTP_PORT.to_string();
    nginx::configuration(Path::new("/tmp"), "/dev/stdout", &listen, &location)
}

fn ingress(networks: &Networks) -> Ingress {
    let routes = WORKLOADS.map(|workload| {
        let mut route = Route::new(workload.ingress_domain, service(networks, &workload));
        route.name = workload.name.to_owned();
        route
    });
    let shop = Upstream {
        cluster: outbound(443, &service_host(SHOP.name, SHOP.namespace)),
        endpoint: Some(at(networks.pod(&SHOP), TLS_PORT)),
        principal: None,
    };
    Ingress {
        http: vec![everywhere(HTTP_PORT)],
        https: vec![everywhere(TLS_PORT)],
        public: credentials("tls.crt", "tls.key"),
        routes: routes.into(),
        passthrough: Passthrough {
            addresses: vec![everywhere(PASSTHROUGH_PORT)],
            routes: vec![Route::new("*", shop)],
            plain_tcp: false,
            inside: Vec::new(),
        },
    }
}

fn egress(inside: &[IpNet]) -> Egress {
    let outside = Upstream {
        cluster: "outside".to_owned(),
        endpoint: None,
        principal: None,
    };
    Egress {
        mesh: vec![everywhere(TLS_PORT)],
        authentication: PeerAuthentication::Strict,
        routes: vec![Route::new("*", outside.clone())],
        inside: inside.to_vec(),
        passthrough: Passthrough {
            addresses: vec![everywhere(PASSTHROUGH_PORT)],
            routes: vec![Route::new("*", outside)],
            plain_tcp: false,
            inside: inside.to_vec(),
        },
    }
}

fn sidecar(networks: &Networks) -> Sidecar {
    let services = WORKLOADS.map(|workload| {
        let host = service_host(workload.name, workload.namespace);
        service_route(&host, service(networks, &workload))
    });
    let egress = Upstream {
        cluster: outbound(80, &service_host("istio-egress", "istio-egress")),
        endpoint: Some(at(Networks::egress(networks.inside), TLS_PORT)),
        principal: Some(EGRESS_PRINCIPAL.to_owned()),
    };
    Sidecar {
        inbound: vec![everywhere(INBOUND_PORT)],
        authentication: PeerAuthentication::Permissive,
        workload: at(Ipv4Addr::LOCALHOST, WORKLOAD_PORT),
        outbound: vec![at(Ipv4Addr::LOCALHOST, OUTBOUND_PORT)],
        routes: services
            .into_iter()
            .chain([Route::new("*", egress)])
            .collect(),
    }
}

/// The sidecar of `workload` as others reach it.
fn service(networks: &Networks, workload: &Workload) -> Upstream {
    Upstream::service(
        &service_host(workload.name, workload.namespace),
        at(networks.pod(workload), INBOUND_PORT),
        &workload.principal(),
    )
}

fn identity() -> MeshIdentity {
    MeshIdentity {
        credentials: credentials("cert-chain.pem", "key.pem"),
        ca: Path::new(CERTIFICATES).join("root-cert.pem"),
    }
}

fn credentials(certificate: &str, key: &str) -> Credentials {
    let folder = Path::new(CERTIFICATES);
    Credentials {
        certificate: folder.join(certificate),
        key: folder.join(key),
    }
}

fn everywhere(port: u16) -> Address {
    at(Ipv4Addr::UNSPECIFIED, port)
}

fn at(address: Ipv4Addr, port: u16) -> Address {
    Address::Socket(SocketAddr::from((address, port)))
}
