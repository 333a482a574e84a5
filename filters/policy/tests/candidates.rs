//! Over all cases: the candidates of a request tell of the same decision as the decision itself.

#![cfg(not(target_arch = "wasm32"))]

use meridian_policy::{Reason, Standing, Subject};
use meridian_vectors::{Connections, Vectors, connections};

#[test]
fn the_winner_and_the_dry_run_are_the_decision_s_for_every_request() {
    let (mut by_rule, mut by_dry_run) = (0, 0);
    for vectors in Vectors::all() {
        for case in &vectors.cases {
            let name = &case.name;
            let (Some(verdict), Some(candidates)) = (
                case.decide(&vectors.policy),
                case.ask(&vectors.policy, |request| {
                    vectors
                        .policy
                        .candidates(case.at, Subject::Request, request)
                }),
            ) else {
                continue;
            };
            let of = |wanted: fn(&Standing) -> bool| -> Vec<usize> {
                let chosen = candidates.iter().filter(|one| wanted(&one.standing));
                chosen.map(|one| one.rule).collect()
            };
            let wins = of(|standing| *standing == Standing::Wins);
            let noted = of(|standing| *standing == Standing::DryRun { noted: true });
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

#[test]
fn the_winner_is_the_decision_s_rule_for_every_connection() {
    let connections = Connections::with_port(connections::PORT);
    let mut by_rule = 0;
    for case in &connections.cases {
        for at in connections::GATEWAYS {
            let name = &case.name;
            let policy = &connections.policy;
            let verdict = case.ask(|request| policy.decide(at, Subject::Connection, request));
            let candidates =
                case.ask(|request| policy.candidates(at, Subject::Connection, request));
            let wins = candidates
                .iter()
                .filter(|one| one.standing == Standing::Wins)
                .map(|one| one.rule);
            let wins: Vec<usize> = wins.collect();
            match verdict.reason {
                Reason::Rule(rule) => {
                    by_rule += 1;
                    assert_eq!(wins, [rule], "{name}");
                }
                _ => assert_eq!(wins, [0; 0], "{name}"),
            }
        }
    }
    assert!(by_rule > 60, "{by_rule}");
}
