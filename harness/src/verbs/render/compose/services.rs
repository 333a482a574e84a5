//! The services of the project, and what each may use of the machine.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde_json::{Map, Value, json};

use super::parts::{CERTIFICATES, FILTERS, Images, MODULES, POLICY};
use crate::lab::compose::{
    ADMIN_PORT, CERTIFICATE_FOLDERS, GRAFANA_PORT, HTTP_PORT, Networks, OUTBOUND_PORT,
    PROMETHEUS_PORT, SERVERS, TLS_PORT, WORKLOAD_PORT,
};
use crate::lab::topology::roles::{OUTSIDE, SHOP, WORKLOADS, Workload};

pub(super) const HEADER: &str = "\
# A policy at work: see README.md. For `docker compose` and docker-compose 1.29 or later.
#
# Rendered by `meridian render compose`; images, ports and the project's name are in .env.
";

/// Whoever runs Envoy in its official image; files are written and read as this user.
const USER: &str = "101:101";
/// This program in its image.
const PROGRAM: &str = "/meridian";

/// The project. `checkout` is where the image of this program can be built, as seen from the project.
pub(super) fn project(networks: &Networks, checkout: Option<&str>) -> Value {
    let mut services = Map::new();
    let mut add = |name: &str, service: Value| services.insert(name.to_owned(), service);

    // What runs once, before all else.
    let once = |command: Value, volumes: Value| {
        let mut service = program(checkout, command);
        service["network_mode"] = json!("none");
        remove(&mut service, "restart");
        service["volumes"] = volumes;
        service
    };
    let folders = CERTIFICATE_FOLDERS
        .map(|folder| format!("{}:/certificates/{folder}", certificates(folder)));
    add(
        "certificates",
        once(
            json!(["certificates", "--out", "/certificates"]),
            json!(folders),
        ),
    );
    add(
        "modules",
        once(
            json!(["build", "--out", MODULES]),
            json!([format!("modules:{MODULES}")]),
        ),
    );
    let filters = [
        "render",
        "filters",
        "--policy",
        POLICY,
        "--modules",
        MODULES,
        "--out",
        FILTERS,
    ];
    let policy = [
        "./policy:/policy:ro".to_owned(),
        format!("filters:{FILTERS}"),
    ];
    add("filters", once(json!(filters), json!(policy)));

    // Follows the policy.
    let mut watch = program(
        checkout,
        json!(filters.iter().chain(&["--watch"]).collect::<Vec<_>>()),
    );
    watch["network_mode"] = json!("none");
    watch["volumes"] = json!(policy);
    watch["healthcheck"] = health(json!(["CMD", PROGRAM, "check", "--policy", POLICY]));
    watch["depends_on"] = json!({"filters": {"condition": "service_completed_successfully"}});
    add("policy", watch);

    let published = |variable: &str, port: u16, container: u16| {
        json!([format!("127.0.0.1:${{{variable}:-{port}}}:{container}")])
    };
    let mut ingress = envoy("ingress");
    ingress["networks"] = both(networks, Networks::ingress);
    ingress["ports"] = json!([
        format!("127.0.0.1:${{INGRESS_PORT:-8080}}:{HTTP_PORT}"),
        format!("127.0.0.1:${{INGRESS_TLS_PORT:-8443}}:{TLS_PORT}"),
    ]);
    let mut egress = envoy("egress");
    egress["networks"] = both(networks, Networks::egress);
    for workload in WORKLOADS {
        let name = sidecar(&workload);
        let mut service = envoy(workload.name);
        service["networks"] = json!({"inside": {"ipv4_address": networks.pod(&workload)}});
        add(&name, service);
        add(workload.name, pod(checkout, &workload));
        ingress["depends_on"][&name] = healthy();
    }
    for gateway in ["ingress", "egress"] {
        let service = match gateway {
            "ingress" => ingress.take(),
            _ => egress.take(),
        };
        add(gateway, service);
    }

    add("nginx", {
        let mut nginx = hardened("${NGINX_IMAGE}", 128);
        nginx["user"] = json!(USER);
        nginx["entrypoint"] = json!(["nginx", "-e", "stderr", "-c", "/etc/meridian/nginx.conf"]);
        nginx["tmpfs"] = json!(["/tmp:mode=1777,size=16m"]);
        nginx["volumes"] = json!([
            "./nginx:/etc/meridian:ro",
            format!("{}:{CERTIFICATES}:ro", certificates("nginx")),
        ]);
        nginx["networks"] = both(networks, Networks::nginx);
        nginx["ports"] = published("NGINX_PORT", 8081, HTTP_PORT);
        nginx["healthcheck"] = health(json!([
            "CMD",
            "bash",
            "-c",
            format!("exec 3<>/dev/tcp/127.0.0.1/{HTTP_PORT}")
        ]));
        nginx["depends_on"] = json!({
            "certificates": {"condition": "service_completed_successfully"},
            sidecar(&WORKLOADS[2]): healthy(),
        });
        nginx
    });

    for (number, server) in OUTSIDE
        .iter()
        .filter(|server| server.host != "*")
        .enumerate()
    {
        let mut service = program(
            checkout,
            json!([
                "echo",
                "--name",
                server.host,
                "--listen",
                "0.0.0.0:80",
                "--listen-tls",
                "0.0.0.0:443",
                "--certificate",
                format!("{CERTIFICATES}/tls.crt"),
                "--key",
                format!("{CERTIFICATES}/tls.key"),
            ]),
        );
        service["sysctls"] = json!({"net.ipv4.ip_unprivileged_port_start": "0"});
        service["volumes"] = json!([format!("{}:{CERTIFICATES}:ro", certificates(SERVERS))]);
        service["networks"] = json!({"outside": {
            "ipv4_address": networks.server(number),
            "aliases": [server.host],
        }});
        service["healthcheck"] = probe(80);
        service["depends_on"] =
            json!({"certificates": {"condition": "service_completed_successfully"}});
        add(server.host, service);
    }

    add("prometheus", {
        let mut prometheus = hardened("${PROMETHEUS_IMAGE}", 512);
        prometheus["user"] = json!("65534:65534");
        prometheus["command"] = json!([
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
            "--storage.tsdb.retention.time=1d",
        ]);
        prometheus["tmpfs"] = json!(["/prometheus:uid=65534,gid=65534,mode=0700,size=256m"]);
        prometheus["volumes"] = json!(["./prometheus:/etc/prometheus:ro"]);
        prometheus["networks"] = json!({
            "inside": {"ipv4_address": Networks::prometheus(networks.inside)},
            "monitoring": {"ipv4_address": Networks::prometheus(networks.monitoring)},
        });
        prometheus["ports"] = published("PROMETHEUS_PORT", PROMETHEUS_PORT, PROMETHEUS_PORT);
        prometheus["healthcheck"] = health(json!([
            "CMD",
            "promtool",
            "query",
            "instant",
            format!("http://127.0.0.1:{PROMETHEUS_PORT}"),
            "vector(1)",
        ]));
        prometheus
    });
    add("grafana", {
        let mut grafana = hardened("${GRAFANA_IMAGE}", 512);
        grafana["user"] = json!("472");
        grafana["environment"] = json!({
            "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_AUTH_ANONYMOUS_ENABLED": "true",
            "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
            "GF_AUTH_BASIC_ENABLED": "false",
            "GF_AUTH_DISABLE_LOGIN_FORM": "true",
            "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": "/var/lib/meridian/dashboards/meridian-dashboard.json",
            "GF_LOG_MODE": "console",
            "GF_PLUGINS_PREINSTALL_DISABLED": "true",
        });
        grafana["tmpfs"] = json!([
            "/var/lib/grafana:uid=472,gid=0,mode=0700,size=256m",
            "/tmp:mode=1777,size=64m",
        ]);
        grafana["volumes"] = json!([
            "./grafana/provisioning:/etc/grafana/provisioning:ro",
            "./grafana/dashboards:/var/lib/meridian/dashboards:ro",
        ]);
        grafana["networks"] = json!(["monitoring"]);
        grafana["ports"] = published("GRAFANA_PORT", GRAFANA_PORT, GRAFANA_PORT);
        grafana["healthcheck"] = health(json!([
            "CMD",
            "curl",
            "-fsS",
            "-o",
            "/dev/null",
            format!("http://127.0.0.1:{GRAFANA_PORT}/api/health"),
        ]));
        grafana["depends_on"] = json!({"prometheus": healthy()});
        grafana
    });

    // Not started with the rest.
    add("traffic", {
        let mut traffic = program(
            checkout,
            json!([
                "demo",
                "--compose",
                networks.to_string(),
                "--policy",
                POLICY
            ]),
        );
        traffic["profiles"] = json!(["traffic"]);
        remove(&mut traffic, "restart");
        traffic["volumes"] = json!([
            "./policy:/policy:ro",
            format!("{}:{CERTIFICATES}:ro", certificates("authorities")),
        ]);
        traffic["networks"] = both(networks, Networks::client);
        let mut waits = Map::new();
        for name in ["ingress", "egress", "nginx", "prometheus"] {
            waits.insert(name.to_owned(), healthy());
        }
        for workload in WORKLOADS {
            waits.insert(workload.name.to_owned(), healthy());
        }
        for server in OUTSIDE.iter().filter(|server| server.host != "*") {
            waits.insert(server.host.to_owned(), healthy());
        }
        traffic["depends_on"] = Value::Object(waits);
        traffic
    });

    let mut volumes = Map::new();
    for name in ["modules", "filters"] {
        volumes.insert(name.to_owned(), json!({}));
    }
    for folder in CERTIFICATE_FOLDERS {
        volumes.insert(certificates(folder), json!({}));
    }
    let subnet = |net: Ipv4Net| json!({"ipam": {"config": [{"subnet": net.to_string()}]}});
    let mut inside = subnet(networks.inside);
    inside["internal"] = json!(true);
    json!({
        "services": services,
        "networks": {
            "inside": inside,
            "outside": subnet(networks.outside),
            "monitoring": subnet(networks.monitoring),
        },
        "volumes": volumes,
    })
}

