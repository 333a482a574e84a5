//! Random policies and requests as plain values, made to collide: few labels, shared suffixes,
//! nested networks, few ports. A host is made first and then spelled, so that the oracle knows it
//! without reading the spelling.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use meridian_policy::{Direction, Vantage};

/// Where choices come from: a seed, or a fuzzer's bytes.
pub trait Dice {
    /// A number below `sides`, which is at least 1.
    fn below(&mut self, sides: usize) -> usize;

    /// True in one of `n` throws.
    fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    /// One of the values.
    fn pick<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())].clone()
    }

    /// From `least` to `most` values.
    fn some<T>(
        &mut self,
        least: usize,
        most: usize,
        mut one: impl FnMut(&mut Self) -> T,
    ) -> Vec<T> {
        let count = least + self.below(most - least + 1);
        (0..count).map(|_| one(self)).collect()
    }
}

/// A reproducible sequence (SplitMix64).
pub struct Seeded(pub u64);

impl Seeded {
    /// The next number of the sequence.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Dice for Seeded {
    fn below(&mut self, sides: usize) -> usize {
        (self.next() % sides as u64) as usize
    }
}

/// A host in its canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlainHost {
    Name(String),
    Address(IpAddr),
}

/// What a pattern matches, its port apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlainPattern {
    Any,
    Exact(String),
    Below(String),
    Network(IpAddr, u8),
}

/// A pattern with its port.
#[derive(Debug, Clone)]
pub struct PlainHosts {
    pub pattern: PlainPattern,
    pub port: Option<u16>,
}

/// The condition `from`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlainFrom {
    pub principals: Option<Vec<String>>,
    pub not_principals: Option<Vec<String>>,
    pub namespaces: Option<Vec<String>>,
    pub not_namespaces: Option<Vec<String>>,
    pub cidrs: Option<Vec<(IpAddr, u8)>>,
    pub not_cidrs: Option<Vec<(IpAddr, u8)>>,
}

/// A rule.
#[derive(Debug, Clone)]
pub struct PlainRule {
    pub name: String,
    pub hosts: Vec<PlainHosts>,
    pub allow: bool,
    pub ports: Vec<u16>,
    pub not_hosts: Vec<PlainHosts>,
    pub directions: Vec<Direction>,
    pub from: Option<PlainFrom>,
    pub dry_run: bool,
    /// The last day, as it is written: such days are in the order of their text.
    pub expires: Option<&'static str>,
}

/// A policy with rules at one vantage point.
#[derive(Debug, Clone)]
pub struct PlainPolicy {
    pub vantage: Vantage,
    pub allow_by_default: bool,
    pub dry_run: bool,
    pub rules: Vec<PlainRule>,
    pub trust_domains: Vec<String>,
    pub cidrs: Vec<(IpAddr, u8)>,
    pub mesh_hosts: Vec<PlainHosts>,
    pub namespaces: Vec<String>,
    /// Identity, and whether it runs the filter.
    pub ingress_gateways: Vec<(String, bool)>,
    /// The name of the egress gateway's service; its account is named after it.
    pub egress_gateway: Option<(&'static str, &'static str)>,
    pub system_namespaces: Vec<String>,
    pub system_hosts: Vec<PlainHosts>,
    /// `deny`, `dryRun` or `ignore`.
    pub sni: &'static str,
    /// The same for TLS without a server name.
    pub sni_missing: &'static str,
}

/// The route's cluster.
#[derive(Debug, Clone)]
pub enum PlainCluster {
    Unknown,
    Passthrough,
    /// Whether the host is below the name, the name, the port.
    Service(bool, PlainHost, u16),
}

