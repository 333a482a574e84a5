//! `meridian render envoy`: a static configuration for each kind of Envoy in a mesh.
//!
//! They stand on the same roles as the local topology, so what is rendered is what is tested. They
//! make one connected example: ingress gateway to sidecar to workload, and workload to sidecar to
//! egress gateway to the outside.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use ipnet::IpNet;
use meridian_policy::Principal;
use serde_json::Value;

use crate::lab::config::access_log::{AccessLog, spans_lack};
use crate::lab::config::cluster::{Upstream, outbound};
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
use crate::policy::PolicyFile;
use crate::text::wrap::wrap;

/// The folder of the modules, where nothing else is said.
pub const DEFAULT_MODULES: &str = "/etc/meridian";
/// The width of the headers.
const HEADER_WIDTH: usize = 98;
/// The folder of the certificates in every configuration.
pub const CERTIFICATES: &str = "/etc/certs";

/// The port of Envoy's admin, on the loopback address alone.
pub const ADMIN_PORT: u16 = 15000;
/// The ingress gateway's port for HTTP.
pub const INGRESS_HTTP_PORT: u16 = 8080;
/// The ingress gateway's port for HTTPS.
pub const INGRESS_HTTPS_PORT: u16 = 8443;
/// A gateway's port for TLS that passes on unread.
pub const PASSTHROUGH_PORT: u16 = 15443;
/// The egress gateway's port for mutual TLS.
pub const EGRESS_PORT: u16 = 8443;
/// A sidecar's port for requests to its workload.
pub const INBOUND_PORT: u16 = 15006;
/// A sidecar's port for requests of its workload, on the loopback address alone.
pub const OUTBOUND_PORT: u16 = 15001;
/// The workload's own port for TLS, which passes its sidecar unread.
pub const WORKLOAD_TLS_PORT: u16 = 8443;
/// The workload's own port, on the loopback address.
pub const WORKLOAD_PORT: u16 = 8080;

/// What a rendering depends on beside the policy.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder of the modules as Envoy sees it.
    pub modules: PathBuf,
    /// The Envoy that the files are for. What an old one cannot do is left out, and the files say so.
    pub envoy: Version,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            modules: PathBuf::from(DEFAULT_MODULES),
            envoy: Version::NEWEST,
        }
    }
}

/// The files and their names: `ingress.yaml`, `egress.yaml` and `sidecar.yaml`.
///
/// Equal arguments give equal files. Each filter gets what it reads of the policy.
///
/// # Errors
/// If the service of its egress gateway has no name.
pub fn render(policy: &PolicyFile, options: &Options) -> anyhow::Result<Vec<(String, String)>> {
    let mesh = Names::of(policy)?;
    let filters = Filters::indented(options.modules.clone(), policy);
    let proxy = |name: &str, namespace: &str| Proxy {
        envoy: options.envoy,
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        identity: MeshIdentity {
            credentials: credentials("cert-chain.pem", "key.pem"),
            ca: Path::new(CERTIFICATES).join("root-cert.pem"),
        },
        filters: Some(filters.clone()),
        access_log: AccessLog::Stdout,
        admin: Some(local(ADMIN_PORT)),
        addresses: Vec::new(),
        metrics: None,
        bind: None,
    };
    let egress = mesh.egress();
    let passed = egress.passthrough.lacks(options.envoy);
    let files = [
        (
            "ingress.yaml",
            vec![INGRESS_HEADER],
            mesh.ingress()
                .to_config(&proxy("istio-ingress", "istio-ingress")),
        ),
        (
            "egress.yaml",
            vec![
                EGRESS_HEADER,
                passed.unwrap_or(EGRESS_PASSTHROUGH),
                EGRESS_NAMES,
            ],
            egress.to_config(&proxy("istio-egress", "istio-egress")),
        ),
        (
            "sidecar.yaml",
            vec![SIDECAR_HEADER],
            mesh.sidecar().to_config(&proxy("app", "default")),
        ),
    ];
    let since = format!("For Envoy {} and later.", options.envoy.oldest_alike());
    let spans = spans_lack(options.envoy, filters.tags());
    files
        .into_iter()
        .map(|(name, mut header, bootstrap)| {
            header.extend(spans);
            header.extend([since.as_str(), COMMON_HEADER]);
            let paragraphs: Vec<&str> = header.into_iter().map(str::trim_end).collect();
            let header = wrap(&paragraphs.join("\n\n"), HEADER_WIDTH);
            Ok((name.to_owned(), annotate(&header, &bootstrap)?))
        })
        .collect()
}

