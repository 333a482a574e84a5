//! What a decision allocates, natively, where the allocator can be asked: nothing beside the buffers
//! in which the evidence arrives.

use std::net::IpAddr;

use allocation_counter::measure;
use meridian_policy::{Policy, Principal, Request, Subject, Vantage};

use crate::policies::{SMALL, sample, with_hosts};

const OUTSIDE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

fn request(authority: &str) -> Request<'_> {
    Request {
        source: Some(OUTSIDE),
        ..Request::new(authority.as_bytes())
    }
}

/// One for the authority, which becomes the canonical host, and one for each of SNI, peer and cluster
/// that the decision asks for.
#[test]
fn a_decision_allocates_only_what_its_evidence_arrives_in() {
    let peer = Principal::parse("spiffe://cluster.local/ns/shop/sa/shop");
    let meshed = |authority| Request {
        peer: peer.clone(),
        ..request(authority)
    };
    let with_sni = |authority, sni: &'static str| Request {
        sni: Some(sni.as_bytes()),
        tls: true,
        ..request(authority)
    };
    let routed = |authority, cluster| Request {
        cluster: Some(cluster),
        ..request(authority)
    };
    let sample = sample();
    let many = with_hosts(10_000);
    for (policy, vantage, mut request, expected) in [
        (SMALL, Vantage::Ingress, request("shop.example.com"), 1),
        (SMALL, Vantage::Ingress, request("Shop.Example.com:443"), 1),
        (SMALL, Vantage::Ingress, request("evil.example.com"), 1),
        (SMALL, Vantage::Ingress, request("trial.example.com"), 1),
        (SMALL, Vantage::Ingress, request("a.example,b.example"), 1),
        (
            SMALL,
            Vantage::Ingress,
            with_sni("shop.example.com", "shop.example.com"),
            2,
        ),
        (
            SMALL,
            Vantage::Ingress,
            with_sni("shop.example.com", "other.example.com"),
            2,
        ),
        (SMALL, Vantage::Ingress, meshed("shop.example.com"), 2),
        (SMALL, Vantage::Egress, meshed("api.partner.example"), 2),
        (SMALL, Vantage::Inbound, meshed("shop.shop"), 2),
        (
            SMALL,
            Vantage::Outbound,
            routed("cart.shop", "outbound|80||cart.shop"),
            2,
        ),
        (
            &*sample,
            Vantage::Ingress,
            request("admin.apps.example.com"),
            1,
        ),
        (&*many, Vantage::Ingress, request("h7.fill.example"), 1),
    ] {
        let policy = Policy::from_json(policy.as_bytes()).unwrap();
        let counted = measure(|| drop(policy.decide(vantage, Subject::Request, &mut request)));
        let authority = String::from_utf8_lossy(request.authority);
        assert_eq!(counted.count_total, expected, "{vantage:?} {authority}");
        // Nor does the policy keep anything.
        assert_eq!(counted.count_current, 0, "{vantage:?} {authority}");
    }
}