/// A request.
#[derive(Debug, Clone)]
pub struct PlainRequest {
    /// `None` is an authority that is not a host.
    pub host: Option<PlainHost>,
    pub port: Option<u16>,
    pub authority: Vec<u8>,
    pub source: Option<IpAddr>,
    pub destination: Option<IpAddr>,
    pub peer: Option<String>,
    /// The server name and its spelling; without a host it is junk.
    pub sni: Option<(Option<PlainHost>, Vec<u8>)>,
    pub tls: bool,
    pub cluster: Option<PlainCluster>,
    pub tag: Option<&'static [u8]>,
    pub forwarded: bool,
    pub namespace: Option<&'static str>,
    pub today: Option<&'static str>,
}

const LABELS: [&str; 7] = ["a", "b", "ab", "shop", "x-1", "_t", "0x1g"];
const TAILS: [&str; 8] = [
    "com",
    "example.com",
    "b.example.com",
    "ab.com",
    "local",
    "cluster.local",
    "gw.svc.cluster.local",
    "shop.svc",
];
pub const PORTS: [u16; 5] = [80, 443, 8080, 1, 65535];
pub const DAYS: [&str; 4] = ["2025-12-31", "2026-01-01", "2026-09-30", "2026-10-01"];
const NAMESPACES: [&str; 5] = ["shop", "sho", "gw", "default", "system"];
const DOMAINS: [&str; 3] = ["cluster.local", "td2", "foreign"];
const ACCOUNTS: [&str; 4] = ["cart", "out-service-account", "art", "in"];
pub const INVALID: [&[u8]; 8] = [
    b"",
    b"a.com,b.com",
    b"a..com",
    b"a@b.com",
    b"1.2.3.4.5",
    b"a.com:0",
    b"::1",
    b"a\xff.com",
];

fn name(dice: &mut impl Dice) -> String {
    if dice.once_in(50) {
        // The most labels that a name can have, or the longest labels.
        return match dice.below(3) {
            0 => vec!["a"; 127].join("."),
            1 => vec!["a"; 120].join("."),
            _ => [&"b".repeat(63), &"a".repeat(63), "com"]
                .map(|label: &str| label.to_owned())
                .join("."),
        };
    }
    let mut labels = dice.some(0, 3, |dice| dice.pick(&LABELS).to_owned());
    if labels.is_empty() || !dice.once_in(8) {
        labels.push(dice.pick(&TAILS).to_owned());
    }
    labels.join(".")
}

fn address(dice: &mut impl Dice) -> IpAddr {
    if dice.once_in(3) {
        let words = [
            0x2001,
            0xdb8,
            dice.pick(&[0, 1, 0xffff]),
            0,
            0,
            0,
            dice.pick(&[0, 1]),
            dice.pick(&[0, 1, 2, 0xffff]),
        ];
        let [a, b, c, d, e, f, g, h] = words;
        IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h))
    } else {
        let mut octet = || dice.pick(&[0, 1, 2, 127, 255]);
        let [b, c, d] = [octet(), octet(), octet()];
        IpAddr::V4(Ipv4Addr::new(dice.pick(&[10, 10, 127]), b, c, d))
    }
}

/// A network without bits behind its prefix.
fn network(dice: &mut impl Dice) -> (IpAddr, u8) {
    match address(dice) {
        IpAddr::V4(address) => {
            let prefix = dice.pick(&[0, 1, 7, 8, 9, 15, 16, 24, 31, 32]);
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            (
                IpAddr::V4(Ipv4Addr::from(u32::from(address) & mask)),
                prefix,
            )
        }
        IpAddr::V6(address) => {
            let prefix = dice.pick(&[0, 16, 32, 47, 48, 64, 127, 128]);
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            (
                IpAddr::V6(Ipv6Addr::from(u128::from(address) & mask)),
                prefix,
            )
        }
    }
}

fn host(dice: &mut impl Dice) -> PlainHost {
    if dice.once_in(4) {
        PlainHost::Address(address(dice))
    } else {
        PlainHost::Name(name(dice))
    }
}

