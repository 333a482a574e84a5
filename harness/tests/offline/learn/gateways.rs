//! Logs of one of several gateways.

use serde_json::json;

use super::{World, refused};

const POLICY: &str = "\
mesh:
  gateways:
    ingress:
    - {name: public, principal: cluster.local/ns/edge/sa/public, filtered: true}
    - {name: internal, principal: cluster.local/ns/edge/sa/internal, filtered: true}
hosts:
  ingress:
    rules:
    - {name: admin, hosts: [admin.example.com], action: allow, gateways: [internal]}
    - {name: no-ops, hosts: [ops.example.com], action: deny, gateways: [internal]}
";

fn world() -> World {
    let requests = ["admin.example.com", "ops.example.com", "new.example.com"];
    let twice = requests.iter().chain(&requests);
    let mut log: Vec<_> = twice.map(|host| refused("ingress", host, None)).collect();
    let egress = refused("egress", "api.partner.example", None);
    log.extend([egress.clone(), egress]);
    let world = World::new(&log);
    world.write("policy.yaml", POLICY);
    world
}

#[test]
fn the_gateway_is_asked_for_and_rules_are_for_it_alone() {
    let world = world();
    let learn = ["learn", "--policy", "policy.yaml", "access.log"];
    let output = world.meridian(&learn);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    let missing = "--gateway is missing, and rules of hosts.ingress name gateways; write one of public, internal";
    assert!(error.contains(missing), "{error}");

    let of = |gateway| ["--policy", "policy.yaml", "--gateway", gateway];
    // The rules of the other gateway neither allow nor deny here, and egress is another vantage.
    let all = ["admin.example.com", "new.example.com", "ops.example.com"];
    let all: Vec<_> = all.iter().map(|host| json!(["ingress", host])).collect();
    assert_eq!(world.patterns(&of("public")), all);
    let internal = of("internal");
    assert_eq!(
        world.patterns(&internal),
        [json!(["ingress", "new.example.com"])]
    );
    assert_eq!(
        world.suspicious(&internal),
        [json!(["ops.example.com", "denied-by-rule"])]
    );

    let (diff, _) = world.learn(&[&of("public")[..], &["--format", "diff"]].concat());
    world.patch(&diff);
    world.check("policy.yaml");
    for (gateway, decision, rule) in [
        ("public", json!("allow"), json!("learned-example-com")),
        ("internal", json!("deny"), json!(null)),
    ] {
        let explained = world.explain("ingress", "new.example.com", &["--gateway", gateway]);
        assert_eq!(explained, (decision, rule), "{gateway}\n{diff}");
    }
}

#[test]
fn a_gateway_that_is_not_there_is_told() {
    let world = world();
    for (arguments, expected) in [
        (
            &["--gateway", "Public"][..],
            "--gateway \"Public\" is the name of no ingress gateway; write one of public, internal. It is the name of no egress gateway",
        ),
        (
            &["--gateway", "public", "--at", "egress"],
            "--gateway \"public\" is the name of no egress gateway",
        ),
    ] {
        let learn = ["learn", "--policy", "policy.yaml", "access.log"];
        let output = world.meridian(&[&learn[..], arguments].concat());
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(error.contains(expected), "{error}");
    }
}
