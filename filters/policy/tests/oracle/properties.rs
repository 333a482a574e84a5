//! What holds for every input: no panic, and one canonical form.

use std::net::IpAddr;
use std::ops::ControlFlow;

use crate::world::{Dice, PlainPolicy, Seeded};
use meridian_policy::{
    Action, Authority, ConfigError, Direction, Host, HostMap, HostPattern, Pattern, Policy,
    Precedence, Principal, Rank, Reason, Request, Subject, TagWrite, Vantage, Verdict,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::Value;

/// Bytes that hosts are made of, and their neighbours.
fn authority() -> impl Strategy<Value = Vec<u8>> {
    let label = "[a-zA-Z0-9_-]{1,8}|0[xX][0-9a-fA-F]{0,9}|0?[0-9]{1,12}|[a-z]{60,66}";
    let name = vec(label, 1..6).prop_map(|labels| labels.join("."));
    let long = (1..140usize).prop_map(|count| vec!["a"; count].join("."));
    let v6 = any::<u128>().prop_map(|bits| format!("[{}]", std::net::Ipv6Addr::from(bits)));
    let mapped = any::<u32>()
        .prop_map(|bits| format!("[{}]", std::net::Ipv4Addr::from(bits).to_ipv6_mapped()));
    let whole = (
        prop_oneof![4 => name, 1 => long, 1 => v6, 1 => mapped],
        prop_oneof!["", "\\."],
        prop_oneof!["", ":", ":[0-9]{1,6}"],
    )
        .prop_map(|(host, dot, port)| format!("{host}{dot}{port}").into_bytes());
    prop_oneof![
        4 => whole,
        1 => "[\\[\\]:.,@%*0-9a-fx -]{0,20}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..300),
    ]
}

/// A policy with rules in all sections, as JSON.
fn document(seed: u64) -> Value {
    let mut dice = Seeded(seed);
    let mut document = Value::Null;
    for vantage in Vantage::ALL {
        let rules = dice.below(8);
        let one = PlainPolicy::roll(&mut dice, *vantage, rules).document(&mut dice);
        if document.is_null() {
            document = one;
        } else {
            document["hosts"][vantage.as_str()] = one["hosts"][vantage.as_str()].clone();
        }
    }
    document
}

/// Patterns that often match the same host.
fn pattern() -> impl Strategy<Value = Pattern> {
    let name = "(\\*\\.)?([ab]\\.){0,3}c";
    let network = (0..4u8, 0..4u8, 8..=32u8).prop_map(|(second, last, prefix)| {
        let network = ipnet::Ipv4Net::new([10, second, 0, last].into(), prefix).unwrap();
        network.trunc().to_string()
    });
    let text =
        prop_oneof![6 => name.prop_map(String::from), 3 => network, 1 => Just("*".to_owned())];
    text.prop_map(|text| Pattern::parse(&text).unwrap())
}

/// Hosts that such patterns match.
fn host() -> impl Strategy<Value = Host> {
    let name = "([ab]\\.){0,4}c";
    let address = (0..4u8, 0..4u8).prop_map(|(second, last)| format!("10.{second}.0.{last}"));
    prop_oneof![name.prop_map(String::from), address]
        .prop_map(|text| Authority::parse(text.as_bytes()).unwrap().host)
}

/// Matching as the documentation has it.
fn matches(pattern: &HostPattern, host: &Host) -> bool {
    match (pattern, host) {
        (HostPattern::Any, _) => true,
        (HostPattern::Exact(name), Host::Name(host)) => name == host,
        (HostPattern::Suffix(name), Host::Name(host)) => {
            host.as_str().ends_with(&format!(".{}", name.as_str()))
        }
        (HostPattern::Network(network), Host::Address(address)) => network.contains(address),
        _ => false,
    }
}

/// Any JSON value, with the words of policies among its strings.
fn value() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("name"),
        Just("hosts"),
        Just("rules"),
        Just("from"),
        Just("ingress"),
        Just("action"),
        Just("*"),
        Just(""),
        Just("10.0.0.0/8"),
        Just("allow"),
    ]
    .prop_map(str::to_owned);
    let text = prop_oneof![3 => word, 1 => any::<String>()].boxed();
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((text.clone(), inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// Puts `graft` in the place of the node that is `steps` steps into the document.
fn replace(document: &mut Value, steps: &mut usize, graft: &Value) -> bool {
    if *steps == 0 {
        *document = graft.clone();
        return true;
    }
    *steps -= 1;
    match document {
        Value::Array(list) => list.iter_mut().any(|node| replace(node, steps, graft)),
        Value::Object(fields) => fields.values_mut().any(|node| replace(node, steps, graft)),
        _ => false,
    }
}

fn nodes(document: &Value) -> usize {
    1 + match document {
        Value::Array(list) => list.iter().map(nodes).sum(),
        Value::Object(fields) => fields.values().map(nodes).sum(),
        _ => 0,
    }
}

/// Errors that a person can act on, each on one line of the log.
fn assert_readable(outcome: &Result<Policy, Vec<ConfigError>>) {
    let Err(errors) = outcome else { return };
    assert!(!errors.is_empty(), "refused without an error");
    for error in errors {
        assert!(
            !error.message.is_empty() && !error.hint.is_empty(),
            "{error:?}"
        );
        let line = error.to_string();
        assert!(
            !line.chars().any(|char| char.is_ascii_control()),
            "{line:?}"
        );
    }
}

#[derive(Debug, Clone)]
struct Asked {
    authority: Vec<u8>,
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    peer: Option<String>,
    sni: Option<Vec<u8>>,
    cluster: Option<String>,
    tag: Option<Vec<u8>>,
    tls: bool,
    forwarded: bool,
    namespace: Option<String>,
}

fn asked() -> impl Strategy<Value = Asked> {
    let principal = "[a-z.]{0,5}/ns/[a-z]{0,4}/sa/[a-z]{0,4}|spiffe://cluster\\.local/ns/(gw|shop)/sa/(in|cart)";
    let cluster = "PassthroughCluster|outbound\\|[0-9]{0,6}\\|[a-z]{0,2}\\|[*.a-z0-9\\[\\]:|]{0,20}|\\PC{0,10}";
    let tag = prop_oneof![
        vec(any::<u8>(), 0..12),
        "north-south|east-west|unknown".prop_map(String::into_bytes)
    ];
    (
        (authority(), option::of(authority()), option::of(tag)),
        option::of(any::<IpAddr>()),
        option::of(any::<IpAddr>()),
        option::of(principal),
        option::of(cluster),
        (any::<bool>(), any::<bool>()),
        option::of("[a-z]{0,4}|shop|system"),
    )
        .prop_map(
            |(
                (authority, sni, tag),
                source,
                destination,
                peer,
                cluster,
                (tls, forwarded),
                namespace,
            )| Asked {
                authority,
                source,
                destination,
                peer,
                sni,
                cluster,
                tag,
                tls,
                forwarded,
                namespace,
            },
        )
}

impl Asked {
    fn decide(&self, policy: &Policy, vantage: Vantage) -> Verdict {
        let mut request = Request::new(&self.authority);
        request.source = self.source;
        request.destination = self.destination;
        request.peer = self.peer.as_deref().and_then(Principal::parse);
        request.sni = self.sni.as_deref();
        request.cluster = self.cluster.as_deref();
        request.tag = self.tag.as_deref();
        request.tls = self.tls;
        request.forwarded = self.forwarded;
        request.namespace = self.namespace.as_deref();
        policy.decide(vantage, Subject::Request, &mut request)
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(2_000)
    })]

    /// Every pattern that matches is visited, in the order of [`Precedence`].
    #[test]
    fn a_host_map_is_visited_in_the_order_of_precedence(
        patterns in vec((pattern(), any::<bool>()), 0..40),
        hosts in vec(host(), 1..20),
    ) {
        let mut map = HostMap::default();
        let mut rules = Vec::new();
        for (index, (pattern, denies)) in patterns.into_iter().enumerate() {
            let action = if denies { Action::Deny } else { Action::Allow };
            let rank = Rank::new(action, index);
            prop_assert!(map.insert(&pattern, rank.into()));
            rules.push((pattern.host, rank));
        }
        for host in hosts {
            let matching = rules.iter().filter(|(pattern, _)| matches(pattern, &host));
            let mut expected: Vec<Precedence> = matching
                .map(|(pattern, rank)| Precedence { specificity: pattern.specificity(), rank: *rank })
                .collect();
            expected.sort();
            let expected: Vec<Rank> = expected.iter().map(|one| one.rank).collect();
            let mut visited = Vec::new();
            map.visit(&host, |value, _| {
                visited.push(Rank::from(value));
                ControlFlow::Continue(())
            });
            prop_assert_eq!(visited, expected, "{}", host);
        }
    }

    #[test]
    fn canonicalising_twice_changes_nothing(raw in authority()) {
        let Ok(once) = Authority::parse(&raw) else { return Ok(()) };
        let text = once.to_string();
        prop_assert_eq!(Authority::parse(text.as_bytes()), Ok(once.clone()));
        let host = once.host.to_string();
        prop_assert_eq!(Authority::parse(host.as_bytes()).map(|again| again.host), Ok(once.host.clone()));
        prop_assert!(!text.bytes().any(|byte| byte.is_ascii_uppercase()), "{}", text);
        prop_assert!(!host.ends_with('.') && !host.is_empty(), "{}", host);
        prop_assert_ne!(once.port, Some(0));
        match &once.host {
            Host::Address(address) => prop_assert_eq!(*address, address.to_canonical()),
            Host::Name(name) => {
                let name = name.as_str();
                prop_assert!(name.len() <= 253);
                prop_assert!(name.split('.').all(|label| (1..=63).contains(&label.len())), "{}", name);
                let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
                prop_assert!(name.bytes().all(is_plain), "{}", name);
                prop_assert!(name.parse::<IpAddr>().is_err(), "{}", name);
            }
        }
    }

    #[test]
    fn case_a_trailing_dot_and_an_empty_port_do_not_change_the_host(raw in authority()) {
        let Ok(once) = Authority::parse(&raw) else { return Ok(()) };
        let host = once.host.to_string();
        for spelling in [host.to_ascii_uppercase(), format!("{host}:")] {
            prop_assert_eq!(Authority::parse(spelling.as_bytes()).map(|other| other.host), Ok(once.host.clone()));
        }
        if !host.starts_with('[') {
            let dotted = format!("{host}.");
            prop_assert_eq!(Authority::parse(dotted.as_bytes()).map(|other| other.host), Ok(once.host.clone()));
        }
    }

    #[test]
    fn any_json_is_a_policy_or_has_readable_errors(value in value()) {
        assert_readable(&Policy::from_json(value.to_string().as_bytes()));
    }

    #[test]
    fn any_bytes_are_a_policy_or_have_readable_errors(bytes in vec(any::<u8>(), 0..200)) {
        assert_readable(&Policy::from_json(bytes.as_slice()));
    }

    #[test]
    fn a_grafted_policy_is_one_or_has_readable_errors(
        seed in any::<u64>(),
        place in any::<prop::sample::Index>(),
        graft in value(),
    ) {
        let mut document = document(seed);
        let mut steps = place.index(nodes(&document));
        prop_assert!(replace(&mut document, &mut steps, &graft));
        assert_readable(&Policy::from_json(document.to_string().as_bytes()));
    }

    #[test]
    fn a_damaged_policy_is_one_or_has_readable_errors(
        seed in any::<u64>(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..4),
    ) {
        let mut bytes = document(seed).to_string().into_bytes();
        for (place, byte, kind) in damage {
            if bytes.is_empty() {
                break;
            }
            let at = place.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => bytes.truncate(at),
                _ => drop(bytes.remove(at)),
            }
        }
        assert_readable(&Policy::from_json(bytes.as_slice()));
    }

    #[test]
    fn decision_refusal_label_and_tags_of_a_verdict_agree(seed in any::<u64>(), asked in asked()) {
        let policy = Policy::from_json(document(seed).to_string().as_bytes()).unwrap();
        for vantage in Vantage::ALL {
            let verdict = asked.decide(&policy, *vantage);
            let section = policy.section(*vantage);
            let refusal = policy.refusal(&verdict);
            prop_assert_eq!(refusal.is_some(), verdict.decision == Action::Deny);
            let parsed = Authority::parse(&asked.authority);
            prop_assert_eq!(verdict.authority.as_ref(), parsed.as_ref().ok());
            if parsed.is_err() {
                prop_assert_eq!(refusal.map(|refusal| refusal.status), Some(400));
            }
            prop_assert_eq!(parsed.err().map(Reason::InvalidHost), match verdict.reason {
                Reason::InvalidHost(_) => Some(verdict.reason),
                _ => None,
            });
            let label = verdict.reason.label(section);
            match verdict.reason {
                Reason::Rule(index) => {
                    let rule = &section.rules[index];
                    prop_assert_eq!(rule.action, verdict.decision);
                    prop_assert!(!rule.dry_run);
                    prop_assert_eq!(label, &*rule.name);
                }
                Reason::SniMismatch => prop_assert_eq!(*vantage, Vantage::Ingress),
                Reason::Default | Reason::InvalidHost(_) => {}
            }
            let leaves = matches!(vantage, Vantage::Egress | Vantage::Outbound)
                && verdict.direction != Direction::EastWest;
            let expected = if leaves { TagWrite::Remove } else { TagWrite::Replace };
            prop_assert_eq!(verdict.tags, Some(expected));
            // Nothing is random, and nothing is left over from the request before.
            prop_assert_eq!(&asked.decide(&policy, *vantage), &verdict);
        }
    }
}
