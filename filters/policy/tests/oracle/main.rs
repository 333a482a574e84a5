//! The compiled matcher agrees with a naive scan over the list of rules, written from the design.
#![cfg(not(target_arch = "wasm32"))]

mod connections;
mod gateways;
mod image;
mod matching;
mod properties;
mod scan;
mod spelling;
mod world;

use connections::{ExpectedConnection, decide_connection, expect_connection};
use meridian_policy::{Policy, Vantage};
use scan::{Expected, Why, decide, expect};
use world::{Dice, PlainPolicy, Seeded};

/// How often each kind of answer came up, so that agreement is over something.
#[derive(Debug, Default)]
struct Tally {
    requests: usize,
    by_rule: usize,
    by_default: usize,
    refused: usize,
    mismatches: usize,
    watched: usize,
    /// Connections to a dialled address, to no known host, and with a port that the client wrote.
    by_address: usize,
    without_host: usize,
    claimed: usize,
}

fn compare(seed: u64, vantage: Vantage, rules: usize, requests: usize, tally: &mut Tally) {
    let mut dice = Seeded(seed);
    let plain = PlainPolicy::roll(&mut dice, vantage, rules);
    let document = plain.document(&mut dice);
    let policy = match Policy::from_json(document.to_string().as_bytes()) {
        Ok(policy) => policy,
        Err(errors) => panic!("seed {seed}: {errors:#?}"),
    };
    for _ in 0..requests {
        let request = plain.request(&mut dice);
        let verdict = decide(&policy, plain.vantage, &request);
        let expected = expect(&plain, &request);
        assert_eq!(
            Expected::of(&verdict),
            expected,
            "seed {seed}, {rules} rules, {request:#?}\nauthority {:?} at {}\nrule said: {}\nrule expected: {}\n{}",
            String::from_utf8_lossy(&request.authority),
            plain.vantage,
            rule(&document, &plain, Expected::of(&verdict).why),
            rule(&document, &plain, expected.why),
            document["mesh"],
        );
        tally.requests += 1;
        match expected.why {
            Why::Rule(_) => tally.by_rule += 1,
            Why::Default => tally.by_default += 1,
            Why::InvalidHost => tally.refused += 1,
            Why::SniMismatch => tally.mismatches += 1,
        }
        tally.watched += usize::from(expected.dry_run.is_some());
    }
}

fn compare_connections(
    seed: u64,
    vantage: Vantage,
    rules: usize,
    connections: usize,
    tally: &mut Tally,
) {
    let mut dice = Seeded(seed);
    let plain = PlainPolicy::roll(&mut dice, vantage, rules);
    let document = plain.document(&mut dice);
    let policy = match Policy::from_json(document.to_string().as_bytes()) {
        Ok(policy) => policy,
        Err(errors) => panic!("seed {seed}: {errors:#?}"),
    };
    for _ in 0..connections {
        let connection = plain.connection(&mut dice);
        let said = decide_connection(&policy, vantage, &connection);
        let said = ExpectedConnection::of(&said);
        let expected = expect_connection(&plain, &connection);
        assert_eq!(
            said,
            expected,
            "seed {seed}, {rules} rules, {connection:#?}\nserver name {:?} at {vantage}\nrule said: {}\nrule expected: {}\n{}",
            connection
                .sni
                .as_ref()
                .map(|(_, bytes)| String::from_utf8_lossy(bytes)),
            rule(&document, &plain, said.why),
            rule(&document, &plain, expected.why),
            document["mesh"],
        );
        tally.requests += 1;
        match expected.why {
            Why::Rule(_) => tally.by_rule += 1,
            Why::Default => tally.by_default += 1,
            Why::InvalidHost => tally.refused += 1,
            Why::SniMismatch => tally.mismatches += 1,
        }
        tally.watched += usize::from(expected.dry_run.is_some());
        tally.by_address += usize::from(connection.sni.is_none() && expected.host.is_some());
        tally.without_host += usize::from(connection.sni.is_none() && expected.host.is_none());
        tally.claimed += usize::from(expected.host.is_some_and(|(_, port)| port.is_some()));
    }
}

/// The rule that is meant, as it stands in the document.
fn rule(document: &serde_json::Value, plain: &PlainPolicy, why: Why) -> String {
    match why {
        Why::Rule(index) => document["hosts"][plain.vantage.as_str()]["rules"][index].to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn the_matcher_agrees_with_a_naive_scan_on_small_policies() {
    let mut tally = Tally::default();
    for seed in 0..500 {
        for vantage in Vantage::ALL {
            let mut dice = Seeded(seed);
            compare(dice.next(), *vantage, dice.below(40), 20, &mut tally);
        }
    }
    assert_tells(&tally);
}

#[test]
fn the_matcher_agrees_with_a_naive_scan_on_up_to_ten_thousand_rules() {
    let mut tally = Tally::default();
    for rules in [100, 1_000, 1_000, 3_000, 10_000] {
        for vantage in Vantage::ALL {
            let seed = tally.requests as u64;
            compare(seed, *vantage, rules, 60, &mut tally);
        }
    }
    assert_tells(&tally);
}

#[test]
fn the_matcher_agrees_with_a_naive_scan_over_connections() {
    let mut tally = Tally::default();
    for vantage in [Vantage::Ingress, Vantage::Egress] {
        for seed in 0..1_000 {
            let mut dice = Seeded(seed);
            compare_connections(dice.next(), vantage, dice.below(40), 20, &mut tally);
        }
        for rules in [1_000, 10_000] {
            compare_connections(tally.requests as u64, vantage, rules, 60, &mut tally);
        }
    }
    let share = |count: usize| 100 * count / tally.requests;
    assert!(
        share(tally.by_rule) >= 20
            && share(tally.by_default) >= 5
            && share(tally.refused) >= 5
            && share(tally.watched) >= 5
            && share(tally.by_address) >= 5
            && share(tally.without_host) >= 2
            && share(tally.claimed) >= 5,
        "too little was tried: {tally:?}"
    );
}

fn assert_tells(tally: &Tally) {
    let share = |count: usize| 100 * count / tally.requests;
    assert!(
        share(tally.by_rule) >= 20
            && share(tally.by_default) >= 5
            && share(tally.refused) >= 2
            && share(tally.watched) >= 5
            && tally.mismatches > 0,
        "too little was tried: {tally:?}"
    );
}
