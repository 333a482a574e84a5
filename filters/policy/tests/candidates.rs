//! Over all cases: the candidates of a request tell of the same decision as the decision itself.

#![cfg(not(target_arch = "wasm32"))]

#[path = "../../../tests/vectors/cases.rs"]
mod cases;

use cases::{Case, Vectors};
use meridian_policy::{Candidate, Outcome, Policy, Principal, Reason, Request};

fn candidates(case: &Case, policy: &Policy) -> Option<Vec<Candidate>> {
    let tags: Vec<&[u8]> = case.tag.iter().map(|tag| tag.0.as_slice()).collect();
    let tag = tags.join(&b","[..]);
    let mut request = Request::new(&case.authority.as_ref()?.0);
    request.source = case.source;
    request.destination = case.destination;
    request.peer = case.principal.as_deref().and_then(Principal::parse);
    request.sni = case.sni.as_deref().map(str::as_bytes);
    request.tls = case.is_tls();
    request.cluster = case.cluster.as_deref();
    request.tag = (!tags.is_empty()).then_some(&*tag);
    request.forwarded = case
        .headers
        .keys()
        .any(|name| name.eq_ignore_ascii_case("x-forwarded-for"));
    request.namespace = Some(&case.namespace);
    Some(policy.candidates(case.at, &mut request))
}

#[test]
fn the_winner_and_the_dry_run_are_the_decision_s() {
    let (mut by_rule, mut by_dry_run) = (0, 0);
    for vectors in Vectors::all() {
        for case in &vectors.cases {
            let name = &case.name;
            let (Some(verdict), Some(candidates)) = (
                case.decide(&vectors.policy),
                candidates(case, &vectors.policy),
            ) else {
                continue;
            };
            let of = |wanted: fn(&Outcome) -> bool| -> Vec<usize> {
                let chosen = candidates.iter().filter(|one| wanted(&one.outcome));
                chosen.map(|one| one.rule).collect()
            };
            let wins = of(|outcome| *outcome == Outcome::Wins);
            let noted = of(|outcome| *outcome == Outcome::DryRun { noted: true });
            match verdict.reason {
                Reason::Rule(rule) => {
                    by_rule += 1;
                    assert_eq!(wins, [rule], "{name}");
                }
                _ => assert_eq!(wins, [0; 0], "{name}"),
            }
            match verdict.dry_run.map(|dry_run| dry_run.reason) {
                Some(Reason::Rule(rule)) => {
                    by_dry_run += 1;
                    assert_eq!(noted, [rule], "{name}");
                }
                _ => assert_eq!(noted, [0; 0], "{name}"),
            }
        }
    }
    assert!(by_rule > 100 && by_dry_run > 5, "{by_rule} {by_dry_run}");
}