/// `.env`: what one may want to change without rendering again.
pub(super) fn environment(images: &Images) -> String {
    let Images {
        envoy,
        prometheus,
        grafana,
        nginx,
        meridian,
    } = images;
    format!(
        "\
# What docker compose puts into docker-compose.yml; variables of the shell come first.
COMPOSE_PROJECT_NAME=meridian

# Images: a tag, or a digest as in envoyproxy/envoy@sha256:...
MERIDIAN_IMAGE={meridian}
ENVOY_IMAGE={envoy}
NGINX_IMAGE={nginx}
PROMETHEUS_IMAGE={prometheus}
GRAFANA_IMAGE={grafana}
# What MERIDIAN_IMAGE is built with, where this project lies beside a checkout.
RUST_IMAGE=rust:1.95-slim-bookworm

# Ports on the host's loopback address.
INGRESS_PORT=8080
INGRESS_TLS_PORT=8443
NGINX_PORT=8081
PROMETHEUS_PORT={PROMETHEUS_PORT}
GRAFANA_PORT={GRAFANA_PORT}
"
    )
}

fn certificates(folder: &str) -> String {
    format!("certificates-{folder}")
}

fn sidecar(workload: &Workload) -> String {
    format!("{}-sidecar", workload.name)
}

fn healthy() -> Value {
    json!({"condition": "service_healthy"})
}