/// What files with these options lack, a sentence each.
///
/// # Errors
/// As [`render`].
pub fn left_out(policy: &PolicyFile, options: &Options) -> anyhow::Result<Vec<&'static str>> {
    let passthrough = Names::of(policy)?.egress().passthrough;
    let mut left_out = Vec::from_iter(spans_lack(options.envoy, &policy.policy.tags));
    left_out.extend(passthrough.lacks(options.envoy));
    Ok(left_out)
}

/// Names that the policy gives to the example's parts.
struct Names {
    service_domain: String,
    trust_domain: String,
    egress_principal: String,
    egress_host: String,
    inside: Vec<IpNet>,
}

impl Names {
    fn of(file: &PolicyFile) -> anyhow::Result<Self> {
        let mesh = &file.policy.mesh;
        let trust_domain = mesh.trust_domains.first();
        let trust_domain = trust_domain.map_or("cluster.local", String::as_str);
        let egress_principal = match mesh.egress_gateways.first() {
            Some(gateway) => gateway.principal.clone(),
            None => {
                let text = format!("{trust_domain}/ns/istio-egress/sa/istio-egress");
                Principal::parse(&text).with_context(|| format!("`{text}` is no identity"))?
            }
        };
        let egress_host = match file.written().egress_gateway_hosts(0).texts().next() {
            Some(text) => text.to_owned(),
            None => {
                let service = mesh.gateway_service(&egress_principal);
                let service = service.with_context(|| {
                    format!("the service of `{egress_principal}` has no name; write its `hosts`")
                })?;
                service.as_str().to_owned()
            }
        };
        Ok(Self {
            service_domain: mesh.service_domain.as_str().to_owned(),
            trust_domain: trust_domain.to_owned(),
            egress_principal: egress_principal.to_string(),
            egress_host,
            inside: mesh.cidrs.clone(),
        })
    }

    fn app(&self) -> (String, Upstream) {
        let host = format!("app.default.svc.{}", self.service_domain);
        let principal = format!("{}/ns/default/sa/app", self.trust_domain);
        let endpoint = Address::Name(host.clone(), INBOUND_PORT);
        let upstream = Upstream::service(&host, endpoint, &principal);
        (host, upstream)
    }

    fn ingress(&self) -> Ingress {
        Ingress {
            http: vec![everywhere(INGRESS_HTTP_PORT)],
            https: vec![everywhere(INGRESS_HTTPS_PORT)],
            public: credentials("tls.crt", "tls.key"),
            routes: vec![Route::new("*", self.app().1)],
            passthrough: Passthrough {
                addresses: vec![everywhere(PASSTHROUGH_PORT)],
                routes: vec![Route::new(
                    "*",
                    Upstream {
                        cluster: outbound(443, &self.app().0),
                        endpoint: Some(Address::Name(self.app().0, WORKLOAD_TLS_PORT)),
                        principal: None,
                    },
                )],
                plain_tcp: false,
                inside: Vec::new(),
            },
        }
    }

    fn egress(&self) -> Egress {
        let outside = Upstream {
            cluster: "outside".to_owned(),
            endpoint: None,
            principal: None,
        };
        Egress {
            mesh: vec![everywhere(EGRESS_PORT)],
            authentication: PeerAuthentication::Strict,
            routes: vec![Route::new("*", outside.clone())],
            inside: self.inside.clone(),
            passthrough: Passthrough {
                addresses: vec![everywhere(PASSTHROUGH_PORT)],
                routes: vec![Route::new("*", outside)],
                plain_tcp: false,
                inside: self.inside.clone(),
            },
        }
    }

    fn sidecar(&self) -> Sidecar {
        let (app_host, app) = self.app();
        let egress = Upstream {
            cluster: outbound(80, &self.egress_host),
            endpoint: Some(Address::Name(self.egress_host.clone(), EGRESS_PORT)),
            principal: Some(self.egress_principal.clone()),
        };
        Sidecar {
            inbound: vec![everywhere(INBOUND_PORT)],
            authentication: PeerAuthentication::Permissive,
            workload: local(WORKLOAD_PORT),
            outbound: vec![local(OUTBOUND_PORT)],
            routes: vec![service_route(&app_host, app), Route::new("*", egress)],
        }
    }
}

