//! How plain values are written in a policy or a request, in one of the ways that mean the same.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::world::{
    Dice, PlainCluster, PlainHost, PlainHosts, PlainPattern, PlainPolicy, PlainRule, is_whole,
};

impl PlainPolicy {
    /// The document, its hosts in any of their spellings.
    pub fn document(&self, dice: &mut impl Dice) -> Value {
        let word = |allow: bool| if allow { "allow" } else { "deny" };
        let rules: Vec<Value> = self.rules.iter().map(|rule| rule.document(dice)).collect();
        let mut section = json!({"default": word(self.allow_by_default), "rules": rules});
        if self.dry_run {
            section["mode"] = json!("dryRun");
        }
        let ingress: Vec<Value> = self
            .ingress_gateways
            .iter()
            .map(|(principal, filtered)| json!({"principal": principal, "filtered": filtered}))
            .collect();
        let egress: Vec<Value> = self
            .egress_gateway
            .iter()
            .map(|(principal, _)| json!({"principal": principal}))
            .collect();
        json!({
            "mesh": {
                "trustDomains": self.trust_domains,
                "cidrs": networks(&self.cidrs),
                "hosts": spelled(&self.mesh_hosts, dice),
                "namespaces": self.namespaces,
                "gateways": {"ingress": ingress, "egress": egress},
            },
            "components": {"system": {
                "namespaces": self.system_namespaces,
                "hosts": spelled(&self.system_hosts, dice),
            }},
            "hosts": {self.vantage.as_str(): section},
            "sni": {"mismatch": self.sni, "missing": self.sni_missing},
        })
    }
}

impl PlainRule {
    fn document(&self, dice: &mut impl Dice) -> Value {
        let mut rule = Map::new();
        let mut set = |field: &str, value: Value| rule.insert(field.to_owned(), value);
        set("name", json!(self.name));
        set("hosts", spelled(&self.hosts, dice));
        set("action", json!(if self.allow { "allow" } else { "deny" }));
        if !self.ports.is_empty() {
            set("ports", json!(self.ports));
        }
        if !self.not_hosts.is_empty() {
            set("notHosts", spelled(&self.not_hosts, dice));
        }
        if !self.directions.is_empty() {
            set(
                "directions",
                self.directions
                    .iter()
                    .map(|direction| direction.as_str())
                    .collect(),
            );
        }
        if self.dry_run {
            set("dryRun", json!(true));
        }
        if let Some(last) = self.expires {
            set("expires", json!(last));
        }
        if let Some(from) = &self.from {
            let mut fields = Map::new();
            for (field, patterns) in [
                ("principals", &from.principals),
                ("notPrincipals", &from.not_principals),
                ("namespaces", &from.namespaces),
                ("notNamespaces", &from.not_namespaces),
            ] {
                if let Some(patterns) = patterns {
                    fields.insert(field.to_owned(), json!(patterns));
                }
            }
            for (field, cidrs) in [("cidrs", &from.cidrs), ("notCidrs", &from.not_cidrs)] {
                if let Some(cidrs) = cidrs {
                    fields.insert(field.to_owned(), networks(cidrs));
                }
            }
            set("from", Value::Object(fields));
        }
        Value::Object(rule)
    }
}

fn networks(networks: &[(IpAddr, u8)]) -> Value {
    networks
        .iter()
        .map(|(address, prefix)| format!("{address}/{prefix}"))
        .collect()
}

fn spelled(hosts: &[PlainHosts], dice: &mut impl Dice) -> Value {
    hosts.iter().map(|hosts| hosts.spell(dice)).collect()
}

impl PlainHosts {
    fn spell(&self, dice: &mut impl Dice) -> String {
        let mut text = match &self.pattern {
            PlainPattern::Any => "*".to_owned(),
            PlainPattern::Exact(name) => PlainHost::Name(name.clone()).spell(dice),
            PlainPattern::Below(name) => {
                format!("*.{}", PlainHost::Name(name.clone()).spell(dice))
            }
            PlainPattern::Network(address, prefix)
                if is_whole(*address, *prefix) && (self.port.is_some() || dice.once_in(2)) =>
            {
                PlainHost::Address(*address).spell(dice)
            }
            PlainPattern::Network(address, prefix) => format!("{address}/{prefix}"),
        };
        if let Some(port) = self.port {
            text.push_str(&format!(":{port}"));
        }
        text
    }
}

impl PlainHost {
    /// One of the spellings that mean this host.
    pub fn spell(&self, dice: &mut impl Dice) -> String {
        let mut text = match self {
            Self::Name(name) => match dice.below(3) {
                0 => name.to_ascii_uppercase(),
                1 => name
                    .bytes()
                    .map(|byte| {
                        char::from(if dice.once_in(2) {
                            byte.to_ascii_uppercase()
                        } else {
                            byte
                        })
                    })
                    .collect(),
                _ => name.clone(),
            },
            Self::Address(IpAddr::V4(address)) => {
                let [a, b, c, d] = address.octets();
                let number = u32::from(*address);
                match dice.below(8) {
                    0 => format!("{number}"),
                    1 => format!("{number:#x}"),
                    2 => format!("0{number:o}"),
                    3 => format!("{a}.{}", number & 0x00ff_ffff),
                    4 => format!("{a:#x}.0{b:o}.{}", number & 0xffff),
                    5 => return format!("[::ffff:{address}]"),
                    6 => format!("0X{a:X}.{b}.{c}.0x{d:x}"),
                    _ => address.to_string(),
                }
            }
            Self::Address(IpAddr::V6(address)) => {
                let words = address.segments().map(|word| format!("{word:04X}"));
                return match dice.below(2) {
                    0 => format!("[{}]", words.join(":")),
                    _ => format!("[{address}]"),
                };
            }
        };
        if dice.once_in(4) {
            text.push('.');
        }
        text
    }
}

impl PlainCluster {
    /// Istio's name of the cluster.
    pub fn name(&self) -> String {
        match self {
            Self::Unknown => "BlackHoleCluster".to_owned(),
            Self::Passthrough => "PassthroughCluster".to_owned(),
            Self::Service(below, host, port) => {
                let host = match host {
                    PlainHost::Name(name) => name.clone(),
                    PlainHost::Address(IpAddr::V4(address)) => address.to_string(),
                    PlainHost::Address(IpAddr::V6(address)) => format!("[{address}]"),
                };
                format!("outbound|{port}||{}{host}", if *below { "*." } else { "" })
            }
        }
    }
}
