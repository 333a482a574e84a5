//! Rules that hold at some gateways: the whole policy at a gateway decides as the part of it that the
//! gateway's filter is given.

use meridian_policy::{Action, Document, Policy, Vantage, Verdict};
use serde_json::{Value, json};

use crate::connections::decide_connection_at;
use crate::scan::decide_at;
use crate::world::{Dice, PlainPolicy, Seeded};

const GATEWAYS: [&str; 3] = ["one", "two", "three"];

/// A policy of three gateways, with two of three rules limited to some of them.
fn limited(document: &mut Value, vantage: Vantage, dice: &mut impl Dice) {
    let named = GATEWAYS.map(|name| {
        json!({"name": name, "principal": format!("cluster.local/ns/edge/sa/{name}"), "labels": {"istio": name}})
    });
    let gateways = &mut document["mesh"]["gateways"][vantage.as_str()];
    gateways.as_array_mut().unwrap().extend(named);
    let rules = &mut document["hosts"][vantage.as_str()]["rules"];
    for rule in rules.as_array_mut().unwrap() {
        if !dice.once_in(3) {
            rule["gateways"] = json!(dice.some(1, 2, |dice| dice.pick(&GATEWAYS)));
        }
    }
}

/// The part for one gateway, as its filter reads it.
fn part(document: &Value, vantage: Vantage, gateway: &str) -> Policy {
    let mut document = document.clone();
    let rules = &mut document["hosts"][vantage.as_str()]["rules"];
    let rules = rules.as_array_mut().unwrap();
    rules.retain(|rule| match rule["gateways"].as_array() {
        Some(names) => names.iter().any(|name| name == gateway),
        None => true,
    });
    for rule in rules {
        rule.as_object_mut().unwrap().remove("gateways");
    }
    Policy::from_json(document.to_string()).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

/// A verdict with the names of rules in the place of their indexes. Whom the label `source_namespace`
/// tells apart depends on the rules that are there, and is left out.
fn named(policy: &Policy, vantage: Vantage, verdict: &Verdict) -> String {
    let section = policy.section(vantage);
    let dry_run = verdict.dry_run.map(|dry_run| {
        let rule = dry_run.reason.label(section);
        format!("{}{{{rule}}}", dry_run.decision)
    });
    format!(
        "{} by {}, {} {} {:?} {:?} {:?} {dry_run:?}",
        verdict.decision,
        verdict.reason.label(section),
        verdict.direction,
        verdict.evidence,
        verdict.component,
        verdict.authority,
        verdict.tags,
    )
}

#[test]
fn the_policy_at_a_gateway_decides_as_the_part_of_it_that_is_rendered_for_the_gateway() {
    let (mut tried, mut different, mut allowed) = (0, 0, 0);
    for seed in 0..400 {
        for vantage in [Vantage::Ingress, Vantage::Egress] {
            let mut dice = Seeded(seed);
            let rules = dice.below(40);
            let plain = PlainPolicy::roll(&mut dice, vantage, rules);
            let mut document = plain.document(&mut dice);
            limited(&mut document, vantage, &mut dice);
            let text = document.to_string();
            let read = Document::from_json(text.as_bytes()).unwrap();
            let whole = Policy::from_document(&read).unwrap();
            let parts = GATEWAYS.map(|gateway| part(&document, vantage, gateway));
            for _ in 0..10 {
                let (request, connection) = (plain.request(&mut dice), plain.connection(&mut dice));
                let decide = |policy: &Policy, gateway| {
                    [
                        decide_at(policy, vantage, gateway, &request),
                        decide_connection_at(policy, vantage, gateway, &connection),
                    ]
                };
                let verdicts = GATEWAYS.map(|gateway| decide(&whole, Some(gateway)));
                for (at, part) in verdicts.iter().zip(&parts) {
                    let alone = decide(part, None);
                    for (whole_s, part_s) in at.iter().zip(&alone) {
                        assert_eq!(
                            named(&whole, vantage, whole_s),
                            named(part, vantage, part_s),
                            "seed {seed}, {request:#?}, {connection:#?}, {document}"
                        );
                    }
                }
                // Not to know the gateway never helps the caller.
                let unknown = decide(&whole, None);
                for (index, unknown) in unknown.iter().enumerate() {
                    let at = || verdicts.iter().map(|verdicts| verdicts[index].decision);
                    if unknown.decision == Action::Allow {
                        allowed += 1;
                        assert!(
                            at().all(|decision| decision == Action::Allow),
                            "seed {seed}"
                        );
                    }
                    tried += 1;
                    different += usize::from(at().max() != at().min());
                }
            }
        }
    }
    // Agreement is over something.
    assert!(
        different * 10 > tried && allowed * 10 > tried,
        "{different} and {allowed} of {tried}"
    );
}