fn everywhere(port: u16) -> Address {
    Address::Socket(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
}

fn local(port: u16) -> Address {
    Address::Socket(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

fn credentials(certificate: &str, key: &str) -> Credentials {
    let folder = Path::new(CERTIFICATES);
    Credentials {
        certificate: folder.join(certificate),
        key: folder.join(key),
    }
}

const INGRESS_HEADER: &str = "\
Envoy as the ingress gateway of a mesh, with Meridian's ingress filter.

Listens on 8080 (HTTP) and 8443 (HTTPS); both send every host that the policy allows to the
service app.default. HTTPS shows /etc/certs/tls.crt (key: tls.key) and takes, but does not ask
for, a client certificate of the mesh. On 15443 TLS passes unread, by its server name, to the
service's own TLS on port 8443.

To change: the virtual hosts and clusters, from `app` to your services.
";
const EGRESS_HEADER: &str = "\
Envoy as the egress gateway of a mesh, with Meridian's egress filter.

Listens on 8443 for sidecars, by mutual TLS alone, and sends each request that the policy allows
to the host that it names, on port 80 unless the host says otherwise.
";
const EGRESS_NAMES: &str = "\
Names are resolved here: an allowed name that its owner lets resolve to an inside address leads
inside. Keep this gateway's network from reaching what it must not.

To change: the virtual hosts and clusters, if outside hosts are reached in another way.
";
const EGRESS_PASSTHROUGH: &str = "\
On 15443 TLS passes unread to the host of its server name, on port 443. Whoever reaches that port
may use it: it sees no identity, so let a NetworkPolicy say who that is.
";
const SIDECAR_HEADER: &str = "\
Envoy as the sidecar of the workload `app` in the namespace `default`, with Meridian's sidecar
filter before and behind it.

Inbound, 15006: by mutual TLS from the mesh, in plaintext from callers without identity; to the
workload on 127.0.0.1:8080. Outbound, 127.0.0.1:15001: to the services of the mesh by name, all
else to the egress gateway. The workload uses it as its HTTP proxy, or iptables redirect to it.

To change: the node's id, cluster and NAMESPACE (the filter reads it), the workload's port, and a
virtual host and a cluster for each further service.
";
const COMMON_HEADER: &str = "\
Files it needs: the modules of `meridian build` in the folder that `code.local.filename` names;
in /etc/certs the mesh identity of this Envoy, cert-chain.pem with key.pem, and the mesh's CA,
root-cert.pem.

Rendered by `meridian render envoy` from a policy, of which each filter has what it reads as
`configuration.value`: edit the policy and render again.
";

/// What stands above some lines of every file that has them: the line, less its indentation, and
/// the comment.
const NOTES: [(&str, &str); 15] = [
    (
        "stats_tags:",
        "The labels of the filters' metrics, which stand in the stats' names.",
    ),
    (
        "- name: meridian.look-alikes",
        "Frameworks that read X_Traffic_Direction as X-Traffic-Direction would believe a forged tag.",
    ),
    (
        "use_remote_address: true",
        "The source is the connection's, and is appended to x-forwarded-for.",
    ),
    (
        "xff_num_trusted_hops: 4294967295",
        "More hops than any x-forwarded-for has: it never names the source.",
    ),
    ("- name: meridian", "The policy filter."),
    (
        "failure_policy: FAIL_RELOAD",
        "After a crash of the module: 503, or an end, until it is loaded again, never an open door.",
    ),
    (
        "- name: envoy.filters.http.dynamic_forward_proxy",
        "Resolves names, so it stands behind the policy filter.",
    ),
    (
        "- name: envoy.filters.network.sni_dynamic_forward_proxy",
        "Resolves the server name, so it stands behind the policy filter.",
    ),
    (
        "details: '%FILTER_STATE(wasm.meridian_details:PLAIN)%'",
        "A connection has no response code details.",
    ),
    (
        "json_format:",
        "`details` names the rule of a refusal, as in meridian_deny{RULE}.",
    ),
    (
        "match_typed_subject_alt_names:",
        "The one workload that may answer here.",
    ),
    ("require_client_certificate: true", "Mutual TLS."),
    (
        "circuit_breakers:",
        "Never open: Envoy's own limits, such as 3 retries at once, fail a burst that is allowed.",
    ),
    (
        "retry_policy:",
        "What the next hop has not looked at is sent again.",
    ),
    (
        "connect_matcher: {}",
        "CONNECT has no path; the policy decides on it as on any request.",
    ),
];

/// The bootstrap as YAML under its header, with the notes.
fn annotate(header: &str, bootstrap: &Value) -> anyhow::Result<String> {
    let mut text: String = header
        .lines()
        .map(|line| format!("# {line}").trim_end().to_owned() + "\n")
        .collect();
    for line in yaml_serde::to_string(bootstrap)?.lines() {
        let content = line.trim_start();
        if let Some((_, comment)) = NOTES.iter().find(|(noted, _)| *noted == content) {
            let indentation = line.len() - content.len();
            text.push_str(&format!("{:indentation$}# {comment}\n", ""));
        }
        text.push_str(line);
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn files(policy: &Value) -> Vec<(String, String)> {
        let policy = PolicyFile::parse(policy.to_string().as_bytes()).unwrap();
        render(&policy, &Options::default()).unwrap()
    }

    #[test]
    fn the_policy_and_every_name_survive_the_rendering() {
        let policy = json!({"mesh": {"serviceDomain": "corp.internal", "gateways": {"egress": [
            {"principal": "corp/ns/edge/sa/exit"}]}}, "deny": {"body": "no\nentry\n"}});
        for (name, text) in files(&policy) {
            let config: Value = yaml_serde::from_str(&text).unwrap();
            let chain = &config["static_resources"]["listeners"][0]["filter_chains"][0];
            let manager = &chain["filters"][0]["typed_config"];
            let filter = &manager["http_filters"][0];
            assert_eq!(filter["name"], "meridian", "{name}");
            let inlined = &filter["typed_config"]["config"]["configuration"]["value"];
            let inlined: Value = serde_json::from_str(inlined.as_str().unwrap()).unwrap();
            assert_eq!(inlined["deny"], policy["deny"], "{name}");
        }
        let sidecar = &files(&policy)[2].1;
        assert!(sidecar.contains("outbound|80||exit.edge.svc.corp.internal"));
        assert!(sidecar.contains("spiffe://corp/ns/edge/sa/exit"));
    }

    #[test]
    fn the_names_of_the_mesh_are_those_that_the_filters_know() {
        let policy = json!({"mesh": {
            "serviceDomain": "Corp.internal.",
            "trustDomains": [],
            "cidrs": ["10.1.2.3", "fd00::1", "10.8.0.0/16"],
            "gateways": {"egress": [
                {"principal": "spiffe://corp/ns/edge/sa/exit-service-account"},
            ]},
        }});
        let [_, (_, egress), (_, sidecar)] = &files(&policy)[..] else {
            panic!("three files");
        };
        assert!(sidecar.contains("outbound|80||exit.edge.svc.corp.internal\n"));
        assert!(sidecar.contains("spiffe://corp/ns/edge/sa/exit-service-account\n"));
        assert!(sidecar.contains("spiffe://cluster.local/ns/default/sa/app\n"));
        let egress: Value = yaml_serde::from_str(egress).unwrap();
        let egress = egress.to_string();
        for (address, length) in [("10.1.2.3", 32), ("fd00::1", 128), ("10.8.0.0", 16)] {
            let prefix = json!({"address_prefix": address, "prefix_len": length});
            assert!(egress.contains(&prefix.to_string()), "{prefix} in {egress}");
        }

        let named = json!({"mesh": {"gateways": {"egress": [
            {"principal": "corp/ns/edge/sa/exit", "hosts": ["way-out.edge", "exit.edge"]}]}}});
        let (_, sidecar) = &files(&named)[2];
        assert!(sidecar.contains("outbound|80||way-out.edge\n"));
        let (_, sidecar) = &files(&json!({}))[2];
        assert!(sidecar.contains("outbound|80||istio-egress.istio-egress.svc.cluster.local\n"));
    }

    #[test]
    fn every_note_has_a_line_to_stand_above() {
        let all: String = files(&json!({}))
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        for (line, comment) in NOTES {
            assert!(all.contains(&format!("# {comment}\n")), "no line `{line}`");
        }
    }
}
