//! A policy that no object of Kubernetes can hold.

use std::fmt::Write;

use meridian::lab::mesh::roles::INGRESS;

use crate::attached::{Attached, call, file, text_of};

const HOSTS: usize = 1_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_million_hosts_come_inside_the_modules() {
    let Some(_turn) = crate::turn().await else {
        return;
    };
    let envoy = meridian::lab::envoy::obtain_version("1.40.0").unwrap();
    let attached = Attached::start("mesh-million", envoy, "1.32.0").await;
    let text = std::fs::read_to_string(file("policy.yaml")).unwrap();
    let mut hosts = String::with_capacity(HOSTS * 32);
    for number in 0..HOSTS {
        write!(hosts, ", tenant-{number:07}.example.com").unwrap();
    }
    let large = text.replace("[shop.example.com]", &format!("[shop.example.com{hosts}]"));
    assert!(large.len() > HOSTS * 20);
    let policy = attached.folder("million.yaml");
    std::fs::write(&policy, large).unwrap();

    // In the manifests it is refused, with what to do.
    let refused = attached.try_render(&policy, "refused", &[]);
    let said = text_of(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("pack --policy"), "{said}");

    let list = attached.pack(&["--policy", policy.to_str().unwrap()]);
    std::fs::write(attached.modules(), list).unwrap();
    let folder = attached.render(&policy, "million", &[]);
    attached.apply(&folder.join("gateways/public")).await;
    attached.until_in_force(&policy, &[INGRESS]).await;
    for (host, expected) in [
        ("tenant-0000000.example.com", 200),
        ("tenant-0999999.example.com", 200),
        ("tenant-1000000.example.com", 403),
        ("shop.example.com", 200),
        ("intranet.example.com", 403),
    ] {
        let reply = call(&attached.mesh, &INGRESS, host).send().await.unwrap();
        assert_eq!(reply.status, expected, "{host}");
    }
}
