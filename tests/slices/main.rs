//! A slice decides as the whole policy does: over every vector, and over the oracle's random policies,
//! requests and connections.

#[path = "../../filters/policy/tests/oracle/connections.rs"]
#[allow(dead_code, reason = "what the oracle needs of it")]
mod connections;
#[path = "../../filters/policy/tests/oracle/matching.rs"]
mod matching;
#[path = "../../filters/policy/tests/oracle/scan.rs"]
#[allow(dead_code, reason = "what the oracle needs of it")]
mod scan;
#[path = "../../filters/policy/tests/oracle/spelling.rs"]
#[allow(dead_code, reason = "what the oracle needs of it")]
mod spelling;
#[path = "../../filters/policy/tests/oracle/world.rs"]
#[allow(dead_code, reason = "what the oracle needs of it")]
mod world;

use std::fmt::Debug;

use connections::decide_connection;
use meridian::policy::PolicyFile;
use meridian_policy::{Caller, Policy, Reason, Subject, Vantage, Verdict};
use meridian_vectors::{Connections, Vectors, connections::GATEWAYS};
use scan::decide;
use serde_json::{Value, json};
use world::{Dice, PlainPolicy, Seeded};

/// A policy, and what a filter has of it.
struct Pair {
    vantage: Vantage,
    subject: Subject,
    whole: Policy,
    slice: Policy,
}

impl Pair {
    fn new(document: &Value, vantage: Vantage, subject: Subject) -> Self {
        Self::at(document, document, vantage, subject, None)
    }

    /// The slice of `document` for a gateway, beside all of `whole`.
    fn at(
        document: &Value,
        whole: &Value,
        vantage: Vantage,
        subject: Subject,
        gateway: Option<&str>,
    ) -> Self {
        let read = |document: &Value| PolicyFile::parse(document.to_string().as_bytes()).unwrap();
        let file = read(document);
        let slice = Policy::from_json(file.slice(vantage, subject, gateway)).unwrap();
        assert_eq!(slice.revision, Some(file.revision()));
        Self {
            vantage,
            subject,
            whole: read(whole).policy,
            slice,
        }
    }

    /// Asks both, and compares all that a filter carries out.
    fn compare(&self, name: &str, ask: impl Fn(&Policy) -> Option<Verdict>) -> bool {
        let (whole, slice) = (&self.whole, &self.slice);
        let (Some(expected), Some(verdict)) = (ask(whole), ask(slice)) else {
            return false;
        };
        let vantage = self.vantage;
        let told = told(slice, vantage, &verdict);
        assert_eq!(
            told,
            self::told(whole, vantage, &expected),
            "{name} at {vantage}"
        );
        if self.subject == Subject::Request {
            assert_eq!(slice.refusal(&verdict), whole.refusal(&expected), "{name}");
            assert_eq!((&slice.tags, slice.metrics), (&whole.tags, whole.metrics));
        }
        assert_eq!(slice.tags.filter_state, whole.tags.filter_state);
        true
    }
}

/// All of a verdict, rules and callers by their names: a slice has fewer rules, and other indexes.
fn told(policy: &Policy, vantage: Vantage, verdict: &Verdict) -> impl PartialEq + Debug + use<> {
    let label = |reason: Reason| match reason {
        // With what is wrong with it.
        Reason::InvalidHost(_) => format!("{reason:?}"),
        reason => reason.label(policy.section(vantage)).to_owned(),
    };
    let caller = verdict.caller.map(|caller| match caller {
        Caller::Named(index) => policy.callers[index].clone(),
        caller => format!("{caller:?}"),
    });
    let Verdict {
        decision,
        direction,
        evidence,
        component,
        tags,
        ..
    } = *verdict;
    let dry_run = verdict
        .dry_run
        .map(|would| (would.decision, label(would.reason)));
    let reason = label(verdict.reason);
    let authority = verdict.authority.clone();
    (
        decision, reason, direction, evidence, component, authority, dry_run, tags, caller,
    )
}

#[test]
fn every_vector_is_decided_alike() {
    let mut decided = 0;
    for vectors in Vectors::all() {
        let document = serde_json::to_value(&vectors.document).unwrap();
        for case in &vectors.cases {
            let gateway = case.gateway(&vectors.policy).unwrap();
            let pair = Pair::at(&document, &document, case.at, Subject::Request, gateway);
            decided += usize::from(pair.compare(&case.name, |policy| case.decide(policy)));
        }
    }
    let connections = Connections::with_port(meridian_vectors::connections::PORT);
    let document = serde_json::to_value(&connections.document).unwrap();
    for vantage in GATEWAYS {
        let pair = Pair::new(&document, vantage, Subject::Connection);
        for case in &connections.cases {
            let ask = |policy: &Policy| {
                Some(case.ask(|request| policy.decide(vantage, Subject::Connection, request)))
            };
            decided += usize::from(pair.compare(&case.name, ask));
        }
    }
    assert!(decided > 900, "{decided}");
}

#[test]
fn random_policies_decide_alike() {
    for seed in 0..300 {
        for vantage in Vantage::ALL {
            let mut dice = Seeded(seed);
            let rules = dice.below(20);
            let plain = PlainPolicy::roll(&mut dice, *vantage, rules);
            let document = plain.document(&mut dice);
            let pair = Pair::new(&document, *vantage, Subject::Request);
            let name = format!("seed {seed}");
            for _ in 0..20 {
                let request = plain.request(&mut dice);
                assert!(pair.compare(&name, |policy| Some(decide(policy, *vantage, &request))));
            }
            let pair = Pair::new(&document, *vantage, Subject::Connection);
            for _ in 0..20 {
                let connection = plain.connection(&mut dice);
                let ask = |policy: &Policy| Some(decide_connection(policy, *vantage, &connection));
                assert!(pair.compare(&name, ask));
            }
        }
    }
}

/// The rules of other gateways are as if they were not written.
#[test]
fn a_gateway_decides_by_its_own_rules() {
    let mut limited = 0;
    for seed in 0..200 {
        for vantage in [Vantage::Ingress, Vantage::Egress] {
            let mut dice = Seeded(seed);
            let rules = 1 + dice.below(20);
            let plain = PlainPolicy::roll(&mut dice, vantage, rules);
            let mut here = plain.document(&mut dice);
            let gateways = &mut here["mesh"]["gateways"][vantage.as_str()];
            let gateway =
                |name: &str| json!({"name": name, "principal": format!("td/ns/{name}/sa/{name}")});
            *gateways = json!([gateway("one"), gateway("two")]);
            let mut document = here.clone();
            let written = document["hosts"][vantage.as_str()]["rules"].as_array_mut();
            let mut kept = Vec::new();
            for rule in written.unwrap() {
                match dice.below(4) {
                    0 => rule["gateways"] = json!(["one"]),
                    1 => rule["gateways"] = json!(["two", "one"]),
                    2 => {
                        rule["gateways"] = json!(["two"]);
                        limited += 1;
                        continue;
                    }
                    _ => {}
                }
                let mut rule = rule.clone();
                rule.as_object_mut().unwrap().remove("gateways");
                kept.push(rule);
            }
            here["hosts"][vantage.as_str()]["rules"] = json!(kept);
            let pair = Pair::at(&document, &here, vantage, Subject::Request, Some("one"));
            for _ in 0..20 {
                let request = plain.request(&mut dice);
                let ask = |policy: &Policy| Some(decide(policy, vantage, &request));
                assert!(pair.compare(&format!("seed {seed}"), ask));
            }
        }
    }
    assert!(limited > 500, "{limited}");
}
