//! What a policy takes of a worker's memory, counted: a module's memory never shrinks, so that the
//! most it had while it read the policy is what the worker keeps.

use allocation_counter::measure;
use meridian_policy::Policy;

use crate::host::Host;

/// Pages of a module's memory in a mebibyte.
const MEBIBYTE: u64 = (1 << 20) / (1 << 16);

/// A policy with hosts of 36 bytes on average, as `meridian bench` has them, shared out to rules.
fn policy(hosts: usize, rules: usize, suffix: &str) -> String {
    let rules: Vec<String> = (0..rules)
        .map(|rule| {
            let share: Vec<String> = (rule..hosts)
                .step_by(rules)
                .map(|host| format!(r#""server-{host:07}.apps.shop.example.com{suffix}""#))
                .collect();
            let share = share.join(",");
            format!(r#"{{"name": "rule-{rule}", "hosts": [{share}], "action": "allow"}}"#)
        })
        .collect();
    let rules = rules.join(",");
    format!(r#"{{"hosts": {{"ingress": {{"default": "deny", "rules": [{rules}]}}}}}}"#)
}

/// The memory of the shipped module with a policy, in pages of 64 KiB: text, tables, rules, and what
/// reading took beside them. It begins with a mebibyte of stack, of which a worker touches little.
#[test]
fn the_memory_of_a_module_with_a_policy_is_within_budget() {
    for (hosts, rules, suffix, budget) in [
        (10, 10, "", MEBIBYTE + 3),
        (1000, 1000, "", MEBIBYTE + 9),
        (20_000, 1000, ":443", MEBIBYTE + 26),
        (100_000, 1000, "", MEBIBYTE + 86),
    ] {
        let policy = policy(hosts, rules, suffix);
        let mut host = Host::start("ingress");
        assert!(host.configure(&policy), "{:?}", host.world().calls);
        let pages = host.pages();
        assert!(
            pages <= budget,
            "{hosts} hosts take {pages} pages, {budget} at most"
        );
    }
}

/// The most that reading a policy takes beside its text: natively, where a million hosts are read in
/// seconds. A pattern takes eight bytes, and a quarter of a table is empty; what is not of hosts is the
/// rules.
#[test]
fn the_memory_beside_the_text_of_many_hosts_is_within_budget() {
    for (hosts, suffix, budget) in [
        (1_000_000, "", 11_500_000),
        // One too many for a single table of half the size, with a port each.
        (229_377, ":443", 3_200_000),
    ] {
        let json = policy(hosts, 1000, suffix).into_bytes();
        let mut policy = None;
        let counted = measure(|| policy = Some(Policy::from_json(json)));
        assert!(policy.is_some_and(|policy| policy.is_ok()));
        let most = counted.bytes_max;
        assert!(
            most <= budget,
            "{hosts} hosts take {most} bytes, {budget} at most"
        );
    }
}
