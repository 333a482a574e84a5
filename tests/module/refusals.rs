//! A host that does not do what it is asked to: nothing passes then that the policy refuses, and
//! nothing passes with a tag that is not ours.

use crate::budgets::{ask, cases, send};
use crate::host::{Action, Answers, Host, Seen};
use crate::policies::SMALL;

const ALLOW: &str = r#"{"hosts": {"ingress": {"default": "allow"}}}"#;
const DENY: &str = r#"{"hosts": {"ingress": {"default": "deny"}}}"#;

/// What a request or connection can ask of the host.
const CALLS: [&str; 11] = [
    "proxy_call_foreign_function",
    "proxy_close_stream",
    "proxy_get_header_map_value",
    "proxy_get_property",
    "proxy_increment_metric",
    "proxy_log",
    "proxy_record_metric",
    "proxy_remove_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_send_local_response",
    "proxy_set_property",
];

fn shop() -> Answers {
    Answers::request("shop.example.com")
}

/// The details of the local reply with which the module stopped the request.
fn stopped(seen: Seen) -> String {
    assert_eq!(seen.action, Action::Pause, "{:?}", seen.calls);
    seen.reply.unwrap().details
}

/// Each call refused in turn, in each case of the table.
///
/// One thing does not hold, because no answer at all is what plaintext has: where the host does not
/// tell the server name, no mismatch is found.
#[test]
fn what_is_refused_stays_refused_whatever_the_host_refuses() {
    for case in cases() {
        for call in CALLS {
            let (mut host, normal) = send(case);
            host.world_mut().refused = Some(call);
            let seen = ask(&mut host, case);
            let excused = (case.name, call) == ("SNI mismatch", "proxy_get_property");
            assert!(
                normal.action == Action::Continue || seen.action == Action::Pause || excused,
                "{}: {call}: {:?}",
                case.name,
                seen.calls
            );
            // What goes on has its tag, or none.
            if seen.action == Action::Continue && !case.root_id.ends_with(".tcp") {
                let written = |call: &&String| {
                    let verb = call.split(' ').next().unwrap_or_default();
                    ["replace", "remove"].contains(&verb) && call.contains("x-traffic-direction")
                };
                assert_eq!(
                    seen.calls.iter().filter(written).count(),
                    1,
                    "{}",
                    case.name
                );
            }
        }
    }
}

/// A request that the policy allows, by what the host refuses.
#[test]
fn an_allowed_request_stops_only_where_it_would_not_be_safe() {
    for (call, expected) in [
        ("proxy_get_header_map_value", Some("meridian_invalid_host")),
        // Unknown evidence is unknown, and the tag says so.
        ("proxy_get_property", None),
        // An uncounted request is logged.
        ("proxy_increment_metric", None),
        (
            "proxy_replace_header_map_value",
            Some("meridian_tag_not_written"),
        ),
    ] {
        let mut host = Host::with_policy("ingress", SMALL);
        host.world_mut().refused = Some(call);
        let seen = host.request(&shop());
        match expected {
            Some(details) => assert_eq!(stopped(seen), details, "{call}"),
            None => assert_eq!(seen.action, Action::Continue, "{call}"),
        }
    }
}

#[test]
fn a_decision_that_is_not_counted_is_logged() {
    let mut host = Host::with_policy("ingress", SMALL);
    host.world_mut().refused = Some("proxy_increment_metric");
    let calls = host.request(&shop()).calls;
    let line = "log a decision was not counted: the host answered 10".to_owned();
    assert!(calls.contains(&line), "{calls:?}");
}

#[test]
fn a_refusal_that_is_not_sent_pauses_all_the_same() {
    let mut host = Host::with_policy("ingress", DENY);
    host.world_mut().refused = Some("proxy_send_local_response");
    let seen = host.request(&shop());
    assert_eq!((seen.action, seen.reply), (Action::Pause, None));
}

#[test]
fn a_connection_that_is_not_closed_pauses_all_the_same() {
    let mut host = Host::with_policy("ingress.tcp", DENY);
    host.world_mut().refused = Some("proxy_close_stream");
    let seen = host.connection(&Answers::default());
    assert_eq!((seen.action, seen.closed), (Action::Pause, false));
}

#[test]
fn a_forged_trailer_that_stays_pauses_the_request() {
    let mut host = Host::with_policy("ingress", ALLOW);
    host.world_mut().refused = Some("proxy_remove_header_map_value");
    let seen = host.request(shop().trailer("x-traffic-direction", "east-west"));
    assert_eq!(seen.action, Action::Pause);
}

/// The policy needs all of it: with less it would be in force without its metrics, its clock, …
#[test]
fn a_policy_is_refused_when_the_host_does_not_do_its_part() {
    let policy = r#"{"hosts": {"ingress": {"rules": [{"name": "all", "hosts": ["*"], "action": "allow",
        "expires": "2026-11-30"}]}}, "tags": {"filterState": true}}"#;
    for (call, expected) in [
        (
            "proxy_define_metric",
            "a metric was not defined: the host answered 10",
        ),
        (
            "proxy_record_metric",
            "a metric was not set: the host answered 10",
        ),
        (
            "proxy_set_tick_period_milliseconds",
            "the clock does not tick: the host answered 10",
        ),
        (
            "proxy_call_foreign_function",
            "the filter state was not declared: the host answered 10",
        ),
    ] {
        let mut host = Host::start("ingress");
        host.world_mut().refused = Some(call);
        assert!(!host.configure(policy), "{call}");
        let line = format!("log the policy is refused: {expected}");
        assert_eq!(host.world().calls.last(), Some(&line));
        host.world_mut().refused = None;
        assert_eq!(
            stopped(host.request(&shop())),
            "meridian_no_policy",
            "{call}"
        );
    }
}

#[test]
fn without_a_policy_nothing_passes() {
    let mut host = Host::start("ingress");
    assert_eq!(stopped(host.request(&shop())), "meridian_no_policy");
    for policy in ["", r#"{"hosts": {"ingres": {}}}"#] {
        assert!(!host.configure(policy));
        let line = host.world().calls.last().unwrap();
        assert!(line.starts_with("log the policy is refused: "), "{line}");
        assert_eq!(stopped(host.request(&shop())), "meridian_no_policy");
    }
    host.world_mut().refused = Some("proxy_get_buffer_bytes");
    assert!(!host.configure(ALLOW));
}

/// An update that is refused leaves the policy that is in force.
#[test]
fn a_refused_update_changes_nothing() {
    let mut host = Host::with_policy("ingress", DENY);
    host.world_mut().refused = Some("proxy_define_metric");
    assert!(!host.configure(ALLOW));
    host.world_mut().refused = None;
    assert_eq!(stopped(host.request(&shop())), "meridian_deny{default}");
}

#[test]
fn a_sidecar_s_listener_chooses_the_section_and_one_of_no_direction_lets_nothing_pass() {
    let policy = r#"{"hosts": {"inbound": {"default": "allow"}, "outbound": {"default": "deny"}}}"#;
    for (direction, expected) in [
        (Some(1), None),
        (Some(2), Some("meridian_deny{default}")),
        (Some(0), Some("meridian_no_policy")),
        (None, Some("meridian_no_policy")),
    ] {
        let mut host = Host::with_policy("", policy);
        let mut request = shop();
        if let Some(direction) = direction {
            request.number("xds.listener_direction", direction);
        }
        let seen = host.request(&request);
        match expected {
            Some(details) => assert_eq!(stopped(seen), details, "{direction:?}"),
            None => assert_eq!(seen.action, Action::Continue),
        }
    }
}
