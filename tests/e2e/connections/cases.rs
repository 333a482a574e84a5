//! The connections that are tried at both gateways, and the policy that decides over them.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

pub(super) const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 9, 1, 1));
pub(super) const POD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 1, 1, 1));
/// The gateway's own address.
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 20);

/// The same rules for both gateways, so that every case runs at both.
pub(super) fn policy() -> Value {
    let section = json!({"default": "deny", "rules": [
        {"name": "api", "hosts": ["api.partner.example"], "action": "allow"},
        {"name": "inside", "hosts": ["*.svc.cluster.local"], "action": "allow"},
        {"name": "web", "hosts": ["*.web.example"], "ports": [443], "action": "allow"},
        {"name": "pods", "hosts": ["pods.example"], "from": {"cidrs": ["127.1.0.0/16"]}, "action": "allow"},
        {"name": "no-trackers", "hosts": ["tracker.example"], "action": "deny"},
        {"name": "trial", "hosts": ["trial.example"], "action": "deny", "dryRun": true},
        {"name": "tried", "hosts": ["trial.example"], "action": "allow"},
        {"name": "net", "hosts": ["127.9.0.0/24", "127.1.0.20"], "action": "allow"},
    ]});
    json!({
        "mesh": {"cidrs": ["127.1.0.0/16"]},
        "hosts": {"egress": section, "ingress": section},
    })
}

/// What a client sends first.
pub(super) enum First {
    /// A ClientHello with these bytes as its server name.
    Sni(&'static [u8]),
    /// A ClientHello without one.
    NoSni,
    /// The same as `Sni`, in pieces of this many bytes, and in TLS records of twice as many.
    Pieces(&'static [u8], usize),
    /// Something that is not TLS.
    Bytes(&'static [u8]),
}

pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) first: First,
    pub(super) source: IpAddr,
    /// What it dials.
    pub(super) dials: Ipv4Addr,
    pub(super) decision: &'static str,
    pub(super) rule: &'static str,
    /// The direction at the egress gateway; at ingress the source says.
    pub(super) direction: &'static str,
    pub(super) dry_run: Option<&'static str>,
}

/// A server name, and what is decided over it: decision, rule, and direction at egress.
const NAMES: [(&str, &[u8], &str); 20] = [
    ("allowed", b"api.partner.example", "allow api north-south"),
    ("capitals", b"API.Partner.EXAMPLE", "allow api north-south"),
    (
        "a dot behind",
        b"api.partner.example.",
        "allow api north-south",
    ),
    ("inside", b"a.b.svc.cluster.local", "allow inside east-west"),
    ("denied", b"tracker.example", "deny no-trackers north-south"),
    ("of no rule", b"other.example", "deny default north-south"),
    (
        "below",
        b"x.api.partner.example",
        "deny default north-south",
    ),
    (
        "Istio's",
        b"outbound_.80_._.api.partner.example",
        "allow api north-south",
    ),
    (
        "with subset",
        b"outbound_.80_.v1_.a.b.svc.cluster.local",
        "allow inside east-west",
    ),
    (
        "with port",
        b"outbound_.443_._.a.web.example",
        "allow web north-south",
    ),
    (
        "another port",
        b"outbound_.444_._.a.web.example",
        "deny default north-south",
    ),
    ("own port", b"a.web.example", "deny default north-south"),
    (
        "Istio's denied",
        b"outbound_.80_._.tracker.example",
        "deny no-trackers north-south",
    ),
    (
        "half Istio's",
        b"outbound_.443.api.partner.example",
        "deny invalid-host unknown",
    ),
    ("an address", b"127.9.0.10", "deny invalid-host unknown"),
    ("hexadecimal", b"0x7f09000a", "deny invalid-host unknown"),
    (
        "two dots",
        b"api..partner.example",
        "deny invalid-host unknown",
    ),
    (
        "a port",
        b"api.partner.example:443",
        "deny invalid-host unknown",
    ),
    (
        "no such byte",
        b"api.partner.example\xff",
        "deny invalid-host unknown",
    ),
    // Envoy's inspector does not hand it on.
    ("a zero", b"api.partner.example\0.x", "deny default unknown"),
];

impl Case {
    /// `expected` is decision, rule, and direction at egress.
    fn new(name: &'static str, first: First, expected: &'static str) -> Self {
        let mut words = expected.split(' ');
        let mut word = || words.next().unwrap();
        Self {
            name,
            first,
            source: OUTSIDE,
            dials: GATEWAY,
            decision: word(),
            rule: word(),
            direction: word(),
            dry_run: None,
        }
    }

    fn dials(mut self, address: [u8; 4]) -> Self {
        self.dials = address.into();
        self
    }
}

pub(super) fn cases() -> Vec<Case> {
    use First::{Bytes, NoSni, Pieces, Sni};
    const HTTP: &[u8] = b"GET / HTTP/1.1\r\nHost: api.partner.example\r\n\r\n";
    let names = NAMES.map(|(name, sni, expected)| Case::new(name, Sni(sni), expected));
    let mut cases = Vec::from(names);
    for (name, first, expected) in [
        (
            "allowed, in pieces",
            Pieces(b"api.partner.example", 5),
            "allow api north-south",
        ),
        (
            "denied, in pieces",
            Pieces(b"tracker.example", 5),
            "deny no-trackers north-south",
        ),
        ("no server name", NoSni, "deny default unknown"),
        ("plain TCP", Bytes(b"PING\r\n"), "deny default unknown"),
        ("HTTP", Bytes(HTTP), "deny default unknown"),
        (
            "another caller",
            Sni(b"pods.example"),
            "deny default north-south",
        ),
    ] {
        cases.push(Case::new(name, first, expected));
    }
    let (net, elsewhere) = ([127, 9, 0, 10], [127, 9, 7, 7]);
    for (name, first, dials, expected) in [
        (
            "TCP to an address",
            Bytes(b"PING\r\n"),
            net,
            "allow net north-south",
        ),
        ("TLS to an address", NoSni, net, "allow net north-south"),
        (
            "TCP to another",
            Bytes(b"PING\r\n"),
            elsewhere,
            "deny default north-south",
        ),
        (
            "denied there",
            Sni(b"tracker.example"),
            net,
            "deny no-trackers north-south",
        ),
    ] {
        cases.push(Case::new(name, first, expected).dials(dials));
    }
    cases.push(Case {
        dry_run: Some("deny{trial}"),
        ..Case::new(
            "a dry run",
            Sni(b"trial.example"),
            "allow tried north-south",
        )
    });
    cases.push(Case {
        source: POD,
        ..Case::new(
            "a caller of a rule",
            Sni(b"pods.example"),
            "allow pods north-south",
        )
    });
    cases
}
