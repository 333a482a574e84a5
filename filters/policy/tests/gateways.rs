//! Gateways by name, as the command line reads them, and as a filter does.

#![cfg(not(target_arch = "wasm32"))]

use meridian_policy::{ConfigError, Document, Policy, Vantage};

const POLICY: &str = r#"{
    "mesh": {"gateways": {
        "ingress": [
            {"name": "public", "principal": "cluster.local/ns/edge/sa/public", "namespace": "pods",
             "labels": {"istio": "ingress", "gateway.networking.k8s.io/gateway-name": "Public_1.a"}},
            {"principal": "cluster.local/ns/edge/sa/nginx"}],
        "egress": [{"name": "exit", "principal": "cluster.local/ns/edge/sa/exit"}]}},
    "hosts": {
        "ingress": {"rules": [
            {"name": "all", "hosts": ["a.example"], "action": "allow"},
            {"name": "some", "hosts": ["b.example"], "action": "allow", "gateways": ["public"]}]},
        "egress": {"rules": [
            {"name": "out", "hosts": ["a.example"], "action": "allow", "gateways": ["exit"]}]}}}"#;

fn read(json: &str) -> Result<Policy, Vec<ConfigError>> {
    Policy::from_document(&Document::from_json(json.as_bytes()).unwrap())
}

#[test]
fn the_command_line_knows_names_places_and_labels() {
    let policy = read(POLICY).unwrap();
    let [public, nginx] = policy.mesh.gateways(Vantage::Ingress) else {
        panic!("{:?}", policy.mesh);
    };
    assert_eq!(public.name.as_deref(), Some("public"));
    assert_eq!(public.namespace.as_deref(), Some("pods"));
    let labels: Vec<(&str, &str)> = public
        .labels
        .iter()
        .map(|(key, value)| (&**key, &**value))
        .collect();
    assert_eq!(
        labels,
        [
            ("istio", "ingress"),
            ("gateway.networking.k8s.io/gateway-name", "Public_1.a")
        ]
    );
    assert!(nginx.name.is_none() && nginx.namespace.is_none() && nginx.labels.is_empty());
    assert_eq!(
        policy.mesh.gateways(Vantage::Egress)[0].name.as_deref(),
        Some("exit")
    );
    assert!(policy.mesh.gateways(Vantage::Inbound).is_empty());
    let gateways = |vantage, rule: usize| {
        let rule = &policy.section(vantage).rules[rule];
        rule.gateways.iter().map(|name| &**name).collect::<Vec<_>>()
    };
    assert_eq!(gateways(Vantage::Ingress, 0), [""; 0]);
    assert_eq!(gateways(Vantage::Ingress, 1), ["public"]);
    assert_eq!(gateways(Vantage::Egress, 0), ["exit"]);
}

/// Without knowing where it stands it could only hold for all, or for none.
#[test]
fn a_filter_refuses_rules_that_name_gateways_and_skips_what_describes_these() {
    let errors = Policy::from_json(POLICY).unwrap_err();
    let paths: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "hosts.ingress.rules[1].gateways",
            "hosts.egress.rules[0].gateways"
        ]
    );
    let described = POLICY.replace(r#", "gateways": ["public"]"#, "");
    let described = described.replace(r#", "gateways": ["exit"]"#, "");
    let policy = Policy::from_json(described).unwrap();
    let public = &policy.mesh.gateways(Vantage::Ingress)[0];
    assert!(public.name.is_none() && public.labels.is_empty());
}

#[test]
fn a_part_of_a_policy_has_the_revision_that_it_says() {
    let part = r#"{"revision": "0000c0ffee42"}"#;
    assert_eq!(read(part).unwrap().revision, Some(0xc0ffee42));
    assert_eq!(Policy::from_json(part).unwrap().revision, Some(0xc0ffee42));
    let whole = r#"{"deny": {}}"#;
    assert_eq!(read(whole).unwrap().revision, None);
    let hash = meridian_policy::revision(whole.as_bytes());
    assert_eq!(Policy::from_json(whole).unwrap().revision, Some(hash));
}
