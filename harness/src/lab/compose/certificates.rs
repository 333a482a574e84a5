//! The certificates of a project, a folder for each part that has one: a part sees its own alone.

use std::path::Path;

use crate::lab::config::cluster::service_host;
use crate::lab::topology::Certificates;
use crate::lab::topology::roles::{
    EGRESS_PRINCIPAL, INGRESS_PRINCIPAL, NGINX_PRINCIPAL, WORKLOADS,
};

/// The folder of both CAs' certificates, for clients.
const AUTHORITIES: &str = "authorities";
/// The folder of the certificate that servers outside show, and workloads on their own port for TLS.
pub const SERVERS: &str = "servers";

/// The folders, by the parts that they are for.
pub const CERTIFICATE_FOLDERS: [&str; 8] = [
    "ingress",
    "egress",
    "nginx",
    "shop",
    "orders",
    "console",
    SERVERS,
    AUTHORITIES,
];

/// Writes every folder below `folder`; with certificates that are there already nothing is done, and
/// the answer is false.
///
/// # Errors
/// If a file cannot be written, or only a part of them is there.
pub fn write_certificates(folder: &Path) -> anyhow::Result<bool> {
    // Written last.
    let last = folder.join(SERVERS).join("tls.key");
    if last.exists() {
        return Ok(false);
    }
    let certificates = Certificates::create(folder.join(AUTHORITIES))?;
    for (name, namespace, principal) in [
        ("ingress", "istio-ingress", INGRESS_PRINCIPAL),
        ("egress", "istio-egress", EGRESS_PRINCIPAL),
    ] {
        let service = service_host(namespace, namespace);
        certificates.write_mounted_identity(&folder.join(name), principal, Some(&service))?;
    }
    certificates.write_mounted_server(&folder.join("ingress"))?;
    certificates.write_mounted_identity(&folder.join("nginx"), NGINX_PRINCIPAL, None)?;
    for workload in WORKLOADS {
        let service = service_host(workload.name, workload.namespace);
        let folder = folder.join(workload.name);
        certificates.write_mounted_identity(&folder, &workload.principal(), Some(&service))?;
    }
    certificates.write_mounted_server(&folder.join(SERVERS))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_part_gets_a_folder_once() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write_certificates(folder.path()).unwrap());
        let mut names: Vec<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let mut expected = CERTIFICATE_FOLDERS.map(str::to_owned);
        expected.sort();
        assert_eq!(names, expected);
        let key = fs::read(folder.path().join("shop/key.pem")).unwrap();
        assert!(!write_certificates(folder.path()).unwrap());
        assert_eq!(fs::read(folder.path().join("shop/key.pem")).unwrap(), key);
    }
}
