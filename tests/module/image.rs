//! A policy in the module: it decides at the cost of one that was read, and is loaded for nothing.

use meridian::lab::modules;
use meridian::policy::PolicyFile;
use meridian_policy::Vantage;

use crate::budgets::{mtls, plaintext, tls};
use crate::host::{Action, Answers, Host, is_lean, module};
use crate::policies::{PLAIN, sample, with_hosts};

/// The module with a policy inside, for the filters of a root id.
fn packed(root_id: &str, policy: &str) -> Vec<u8> {
    let vantages: &[Vantage] = match root_id {
        "ingress" | "ingress.tcp" => &[Vantage::Ingress],
        "egress" | "egress.tcp" => &[Vantage::Egress],
        _ => &[Vantage::Inbound, Vantage::Outbound],
    };
    let file = PolicyFile::parse(policy.as_bytes()).unwrap();
    let image = file.image(vantages, None).unwrap();
    let module = module(root_id, is_lean(root_id, policy));
    modules::with_policy(module, &image).unwrap()
}

/// A VM whose module holds the policy, and one that was given what its filter reads of it.
fn both(root_id: &str, policy: &str) -> [Host; 2] {
    let mut packed = Host::start_wasm(root_id, &packed(root_id, policy));
    assert!(packed.configure(""), "{:?}", packed.world().calls);
    let file = PolicyFile::parse(policy.as_bytes()).unwrap();
    let subject = match root_id.ends_with(".tcp") {
        true => meridian_policy::Subject::Connection,
        false => meridian_policy::Subject::Request,
    };
    let at = root_id.trim_end_matches(".tcp");
    let vantage = Vantage::ALL.iter().find(|vantage| vantage.as_str() == at);
    let read = Host::with_policy(root_id, &file.slice(*vantage.unwrap(), subject, None));
    [packed, read]
}

#[test]
fn a_policy_in_the_module_decides_as_one_that_was_read_and_costs_the_same() {
    let requests = || -> Vec<Answers> {
        let workload = "spiffe://cluster.local/ns/shop/sa/shop";
        vec![
            plaintext("shop.example.com"),
            plaintext("a.apps.example.com"),
            plaintext("admin.apps.example.com"),
            plaintext("h7.fill.example"),
            plaintext("evil.example.com"),
            plaintext("10.1.2.3"),
            plaintext("no host"),
            tls("shop.example.com", "shop.example.com"),
            tls("shop.example.com", "other.example.com"),
            mtls("orders.orders.svc.cluster.local", workload),
            mtls("api.partner.example", workload),
        ]
    };
    let many = with_hosts(50_000);
    for (policy, root_ids) in [
        (PLAIN.to_owned(), &["ingress", "ingress.tcp"][..]),
        (many, &["ingress", "ingress.tcp"]),
        (
            sample(),
            &["ingress", "egress", "egress.tcp", "inbound", "outbound"],
        ),
    ] {
        for root_id in root_ids {
            let [mut packed, mut read] = both(root_id, &policy);
            let ask = |host: &mut Host, request: &Answers| match root_id.ends_with(".tcp") {
                true => host.connection(request),
                false => host.request(request),
            };
            for request in requests() {
                for host in [&mut packed, &mut read] {
                    ask(host, &request);
                }
                let [packed, read] = [&mut packed, &mut read].map(|host| ask(host, &request));
                assert_eq!(packed.action, read.action, "{root_id}");
                assert_eq!(packed.calls, read.calls, "{root_id}");
                assert_eq!(packed.sent.headers, read.sent.headers, "{root_id}");
                let (packed, read) = (packed.instructions, read.instructions);
                assert!(
                    packed.abs_diff(read) * 200 <= read,
                    "{root_id}: {packed} instructions from the module, {read} from its configuration"
                );
            }
        }
    }
}

#[test]
fn a_policy_in_the_module_is_loaded_for_nothing() {
    let loaded = |hosts| {
        let wasm = packed("ingress", &with_hosts(hosts));
        let mut host = Host::start_wasm("ingress", &wasm);
        let before = host.pages();
        assert!(host.configure(""), "{:?}", host.world().calls);
        (before, host.pages() - before, host.world().instructions)
    };
    let (few_pages, few_more, few) = loaded(10);
    let (many_pages, many_more, many) = loaded(50_000);
    // 18 bytes of text and 11 of table for each.
    let bytes = (many_pages - few_pages) << 16;
    assert!((1_300_000..1_600_000).contains(&bytes), "{bytes}");
    assert_eq!(few_more, many_more);
    assert!(
        many.abs_diff(few) * 100 <= few,
        "{many} and {few} instructions"
    );
}

#[test]
fn a_policy_in_the_module_and_one_beside_it_are_refused() {
    let mut host = Host::start_wasm("ingress", &packed("ingress", PLAIN));
    assert!(!host.configure(PLAIN));
    let said = host.world().calls.join("\n");
    assert!(said.contains("is in this module already"), "{said}");
    // Nothing passes.
    let seen = host.request(&plaintext("shop.example.com"));
    assert_eq!(seen.action, Action::Pause);
}
