//! Which gateway a request or connection is decided at, where the rules tell gateways apart.
//!
//! For people who ask; a filter has the rules of its own gateway.

use std::fmt;

use crate::{Gateway, Policy, Vantage};

/// A request or connection for which it is not known whose rules hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayError<'p> {
    /// The vantage point is a sidecar.
    Sidecar(Vantage),
    /// No gateway of the vantage point has the name.
    Unknown {
        /// The vantage point.
        vantage: Vantage,
        /// The names that gateways of the vantage point have.
        known: Vec<&'p str>,
    },
    /// Rules of the vantage point name gateways, and there are several.
    Missing {
        /// The vantage point.
        vantage: Vantage,
        /// The names that gateways of the vantage point have.
        known: Vec<&'p str>,
    },
}

impl fmt::Display for GatewayError<'_> {
    /// What is wrong and what to write instead, to stand behind the name of an option or a field.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sidecar(vantage) => write!(
                f,
                "is of ingress and egress, and at {vantage} stands a sidecar; leave it out"
            ),
            Self::Unknown { vantage, known } if known.is_empty() => write!(
                f,
                "is the name of no {vantage} gateway; give one in mesh.gateways.{vantage} this `name`, or leave it out"
            ),
            Self::Unknown { vantage, known } => write!(
                f,
                "is the name of no {vantage} gateway; write one of {}",
                known.join(", ")
            ),
            Self::Missing { vantage, known } => write!(
                f,
                "is missing, and rules of hosts.{vantage} name gateways; write one of {}",
                known.join(", ")
            ),
        }
    }
}

impl std::error::Error for GatewayError<'_> {}

impl Policy {
    /// The name of the gateway that requests and connections of a vantage point are decided at: the
    /// one that is `given`, else, where rules name gateways, the only one that runs a filter. `None`
    /// where it makes no difference.
    ///
    /// # Errors
    /// If there is no such gateway, or if it makes a difference and there are several.
    pub fn gateway(
        &self,
        vantage: Vantage,
        given: Option<&str>,
    ) -> Result<Option<&str>, GatewayError<'_>> {
        let Some(name) = given else {
            return self.only_gateway(vantage);
        };
        if !vantage.is_gateway() {
            return Err(GatewayError::Sidecar(vantage));
        }
        let gateways = self.mesh.gateways(vantage).iter();
        let known = || gateways.clone().filter_map(|one| one.name.as_deref());
        let unknown = || GatewayError::Unknown {
            vantage,
            known: known().collect(),
        };
        let gateway = known().find(|known| *known == name);
        gateway.map(Some).ok_or_else(unknown)
    }

    /// The name of the first gateway of a vantage point that has one and runs a filter: the one to
    /// take where there can be but one.
    pub fn first_gateway(&self, vantage: Vantage) -> Option<&str> {
        let mut gateways = self.with_filter(vantage);
        gateways.find_map(|gateway| gateway.name.as_deref())
    }

    fn only_gateway(&self, vantage: Vantage) -> Result<Option<&str>, GatewayError<'_>> {
        let rules = &self.section(vantage).rules;
        if rules.iter().all(|rule| rule.gateways.is_empty()) {
            return Ok(None);
        }
        let mut gateways = self.with_filter(vantage);
        match (gateways.next(), gateways.next()) {
            (Some(only), None) => Ok(only.name.as_deref()),
            _ => Err(GatewayError::Missing {
                vantage,
                known: self
                    .with_filter(vantage)
                    .filter_map(|gateway| gateway.name.as_deref())
                    .collect(),
            }),
        }
    }

    /// The gateways of a vantage point that run a filter, as far as the policy says which do.
    fn with_filter(&self, vantage: Vantage) -> impl Iterator<Item = &Gateway> {
        let gateways = self.mesh.gateways(vantage).iter();
        let tells = gateways.clone().any(|gateway| gateway.filtered);
        gateways.filter(move |gateway| gateway.filtered || !tells)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Document;

    fn policy(gateways: &str, rule: &str) -> Policy {
        let json = format!(
            r#"{{"mesh": {{"gateways": {{"ingress": [{gateways}]}}}}, "hosts": {{"ingress": {{"rules": [
                {{"name": "a", "hosts": ["a.example"], "action": "allow"{rule}}}]}}}}}}"#
        );
        Policy::from_document(&Document::from_json(json.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn the_only_gateway_need_not_be_named_and_of_several_one_must() {
        let public = r#"{"name": "public", "principal": "a/ns/b/sa/c"}"#;
        let both = format!(r#"{public}, {{"name": "internal", "principal": "a/ns/b/sa/d"}}"#);
        let with_nameless = format!(r#"{public}, {{"principal": "a/ns/b/sa/d"}}"#);
        let with_unfiltered = with_nameless.replacen("{", r#"{"filtered": true, "#, 1);
        let limited = r#", "gateways": ["public"]"#;
        let missing = |known| {
            Err(GatewayError::Missing {
                vantage: Vantage::Ingress,
                known,
            })
        };
        for (gateways, rule, expected) in [
            (public, limited, Ok(Some("public"))),
            (public, "", Ok(None)),
            (&both, "", Ok(None)),
            (&both, limited, missing(vec!["public", "internal"])),
            // Its rules would be other ones.
            (&with_nameless, limited, missing(vec!["public"])),
            // NGINX, say, where no rule holds.
            (&with_unfiltered, limited, Ok(Some("public"))),
        ] {
            let policy = policy(gateways, rule);
            assert_eq!(policy.gateway(Vantage::Ingress, None), expected);
            // It makes no difference at other vantage points.
            assert_eq!(policy.gateway(Vantage::Egress, None), Ok(None));
        }
    }

    #[test]
    fn a_gateway_that_is_not_there_is_told_with_those_that_are() {
        let policy = policy(r#"{"name": "public", "principal": "a/ns/b/sa/c"}"#, "");
        assert_eq!(
            policy.gateway(Vantage::Ingress, Some("public")),
            Ok(Some("public"))
        );
        for (vantage, expected) in [
            (
                Vantage::Ingress,
                "is the name of no ingress gateway; write one of public",
            ),
            (
                Vantage::Egress,
                "is the name of no egress gateway; give one in mesh.gateways.egress this `name`, or leave it out",
            ),
            (
                Vantage::Inbound,
                "is of ingress and egress, and at inbound stands a sidecar; leave it out",
            ),
        ] {
            let error = policy.gateway(vantage, Some("exit")).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
