//! Several plugins in one VM: the host puts those of one `vm_id` and module together, and both the old
//! and the new one while a policy is exchanged.

use crate::budgets::{plaintext, tls};
use crate::host::{Action, Host, ROOT};
use crate::policies::PLAIN;

/// [`PLAIN`] for another host.
fn for_orders() -> String {
    PLAIN.replace("shop", "orders")
}

#[test]
fn each_request_is_decided_by_its_own_plugin() {
    let mut host = Host::start("ingress");
    assert!(host.configure(PLAIN));
    let old = host.open(ROOT);
    let new_root = host.add_plugin("ingress", &for_orders());
    let (new, old_too) = (host.open(new_root), host.open(ROOT));
    for (context, allowed, refused) in [
        (new, "orders.example.com", "shop.example.com"),
        (old, "shop.example.com", "orders.example.com"),
        (old_too, "shop.example.com", "orders.example.com"),
        (new, "orders.example.com", "shop.example.com"),
    ] {
        assert_eq!(host.headers(context, &plaintext(refused)), Action::Pause);
        assert_eq!(host.headers(context, &plaintext(allowed)), Action::Continue);
    }
    // The old one goes with its last request.
    host.close(old);
    host.close(old_too);
    host.close(ROOT);
    assert_eq!(
        host.headers(new, &plaintext("orders.example.com")),
        Action::Continue
    );
    host.close(new);
    let after = host.open(new_root);
    assert_eq!(
        host.headers(after, &plaintext("shop.example.com")),
        Action::Pause
    );
    host.close(after);
    host.close(new_root);
}

#[test]
fn http_and_network_filters_share_a_vm() {
    let mut host = Host::start("ingress");
    assert!(host.configure(PLAIN));
    let network = host.add_plugin("ingress.tcp", &for_orders());
    let (request, connection) = (host.open(ROOT), host.open(network));
    let orders = tls("", "orders.example.com");
    assert_eq!(host.connected(connection, &orders), Action::Continue);
    assert_eq!(
        host.headers(request, &plaintext("shop.example.com")),
        Action::Continue
    );
    host.close(connection);
    host.close(request);
    // Attached as what they are not, both refuse, and leave the other one alive.
    let (request, connection) = (host.open(network), host.open(ROOT));
    assert_eq!(
        host.headers(request, &plaintext("orders.example.com")),
        Action::Pause
    );
    assert_eq!(
        host.world().reply.as_ref().map(|reply| reply.status),
        Some(503)
    );
    assert_eq!(
        host.connected(connection, &tls("", "shop.example.com")),
        Action::Pause
    );
    assert!(host.world().closed);
    host.close(request);
    host.close(connection);
    let request = host.open(ROOT);
    assert_eq!(
        host.headers(request, &plaintext("shop.example.com")),
        Action::Continue
    );
}

/// Tunnels that stay open make other requests no dearer.
#[test]
fn a_request_costs_the_same_beside_thousands_that_are_open() {
    let mut host = Host::with_policy("ingress", PLAIN);
    let alone = (0..3).map(|_| host.request(&plaintext("shop.example.com")).instructions);
    let alone = alone.last().unwrap();
    for _ in 0..3000 {
        host.open(ROOT);
    }
    // So many that their contexts have every remainder by the size of the map.
    for _ in 0..9000 {
        let beside = host.request(&plaintext("shop.example.com")).instructions;
        assert!(
            beside <= alone + alone / 10,
            "{beside} instructions, {alone} alone"
        );
    }
}

/// Without memory for what the host answers the module traps, and the host refuses: evidence that
/// seems not to be there could let a request pass.
#[test]
fn an_allocation_that_does_not_fit_traps() {
    let mut host = Host::with_policy("inbound", PLAIN);
    host.limit_memory();
    let mut last = 0;
    let count = (0..1000).take_while(|_| {
        let buffer = host.allocate(4096);
        last = buffer.unwrap_or(last);
        assert_ne!(buffer, Some(0));
        buffer.is_some()
    });
    assert!(count.count() < 1000 && last > 0);
}

/// Contexts that are open at once, in the order of no list.
#[test]
fn thousands_of_requests_are_open_at_once() {
    let mut host = Host::with_policy("ingress", PLAIN);
    let mut open: Vec<u32> = (0..3000).map(|_| host.open(ROOT)).collect();
    while let Some(context) = open.pop() {
        assert_eq!(
            host.headers(context, &plaintext("shop.example.com")),
            Action::Continue
        );
        host.close(context);
        if open.len().is_multiple_of(3) && !open.is_empty() {
            let first = open.remove(0);
            assert_eq!(
                host.headers(first, &plaintext("x.example.com")),
                Action::Pause
            );
            host.close(first);
        }
    }
    // A context that nobody opened is not let through.
    assert_eq!(
        host.headers(1_000_000, &plaintext("shop.example.com")),
        Action::Pause
    );
}