/// Any container: no root, no capabilities, nothing to write to, and bounds.
fn hardened(image: &str, megabytes: u32) -> Value {
    json!({
        "image": image,
        "read_only": true,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "mem_limit": format!("{megabytes}m"),
        "cpus": 1.0,
        "pids_limit": 256,
        "restart": "unless-stopped",
        "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "2"}},
    })
}

fn remove(service: &mut Value, field: &str) {
    if let Value::Object(fields) = service {
        fields.shift_remove(field);
    }
}

/// A container of this program.
fn program(checkout: Option<&str>, command: Value) -> Value {
    let mut service = hardened("${MERIDIAN_IMAGE}", 128);
    if let Some(context) = checkout {
        service["build"] = json!({
            "context": context,
            "dockerfile": "examples/docker/Dockerfile",
            "target": "meridian",
            "args": {"RUST_IMAGE": "${RUST_IMAGE}"},
        });
    }
    service["user"] = json!(USER);
    service["command"] = command;
    service
}

/// The Envoy of the proxy `name`, whose certificates and configuration have that name.
fn envoy(name: &str) -> Value {
    let mut service = hardened("${ENVOY_IMAGE}", 512);
    service["user"] = json!(USER);
    service["entrypoint"] = json!(["envoy"]);
    service["command"] = json!([
        "--config-path",
        format!("/etc/meridian/{name}.yaml"),
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "warning",
    ]);
    service["volumes"] = json!([
        format!("./envoy/{name}.yaml:/etc/meridian/{name}.yaml:ro"),
        format!("modules:{MODULES}:ro"),
        format!("filters:{FILTERS}:ro"),
        format!("{}:{CERTIFICATES}:ro", certificates(name)),
    ]);
    // The image has no HTTP client, but bash.
    let ask = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{ADMIN_PORT} && printf 'GET /ready HTTP/1.1\\r\\nHost: envoy\\r\\nConnection: close\\r\\n\\r\\n' >&3 && read -r line <&3 && [[ $$line == *' 200 '* ]]"
    );
    service["healthcheck"] = health(json!(["CMD", "bash", "-c", ask]));
    let done = json!({"condition": "service_completed_successfully"});
    service["depends_on"] = json!({"certificates": done, "modules": done, "filters": done});
    service
}