fn hosts(dice: &mut impl Dice) -> PlainHosts {
    let pattern = match dice.below(12) {
        0..=4 => PlainPattern::Exact(name(dice)),
        5..=8 => PlainPattern::Below(name(dice)),
        9..=10 => {
            let (address, prefix) = network(dice);
            PlainPattern::Network(address, prefix)
        }
        _ => PlainPattern::Any,
    };
    let has_port = match pattern {
        PlainPattern::Network(address, prefix) => is_whole(address, prefix),
        _ => true,
    };
    PlainHosts {
        port: (has_port && dice.once_in(4)).then(|| dice.pick(&PORTS)),
        pattern,
    }
}

pub fn is_whole(address: IpAddr, prefix: u8) -> bool {
    prefix == if address.is_ipv4() { 32 } else { 128 }
}

pub fn principal(dice: &mut impl Dice) -> String {
    format!(
        "{}/ns/{}/sa/{}",
        dice.pick(&DOMAINS),
        dice.pick(&NAMESPACES),
        dice.pick(&ACCOUNTS)
    )
}

/// A pattern over `text`: whole, a beginning, an end, or anything.
fn wildcard(dice: &mut impl Dice, text: &str) -> String {
    // All texts here are ASCII.
    let cut = 1 + dice.below(text.len() - 1);
    match dice.below(6) {
        0 => "*".to_owned(),
        1 => format!("{}*", &text[..cut]),
        2 => format!("*{}", &text[cut..]),
        _ => text.to_owned(),
    }
}

fn optional<D: Dice, T>(dice: &mut D, one: impl FnMut(&mut D) -> T) -> Option<Vec<T>> {
    if dice.once_in(4) {
        Some(dice.some(1, 3, one))
    } else {
        None
    }
}

fn principals(dice: &mut impl Dice) -> String {
    let text = principal(dice);
    wildcard(dice, &text)
}

fn namespaces(dice: &mut impl Dice) -> String {
    let text = dice.pick(&NAMESPACES);
    wildcard(dice, text)
}

impl PlainRule {
    fn roll(dice: &mut impl Dice, number: usize) -> Self {
        let from = PlainFrom {
            principals: optional(dice, principals),
            not_principals: optional(dice, principals),
            namespaces: optional(dice, namespaces),
            not_namespaces: optional(dice, namespaces),
            cidrs: optional(dice, network),
            not_cidrs: optional(dice, network),
        };
        Self {
            name: format!("r{number}"),
            hosts: dice.some(1, 3, hosts),
            allow: dice.once_in(2),
            ports: optional(dice, |dice| dice.pick(&PORTS)).unwrap_or_default(),
            not_hosts: optional(dice, hosts).unwrap_or_default(),
            directions: optional(dice, |dice| dice.pick(Direction::ALL)).unwrap_or_default(),
            // An empty condition is an error.
            from: (from != PlainFrom::default() && dice.once_in(2)).then_some(from),
            dry_run: dice.once_in(6),
            expires: dice.once_in(6).then(|| dice.pick(&DAYS)),
        }
    }
}

impl PlainPolicy {
    /// A policy with so many rules at a vantage point.
    pub fn roll(dice: &mut impl Dice, vantage: Vantage, rules: usize) -> Self {
        Self {
            vantage,
            allow_by_default: dice.once_in(2),
            dry_run: dice.once_in(8),
            rules: (0..rules)
                .map(|number| PlainRule::roll(dice, number))
                .collect(),
            trust_domains: dice.some(0, 2, |dice| dice.pick(&DOMAINS).to_owned()),
            cidrs: dice.some(0, 2, network),
            mesh_hosts: dice.some(0, 2, hosts),
            namespaces: dice.some(0, 1, |dice| dice.pick(&NAMESPACES).to_owned()),
            ingress_gateways: dice.some(0, 3, |dice| (principal(dice), dice.once_in(2))),
            egress_gateway: dice.once_in(2).then_some((
                "cluster.local/ns/gw/sa/out-service-account",
                "out.gw.svc.cluster.local",
            )),
            system_namespaces: dice.some(0, 1, |dice| dice.pick(&NAMESPACES).to_owned()),
            system_hosts: dice.some(0, 2, hosts),
            sni: dice.pick(&["deny", "dryRun", "ignore"]),
            sni_missing: dice.pick(&["deny", "dryRun", "ignore", "ignore"]),
        }
    }

