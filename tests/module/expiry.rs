//! Rules that expire: the clock is read on a tick, never in a request.

use crate::host::{Action, Answers, Host};

const POLICY: &str = r#"{"hosts": {"ingress": {"rules": [
    {"name": "sale", "hosts": ["sale.example.com"], "action": "allow", "expires": "2026-11-30"},
    {"name": "freeze", "hosts": ["frozen.example.com"], "action": "deny", "expires": "2026-11-30"},
    {"name": "all", "hosts": ["*.example.com"], "action": "allow", "notHosts": ["sale.example.com"]}
]}}}"#;

/// The last second of the last day, in UTC.
const LAST_SECOND: u64 = 1_796_083_199;

fn passes(host: &mut Host, authority: &str) -> bool {
    let seen = host.request(&Answers::request(authority));
    assert!(
        !seen.calls.contains(&"clock".to_owned()),
        "{:?}",
        seen.calls
    );
    seen.action == Action::Continue
}

#[test]
fn a_day_turns_over_at_a_tick_past_midnight_utc() {
    let mut host = Host::start("ingress");
    host.world_mut().seconds = LAST_SECOND;
    assert!(host.configure(POLICY));
    assert_eq!(host.world().tick, Some(60_000));
    let asks = |host: &mut Host| {
        [
            passes(host, "sale.example.com"),
            passes(host, "frozen.example.com"),
        ]
    };
    assert_eq!(asks(&mut host), [true, false]);
    host.tick();
    assert_eq!(host.world().calls, ["clock"]);
    assert_eq!(asks(&mut host), [true, false]);

    host.world_mut().seconds += 1;
    assert_eq!(asks(&mut host), [true, false], "until the tick");
    host.tick();
    assert_eq!(asks(&mut host), [false, true]);
}

#[test]
fn without_the_time_a_rule_neither_allows_nor_stops_denying() {
    let mut host = Host::start("ingress");
    host.world_mut().seconds = LAST_SECOND;
    assert!(host.configure(POLICY));
    host.world_mut().refused = Some("proxy_get_current_time_nanoseconds");
    host.tick();
    assert_eq!(
        host.world().calls[1],
        "log the time is not known: the host answered 10"
    );
    assert!(!passes(&mut host, "sale.example.com"));
    assert!(!passes(&mut host, "frozen.example.com"));
}

#[test]
fn a_policy_without_an_expiry_never_reads_the_clock() {
    let host = Host::with_policy("ingress", r#"{"hosts": {"ingress": {"default": "allow"}}}"#);
    assert_eq!(host.world().tick, None);
    assert!(!host.world().calls.contains(&"clock".to_owned()));
}