/// A workload in the network of its sidecar: its pod.
fn pod(checkout: Option<&str>, workload: &Workload) -> Value {
    let at = |address: Ipv4Addr, port: u16| format!("{address}:{port}");
    let mut command = vec![
        "echo".to_owned(),
        "--name".to_owned(),
        workload.name.to_owned(),
        "--listen".to_owned(),
        at(Ipv4Addr::LOCALHOST, WORKLOAD_PORT),
        "--outbound".to_owned(),
        at(Ipv4Addr::LOCALHOST, OUTBOUND_PORT),
    ];
    let passed = *workload == SHOP;
    if passed {
        command.extend([
            "--listen-tls".to_owned(),
            at(Ipv4Addr::UNSPECIFIED, TLS_PORT),
            "--certificate".to_owned(),
            format!("{CERTIFICATES}/tls.crt"),
            "--key".to_owned(),
            format!("{CERTIFICATES}/tls.key"),
        ]);
    }
    let mut service = program(checkout, json!(command));
    if passed {
        service["volumes"] = json!([format!("{}:{CERTIFICATES}:ro", certificates(SERVERS))]);
    }
    let name = sidecar(workload);
    service["network_mode"] = json!(format!("service:{name}"));
    service["healthcheck"] = probe(WORKLOAD_PORT);
    service["depends_on"] = json!({ name: healthy() });
    service
}

fn both(networks: &Networks, address: fn(Ipv4Net) -> Ipv4Addr) -> Value {
    json!({
        "inside": {"ipv4_address": address(networks.inside)},
        "outside": {"ipv4_address": address(networks.outside)},
    })
}

fn probe(port: u16) -> Value {
    let address = format!("127.0.0.1:{port}");
    health(json!(["CMD", PROGRAM, "echo", "--probe", address]))
}

fn health(test: Value) -> Value {
    json!({
        "test": test,
        "interval": "2s",
        "timeout": "5s",
        "retries": 30,
    })
}