    /// A host that one of the rules may be about, or any.
    pub fn aimed(&self, dice: &mut impl Dice) -> PlainHost {
        let aimed = if self.rules.is_empty() || dice.once_in(3) {
            None
        } else {
            let rule = &self.rules[dice.below(self.rules.len())];
            let hosts = &rule.hosts[dice.below(rule.hosts.len())];
            match &hosts.pattern {
                PlainPattern::Any => None,
                PlainPattern::Exact(name) => Some(PlainHost::Name(name.clone())),
                PlainPattern::Below(name) => {
                    let below = format!("{}.{name}", dice.pick(&LABELS));
                    (below.len() <= 253).then_some(PlainHost::Name(below))
                }
                PlainPattern::Network(address, _) => Some(PlainHost::Address(*address)),
            }
        };
        aimed.unwrap_or_else(|| host(dice))
    }

    /// A request that one of the rules may be about.
    pub fn request(&self, dice: &mut impl Dice) -> PlainRequest {
        let host = self.aimed(dice);
        let port = dice.once_in(3).then(|| dice.pick(&PORTS));
        let mut authority = host.spell(dice);
        match port {
            Some(port) => authority.push_str(&format!(":{port}")),
            None if dice.once_in(8) => authority.push(':'),
            None => {}
        }
        let is_invalid = dice.once_in(20);
        PlainRequest {
            authority: if is_invalid {
                dice.pick(&INVALID).to_vec()
            } else {
                authority.into_bytes()
            },
            sni: match dice.below(4) {
                0 => Some((Some(host.clone()), host.spell(dice).into_bytes())),
                1 => {
                    let other = self::host(dice);
                    let spelling = other.spell(dice).into_bytes();
                    Some((Some(other), spelling))
                }
                2 => Some((None, dice.pick(&INVALID).to_vec())),
                _ => None,
            },
            host: (!is_invalid).then_some(host),
            port,
            source: (!dice.once_in(5)).then(|| mapped(dice)),
            destination: (!dice.once_in(5)).then(|| mapped(dice)),
            peer: match (dice.below(3), self.ingress_gateways.first()) {
                (0, _) => None,
                (1, Some((gateway, _))) => Some(gateway.clone()),
                _ => Some(principal(dice)),
            },
            tls: dice.once_in(2),
            cluster: match dice.below(6) {
                0 => None,
                1 => Some(PlainCluster::Unknown),
                2 => Some(PlainCluster::Passthrough),
                3 => Some(PlainCluster::Service(
                    false,
                    PlainHost::Name("out.gw.svc.cluster.local".to_owned()),
                    443,
                )),
                4 => Some(PlainCluster::Service(
                    true,
                    PlainHost::Name(dice.pick(&TAILS).to_owned()),
                    443,
                )),
                _ => Some(PlainCluster::Service(
                    false,
                    self::host(dice),
                    dice.pick(&PORTS),
                )),
            },
            tag: dice.pick(&[
                None,
                Some(&b"north-south"[..]),
                Some(b"east-west"),
                Some(b"unknown"),
                Some(b"East-West"),
                Some(b"\xff"),
            ]),
            forwarded: dice.once_in(3),
            namespace: dice.pick(&[None, Some("shop"), Some("system"), Some("gw")]),
            today: (!dice.once_in(5)).then(|| dice.pick(&DAYS)),
        }
    }
}

/// An address, an IPv4 one at times mapped into IPv6 as on a dual-stack socket.
pub fn mapped(dice: &mut impl Dice) -> IpAddr {
    match address(dice) {
        IpAddr::V4(address) if dice.once_in(4) => IpAddr::V6(address.to_ipv6_mapped()),
        address => address,
    }
}
