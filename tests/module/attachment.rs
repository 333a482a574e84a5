//! A module where it does not belong, and a plugin attached as the other kind of filter.

use crate::budgets::{plaintext, tls};
use crate::host::{Action, Answers, Host, ROOT};
use crate::policies::{PLAIN, sample};

/// A VM at this node, before it has a policy.
fn at_node(root_id: &str, node: &str) -> Host {
    let mut host = Host::start(root_id);
    let world = host.world_mut();
    for answers in [&mut world.own, &mut world.answers] {
        answers.property("xds.node.id", node);
    }
    host
}

/// The lines of the log so far that have the words.
fn logged<'h>(host: &'h Host, words: &str) -> Vec<&'h String> {
    let calls = host.world().calls.iter();
    calls
        .filter(|call| call.starts_with("log") && call.contains(words))
        .collect()
}

fn forged() -> Answers {
    let mut request = plaintext("evil.example.com");
    request
        .header("x-traffic-direction", "east-west")
        .trailer("x-traffic-direction", "east-west");
    request
}

/// The gateway's own filter has decided and tagged: nothing is asked, written, counted or refused.
#[test]
fn a_plugin_that_abstains_asks_the_host_for_nothing() {
    for (root_id, node, module, reporters) in [
        (
            "",
            "router~10.0.0.1~a.edge~b",
            "a sidecar's module, and the node is a gateway",
            &["inbound", "outbound"][..],
        ),
        (
            "outbound",
            "waypoint~10.0.0.1~a.edge~b",
            "a sidecar's module, and the node is a gateway",
            &["outbound"],
        ),
        (
            "ingress",
            "sidecar~10.0.0.1~a.shop~b",
            "a gateway's module, and the node is a sidecar",
            &["ingress"],
        ),
    ] {
        let mut host = at_node(root_id, node);
        assert!(host.configure(&sample()), "{root_id:?}");
        assert_eq!(logged(&host, module).len(), 1, "{:?}", host.world().calls);
        for reporter in reporters {
            let stat = format!("reporter=.={reporter};.;meridian_plugin_abstains");
            assert_eq!(host.world().total(&[&stat]), 1, "{reporter}");
        }
        // Said once a VM.
        assert!(host.configure(&sample()), "{root_id:?}");
        assert_eq!(logged(&host, "abstains").len(), 0);
        let seen = host.request(&forged());
        assert_eq!(seen.action, Action::Continue, "{root_id:?}");
        assert_eq!(seen.calls, [""; 0], "{root_id:?}");
        assert_eq!(seen.sent.values("x-traffic-direction"), ["east-west"]);
        assert_eq!(seen.sent.trailers.len(), 1);
        let after = host.request(&forged()).instructions;
        assert!(after < 2_500, "{after} instructions");
    }
    let mut host = at_node("egress.tcp", "sidecar~10.0.0.1~a.shop~b");
    assert!(host.configure(&sample()));
    let seen = host.connection(&tls("", "tracker.example"));
    assert_eq!((seen.action, seen.closed), (Action::Continue, false));
    assert_eq!(seen.calls, [""; 0]);
}

#[test]
fn where_it_belongs_a_plugin_decides_and_has_no_gauge_of_abstention() {
    for (root_id, node) in [
        ("ingress", "router~10.0.0.1~a.edge~b"),
        ("ingress", "waypoint~10.0.0.1~a.edge~b"),
        ("outbound", "sidecar~10.0.0.1~a.shop~b"),
        ("outbound", "router-1"),
    ] {
        let mut host = at_node(root_id, node);
        assert!(host.configure(PLAIN), "{root_id}");
        let mut stats = host.world().stats.iter();
        assert!(
            !stats.any(|stat| stat.name.contains("meridian_plugin_abstains")),
            "{root_id}"
        );
        let seen = host.request(&plaintext("evil.example.com"));
        assert!(!seen.calls.is_empty(), "{root_id} at {node}");
    }
}

/// The host tells no plugin at its configuration which kind of filter it is: the first request or
/// connection does.
#[test]
fn the_other_kind_of_filter_refuses_and_says_once_what_to_write() {
    let mut host = Host::with_policy("egress", PLAIN);
    let write = "write egress.tcp";
    let seen = host.connection(&tls("", "api.example.com"));
    assert_eq!((seen.action, seen.closed), (Action::Pause, true));
    let told = seen.calls.iter().filter(|call| call.contains(write));
    assert_eq!(told.count(), 1, "{:?}", seen.calls);
    let seen = host.connection(&tls("", "api.example.com"));
    assert_eq!((seen.action, seen.closed), (Action::Pause, true));
    assert!(!seen.calls.iter().any(|call| call.contains(write)));

    let mut host = Host::with_policy("ingress.tcp", PLAIN);
    let context = host.open(ROOT);
    let allowed = plaintext("shop.example.com");
    assert_eq!(host.headers(context, &allowed), Action::Pause);
    let told = "is that of a network filter, and this is an HTTP filter";
    assert_eq!(logged(&host, told).len(), 1, "{:?}", host.world().calls);
    assert_eq!(host.headers(context, &allowed), Action::Pause);
    assert_eq!(logged(&host, told).len(), 0);

    let mut host = Host::with_policy("outbound", PLAIN);
    let seen = host.connection(&tls("", "api.example.com"));
    assert_eq!((seen.action, seen.closed), (Action::Pause, true));
    let told = "a module for sidecars is an HTTP filter";
    assert!(seen.calls.iter().any(|call| call.contains(told)));
}

#[test]
fn a_root_id_of_another_module_is_refused() {
    for (root_id, module) in [("inbound", "ingress"), ("ingress", "outbound")] {
        let mut host = Host::start(module);
        let world = host.world_mut();
        for answers in [&mut world.own, &mut world.answers] {
            answers.property("plugin_root_id", root_id);
        }
        assert!(!host.configure(PLAIN), "{root_id}");
        let told = "the plugin's root id is one of another module";
        assert_eq!(logged(&host, told).len(), 1, "{:?}", host.world().calls);
    }
}
