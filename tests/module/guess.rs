//! Whether a request came over TLS is guessed from the one before. A guess may cost a question, and must
//! never change an answer.

use crate::budgets::{mtls, plaintext, tls};
use crate::host::{Answers, Host, Seen};
use crate::policies::SMALL;

const SHOP: &str = "spiffe://cluster.local/ns/shop/sa/shop";

fn requests() -> Vec<Answers> {
    vec![
        plaintext("shop.example.com"),
        plaintext("evil.example.com"),
        plaintext("a.example,b.example"),
        tls("shop.example.com", "shop.example.com"),
        tls("shop.example.com", "other.example.com"),
        tls("shop.example.com", ""),
        mtls("shop.example.com", SHOP),
        mtls("shop.example.com", "spiffe://elsewhere/ns/shop/sa/shop"),
    ]
}

/// What a client and an operator can tell of it.
fn visible(seen: &Seen) -> String {
    let done: Vec<&String> = seen
        .calls
        .iter()
        .filter(|call| !call.starts_with("property ") && !call.starts_with("header "))
        .collect();
    format!("{:?} {:?} {done:?}", seen.action, seen.reply)
}

#[test]
fn the_request_before_changes_no_decision() {
    // A policy whose rules ask for the port too, which is another question about TLS.
    let by_port = SMALL.replace(
        r#""hosts": ["shop.example.com"], "action": "allow""#,
        r#""hosts": ["shop.example.com"], "action": "allow", "ports": [443]"#,
    );
    assert_ne!(by_port, SMALL);
    for policy in [SMALL, &by_port] {
        let mut alone = Vec::new();
        for request in requests() {
            alone.push(visible(
                &Host::with_policy("ingress", policy).request(&request),
            ));
        }
        assert!(alone.iter().any(|seen| seen.contains("sni_mismatch")));
        assert!(alone.iter().any(|seen| seen.contains("east-west")));
        let mut host = Host::with_policy("ingress", policy);
        // Each after each, also after two of a kind.
        for first in 0..alone.len() {
            for second in 0..alone.len() {
                for which in [first, first, second] {
                    let seen = host.request(&requests()[which]);
                    assert_eq!(visible(&seen), alone[which], "{which} after {first}");
                }
            }
        }
    }
}

#[test]
fn a_wrong_guess_of_tls_costs_one_host_call() {
    let mut host = Host::with_policy("ingress", SMALL);
    let plain = || plaintext("shop.example.com");
    let secure = || tls("shop.example.com", "shop.example.com");
    // Beside authority, source, counter and tag: what is asked about TLS.
    let mut asked = |request: Answers| host.request(&request).calls.len() - 4;
    assert_eq!(asked(plain()), 2, "nothing is known yet");
    assert_eq!(asked(plain()), 1, "no TLS, as before");
    assert_eq!(asked(plain()), 1, "no TLS, as before");
    assert_eq!(asked(secure()), 3, "a wrong guess");
    assert_eq!(asked(secure()), 2, "TLS, as before");
    assert_eq!(asked(secure()), 2, "TLS, as before");
    assert_eq!(asked(plain()), 2, "a wrong guess");
    assert_eq!(asked(plain()), 1, "no TLS, as before");
}
