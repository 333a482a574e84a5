//! A policy, requests and connections made of the fuzzer's choices: the compiled policy and the oracle of the
//! tests, a naive scan over the rules, say the same.
#![no_main]

#[path = "../../tests/oracle/connections.rs"]
mod connections;
#[path = "../../tests/oracle/matching.rs"]
mod matching;
#[path = "../../tests/oracle/scan.rs"]
#[allow(dead_code, reason = "what the tests need of it")]
mod scan;
#[path = "../../tests/oracle/spelling.rs"]
#[allow(dead_code, reason = "what the tests need of it")]
mod spelling;
#[path = "../../tests/oracle/world.rs"]
#[allow(dead_code, reason = "what the tests need of it")]
mod world;

use arbitrary::Unstructured;
use connections::{ExpectedConnection, decide_connection, expect_connection};
use libfuzzer_sys::fuzz_target;
use meridian_policy::{Policy, Vantage};
use scan::{Expected, decide, expect};
use world::{Dice, PlainPolicy};

/// Choices from the fuzzer's bytes; the first of each when they are used up.
struct Choices<'b>(Unstructured<'b>);

impl Dice for Choices<'_> {
    fn below(&mut self, sides: usize) -> usize {
        self.0.choose_index(sides).unwrap_or(0)
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut dice = Choices(Unstructured::new(bytes));
    let vantage = dice.pick(Vantage::ALL);
    let rules = dice.below(8);
    let plain = PlainPolicy::roll(&mut dice, vantage, rules);
    let document = plain.document(&mut dice).to_string();
    let policy = match Policy::from_json(document.as_bytes()) {
        Ok(policy) => policy,
        Err(errors) => panic!("{errors:?}: {document}"),
    };
    for _ in 0..4 {
        let request = plain.request(&mut dice);
        let verdict = decide(&policy, vantage, &request);
        assert_eq!(
            Expected::of(&verdict),
            expect(&plain, &request),
            "{request:?}: {document}"
        );
        assert_eq!(
            policy.refusal(&verdict).is_some(),
            verdict.decision.as_str() == "deny"
        );
    }
    // Connections are decided at the gateways alone.
    if !matches!(vantage, Vantage::Ingress | Vantage::Egress) {
        return;
    }
    for _ in 0..4 {
        let connection = plain.connection(&mut dice);
        assert_eq!(
            ExpectedConnection::of(&decide_connection(&policy, vantage, &connection)),
            expect_connection(&plain, &connection),
            "{connection:?}: {document}"
        );
    }
});
